"""What a store refuses or can't do ends in the one error that the table has for it, in one sentence."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from faulty_proxy import CUT, FAULTS, failing
from tests_support import is_one_sentence

from visionloop.core.errors import (
    AccessDenied,
    InvalidConfig,
    InvalidDataset,
    NotFound,
    PreconditionFailed,
    SickMachine,
    Transient,
)
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import Role

ACTIONS: dict[str, Callable[[Prefix], object]] = {
    "read": lambda store_prefix: store_prefix.read("403.png"),
    "head": lambda store_prefix: store_prefix.head("a"),
    "write": lambda store_prefix: store_prefix.write("a", b"1"),
    "create": lambda store_prefix: store_prefix.create("a", b"1"),
    "replace": lambda store_prefix: store_prefix.replace("a", b"1", '"0"'),
    "list": lambda store_prefix: list(store_prefix.objects()),
    "children": lambda store_prefix: store_prefix.children(),
    "delete": lambda store_prefix: store_prefix.delete(["a"]),
    "copy": lambda store_prefix: store_prefix.copy("a", "b"),
}
READS = ("read", "head", "list", "children")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("variable", "value"), [("SECRET_KEY", "wrong"), ("ACCESS_KEY", "unknown")])
@pytest.mark.parametrize(("role", "prefix"), [("dataset", "EXTERNAL_S3_"), ("results", "INTERNAL_S3_")])
def test_wrong_keys_are_access_denied(s3_environment, monkeypatch, action, variable, value, role, prefix):
    monkeypatch.setenv(prefix + variable, value)
    with pytest.raises(AccessDenied, match=f"{prefix}ACCESS_KEY and …SECRET_KEY") as caught:
        ACTIONS[action](open_prefix("s3://datasets/x", role))
    assert caught.value.exit_code == 77
    assert is_one_sentence(caught.value, "s3://datasets/x", str(role))


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_call_that_fails_once_is_made_again(s3, s3_workspace, monkeypatch, action, how):
    for key in ("403.png", "a"):
        open_prefix(s3_workspace, "results").write(key, b"0123456789")
    with failing(s3.endpoint, lambda number: how if number == 1 else None) as proxy:
        monkeypatch.setenv("INTERNAL_S3_ENDPOINT", proxy.url)
        with contextlib.suppress(PreconditionFailed):  # what replace ends with here
            ACTIONS[action](open_prefix(s3_workspace, "results"))
    assert len(proxy.failed) == 1
    assert len(proxy.calls) > 1


@pytest.mark.parametrize("action", ["read", "read_start", "read_with_etag"])
def test_the_answer_that_there_is_no_such_object_may_be_cut_off_too(s3, s3_workspace, monkeypatch, action):
    with failing(s3.endpoint, lambda number: CUT if number == 1 else None) as proxy:
        monkeypatch.setenv("INTERNAL_S3_ENDPOINT", proxy.url)
        with pytest.raises(NotFound):
            getattr(open_prefix(s3_workspace, "results"), action)("none", *([8] if action == "read_start" else []))
    assert len(proxy.failed) == 1


def test_a_conditional_write_whose_answer_was_lost_was_made_all_the_same(s3, s3_workspace, monkeypatch):
    with failing(s3.endpoint, lambda number: CUT if number in (1, 5) else None) as proxy:
        monkeypatch.setenv("INTERNAL_S3_ENDPOINT", proxy.url)
        prefix = open_prefix(s3_workspace, "results")
        assert not prefix.create("a", b"1")
        data, etag = prefix.read_with_etag("a")
        assert data == b"1"
        assert not prefix.create("a", b"2")
        with pytest.raises(PreconditionFailed):
            prefix.replace("a", b"3", etag)
        assert prefix.read("a") == b"3"
    assert [call.method for call in proxy.calls] == ["PUT", "PUT", "GET", "PUT", "PUT", "PUT", "GET"]
    assert [call.fault for call in proxy.calls].count(CUT) == 2


@pytest.mark.parametrize("action", ["write", "create", "delete"])
def test_keys_that_may_only_read_are_refused_to_write(s3_environment, monkeypatch, action):
    for name, value in s3_environment.variables("INTERNAL_S3_", s3_environment.readonly).items():
        monkeypatch.setenv(name, value)
    prefix = open_prefix("s3://results/readonly", "results")
    assert list(prefix.objects()) == []
    with pytest.raises(AccessDenied, match="refused to"):
        ACTIONS[action](prefix)


@pytest.mark.parametrize("action", [action for action in ACTIONS if action not in ("delete", "replace")])
def test_a_missing_bucket_is_not_found(s3_environment, action):
    with pytest.raises(NotFound, match="s3://no-such-bucket/x"):
        ACTIONS[action](open_prefix("s3://no-such-bucket/x", "results"))


def test_a_missing_object_is_not_found(workspace):
    prefix = open_prefix(workspace, "results")
    prefix.write("folder/object", b"1")
    for action in (
        lambda: prefix.read("missing"),
        lambda: prefix.read_start("missing", 10),
        lambda: prefix.head("missing"),
        lambda: prefix.copy("missing", "other"),
        lambda: prefix.download("missing", Path("never")),
        lambda: prefix.read("folder"),
        lambda: prefix.read("folder/object/below"),
    ):
        with pytest.raises(NotFound):
            action()
    assert not prefix.exists("missing")
    assert prefix.exists("folder/object")
    assert not Path("never").exists()
    assert prefix.delete(["missing"]) == 1


def test_an_endpoint_that_nobody_answers_is_transient_soon(s3_environment, monkeypatch):
    with socket.socket() as taken:
        # Bound and not listening: refused, and nobody else can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("INTERNAL_S3_ENDPOINT", endpoint)
        prefix = open_prefix("s3://results/507", "results")

        def refused(action: str) -> Transient:
            with pytest.raises(Transient, match="Connection refused") as caught:
                ACTIONS[action](prefix)
            return caught.value

        began = time.monotonic()
        with ThreadPoolExecutor(len(ACTIONS)) as pool:
            results = list(pool.map(refused, ACTIONS))
        assert time.monotonic() - began < 25
    assert {error.exit_code for error in results} == {75}
    assert all(is_one_sentence(error, endpoint, "s3://results/507") for error in results)


@pytest.fixture
def failing_store() -> Iterator[str]:
    """The endpoint of a store that answers everything with 500 and S3's own InternalError."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b"" if self.command == "HEAD" else b"<Error><Code>InternalError</Code></Error>"
            self.send_response(500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_store_that_fails_by_itself_is_transient_and_only_a_write_blames_its_space(
    s3_environment, monkeypatch, failing_store
):
    monkeypatch.setenv("INTERNAL_S3_ENDPOINT", failing_store)
    prefix = open_prefix("s3://results/x", "results")

    def sentence(action: str) -> str:
        with pytest.raises(Transient) as caught:
            ACTIONS[action](prefix)
        assert is_one_sentence(caught.value, f"the results store at {failing_store} fails to", "500")
        return str(caught.value)

    with ThreadPoolExecutor(len(ACTIONS)) as pool:
        results = dict(zip(ACTIONS, pool.map(sentence, ACTIONS), strict=True))
    blamed = {action for action, text in results.items() if "has space left" in text}
    assert blamed == {"write", "create", "replace", "copy"}


def test_a_host_that_has_no_address_is_transient(s3_environment, monkeypatch):
    monkeypatch.setenv("INTERNAL_S3_ENDPOINT", "http://store.invalid:9000")
    with pytest.raises(Transient, match=r"http://store\.invalid:9000"):
        open_prefix("s3://results/x", "results").read("a")


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://x", "http://", "http://a b", "http://127.0.0.1:99999", "http://h:x", "http://[x", "://", "http://h/?a"],
)
@pytest.mark.parametrize("name", ["INTERNAL_S3_ENDPOINT", "S3_ENDPOINT", "AWS_ENDPOINT_URL"])
def test_an_endpoint_that_is_no_url_is_a_wrong_configuration(monkeypatch, name, endpoint):
    monkeypatch.setenv(name, endpoint)
    monkeypatch.setenv("INTERNAL_S3_ACCESS_KEY", "a")
    monkeypatch.setenv("INTERNAL_S3_SECRET_KEY", "b")
    with pytest.raises(InvalidConfig, match=name):
        open_prefix("s3://results/x", "results")


def test_half_a_pair_of_keys_names_the_missing_one(monkeypatch):
    monkeypatch.setenv("EXTERNAL_S3_SECRET_KEY", "b")
    with pytest.raises(AccessDenied, match="EXTERNAL_S3_ACCESS_KEY is not set"):
        open_prefix("s3://datasets/x", "dataset")


def test_no_keys_at_all_names_the_variables():
    with pytest.raises(AccessDenied, match="EXTERNAL_S3_ACCESS_KEY and …SECRET_KEY, or an AWS profile"):
        open_prefix("s3://datasets/x", "dataset")


def test_an_unknown_aws_profile_is_access_denied(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AccessDenied, match="nobody"):
        open_prefix("s3://datasets/x", "dataset")


def test_a_workspace_below_a_regular_file_is_access_denied(tmp_path):
    (tmp_path / "file").write_text("I am no folder")
    prefix = open_prefix(str(tmp_path / "file" / "workspace"), "results")
    assert not prefix.exists("a")
    for action in ("write", "create"):
        with pytest.raises(AccessDenied, match="choose a folder that can be written"):
            ACTIONS[action](prefix)
    assert (tmp_path / "file").read_text() == "I am no folder"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something for the test; skipped where this user may not."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folders: list[Path] = []

    def mount(*arguments: str) -> Path:
        folder = tmp_path / f"mount{len(folders)}"
        folder.mkdir()
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine mounts nothing: {done.stderr.decode().strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_folder_is_access_denied(mounted):
    folder = mounted("-t", "tmpfs", "-o", "ro", "tmpfs")
    for entry in (open_prefix(str(folder), "results"), open_prefix(str(folder / "workspace"), "results")):
        for action in ("write", "create"):
            with pytest.raises(AccessDenied, match="folder that can be written"):
                ACTIONS[action](entry)
        assert not entry.exists("a")


def test_a_full_store_is_transient_and_leaves_nothing_half(mounted, tmp_path):
    prefix = open_prefix(str(mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")), "results")
    prefix.write("small", b"1")
    large = tmp_path / "large"
    large.write_bytes(bytes(2**21))
    for action in (
        lambda: prefix.write("large", bytes(2**21)),
        lambda: prefix.create("large", bytes(2**21)),
        lambda: prefix.upload(large, "large"),
    ):
        with pytest.raises(Transient, match="no space is left"):
            action()
    assert [info.key for info in prefix.objects()] == ["small"]
    assert prefix.read("small") == b"1"


def test_a_full_disk_of_this_machine_is_its_sickness_and_a_download_is_whole_or_nothing(mounted, workspace):
    disk = mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    prefix = open_prefix(workspace, "results")
    prefix.write("large", bytes(2**21))
    prefix.write("small", b"new")
    (disk / "kept").write_bytes(b"old")
    with pytest.raises(SickMachine, match="disk is full") as caught:
        prefix.download("large", disk / "kept")
    assert caught.value.exit_code == 71
    assert [path.name for path in disk.iterdir()] == ["kept"]
    assert (disk / "kept").read_bytes() == b"old"
    prefix.download("small", disk / "kept")
    assert (disk / "kept").read_bytes() == b"new"


def test_a_download_into_an_unwritable_folder_is_access_denied(mounted, workspace):
    prefix = open_prefix(workspace, "results")
    prefix.write("a", b"1")
    with pytest.raises(AccessDenied, match="TMPDIR"):
        prefix.download("a", mounted("-t", "tmpfs", "-o", "ro", "tmpfs") / "a")


HOSTILE = ["..", "x/../y", "x//y", "./x", "x/.", "tab\tx", "new\nline", "null\x00", "delete\x7f", "x" * 300, "\udc80"]


@pytest.mark.parametrize("key", HOSTILE)
@pytest.mark.parametrize("action", ["read", "write", "create", "head", "delete", "objects"])
def test_a_hostile_key_is_refused_with_one_sentence(workspace, key, action):
    prefix = open_prefix(workspace, "results")
    prefix.write("kept", b"1")
    call = {
        "read": lambda: prefix.read(key),
        "write": lambda: prefix.write(key, b"1"),
        "create": lambda: prefix.create(key, b"1"),
        "head": lambda: prefix.head(key),
        "delete": lambda: prefix.delete([key]),
        "objects": lambda: list(prefix.objects(key)),
    }[action]
    # A name that is only too long is nowhere, rather than refused, when something is read.
    allowed = (NotFound, InvalidDataset) if len(key) == 300 else InvalidDataset
    if len(key) == 300 and action in ("delete", "objects"):
        return
    with pytest.raises(allowed):
        call()
    assert [info.key for info in prefix.objects()] == ["kept"]


@pytest.mark.parametrize("role", ["dataset", "results"])
def test_a_sentence_never_holds_a_key(s3_environment, monkeypatch, role: Role):
    prefix = {"dataset": "EXTERNAL_S3_", "results": "INTERNAL_S3_"}[role]
    monkeypatch.setenv(prefix + "SECRET_KEY", "not-the-right-secret")
    with pytest.raises(AccessDenied) as caught:
        open_prefix("s3://results/x", role).read("a")
    text = str(caught.value)
    assert "not-the-right-secret" not in text
    assert s3_environment.keys.access not in text
