"""What a listing passes over, and names: pipes, devices, links in a circle, and keys that no path holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.storage import Prefix, open_prefix

KEYS = ("set/a.txt", "set/images/1.png", "set/images//stray.png", "set/images/2.png", "set/x/../y.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one readable file, and one of each thing that is not."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file.txt").write_text("hello")
    (tmp_path / "half#1").write_text("not renamed yet")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "inner" / "up").symlink_to("..")
    (tmp_path / "inner" / "here").symlink_to(".")
    (tmp_path / "again").symlink_to("inner")
    return tmp_path


def listed(prefix: Prefix) -> tuple[list[str], dict[str, str]]:
    passed_over: dict[str, str] = {}
    return [info.key for info in prefix.objects(passed_over=passed_over.__setitem__)], passed_over


def test_a_folder_is_listed_once_and_what_is_passed_over_is_named(folder: Path):
    keys, passed_over = listed(open_prefix(str(folder), "dataset"))
    assert keys == ["again/file.txt", "inner/file.txt"]
    special, circle = "a pipe, a socket or a device", "a link to a folder above it"
    assert passed_over == {
        **dict.fromkeys(["pipe", "link", "zero"], special),
        "gone": "a link that leads nowhere",
        "self": "a link that leads in a circle, or to what can't be read",
        **dict.fromkeys(["inner/up", "inner/here", "again/up", "again/here"], circle),
    }


def test_one_level_of_a_folder_holds_files_and_folders_alone(folder: Path):
    folders, files = open_prefix(str(folder), "dataset").children()
    assert (folders, files) == (["again", "inner"], [])


def test_a_listed_file_has_the_metadata_that_the_client_gives_it(folder: Path):
    prefix = open_prefix(str(folder), "dataset")
    for info in prefix.objects("inner"):
        assert info == prefix.head(info.key)
        assert info.etag == str(obstore.head(prefix.store, f"{prefix.path}/{info.key}")["e_tag"]).strip('"')


@pytest.mark.parametrize(("role", "error"), [("dataset", InvalidDataset), ("results", InvalidConfig)])
@pytest.mark.parametrize("name", ["pipe", "link", "zero"])
def test_a_pipe_or_device_is_refused_before_it_is_read(
    folder: Path, name: str, role: str, error: type[Exception], tmp_path: Path
):
    prefix = open_prefix(str(folder), role)  # type: ignore[arg-type]
    reads: tuple[Callable[[str], object], ...] = (
        prefix.head,
        prefix.read,
        lambda key: prefix.read_start(key, 9),
        lambda key: prefix.read_end(key, 9),
        lambda key: prefix.download(key, tmp_path / "copy"),
    )
    for read in reads:
        with pytest.raises(error, match=f"{name}: this is not a file but a pipe"):
            read(name)


def test_the_end_of_an_object_is_read_alone(folder: Path):
    prefix = open_prefix(str(folder), "dataset")
    assert prefix.read_end("inner/file.txt", 3) == b"llo"
    assert prefix.read_end("inner/file.txt", 30) == b"hello"


class _Listing(BaseHTTPRequestHandler):
    """A bucket's listing as S3 gives it, in pages of two keys."""

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        start, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after", "")
        keys = [key for key in sorted(KEYS) if key.startswith(start) and key > after]
        common: list[str] = []
        if query.get("delimiter"):
            common = sorted({start + key[len(start) :].split("/")[0] + "/" for key in keys if "/" in key[len(start) :]})
            keys = [key for key in keys if "/" not in key[len(start) :]]
        page, more = keys[:2], len(keys) > 2
        entry = "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
        body = "".join(entry.format(key) for key in page)
        body += "".join(f"<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>" for key in common)
        body += f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        text = f"<?xml version='1.0'?><ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{body}</ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefix]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("EXTERNAL_S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("EXTERNAL_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("EXTERNAL_S3_SECRET_KEY", "secret")
    yield open_prefix("s3://data/set", "dataset")
    server.shutdown()
    server.server_close()


def test_keys_that_no_path_holds_are_passed_over_and_named(bucket: Prefix):
    keys, passed_over = listed(bucket)
    assert keys == ["a.txt", "images/1.png", "images/2.png"]
    assert sorted(passed_over) == ["images//stray.png", "x/../y.png"]
    assert [info.key for info in bucket.children()[1]] == ["a.txt"]
    assert bucket.children()[0] == ["images", "x"]
    assert [info.key for info in bucket.child("images").children()[1]] == ["1.png", "2.png"]
