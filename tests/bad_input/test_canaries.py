"""Canaries in every secret of docs/configuration.md, and each service broken: none of them is in anything that leaves the process."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import socket
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from message_receiver import receiving

from visionloop.components.cleanup import notify as messages
from visionloop.components.cleanup.notify import notify
from visionloop.components.register.document import escape
from visionloop.core import live, reports, running
from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.policy import StagePolicy
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord, describe_failure
from visionloop.core.secrets import CREDENTIALS, SECRETS
from visionloop.core.stage import Context
from visionloop.core.storage import open_prefix
from visionloop.registry import Registry
from visionloop.training.events import Publisher, endings, outbox, receivers
from visionloop.training.tracking import TrainingDescription, open_trackers

#: A value for each variable; base64 needs no padding, and percent-encoding changes it.
CANARIES = {entry.name: f"Canary/{number:02}/{uuid.uuid4().hex[:11]}" for number, entry in enumerate(CREDENTIALS)}
SIGNED = "https://somebody:password-in-url@127.0.0.1:9/data?X-Amz-Signature=signature-in-url&X-Amz-Credential=credential-in-url"
IN_URLS = ("somebody", "password-in-url", "signature-in-url", "credential-in-url")


def spellings() -> Iterator[str]:
    """Every form of every canary that nothing may hold."""
    for entry in SECRETS:
        value = CANARIES[entry.name]
        path = value.partition("/")[2]
        yield from (path, quote(path, safe=""), base64.b64encode(value.encode()).decode().rstrip("="))
        if entry.user:
            yield base64.b64encode(f"{CANARIES[entry.user]}:{value}".encode()).decode().rstrip("=")
    yield from IN_URLS


class Nonsense(ThreadingHTTPServer):
    """A service that answers any request with what it was sent, as a page of a proxy may."""

    status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Nonsense

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<html>{self.requestline}\n{self.headers}{self.headers.get('Authorization')}</html>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = answer

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(params=["refused", "200", "403"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A service that is gone, answers nonsense, or refuses with the request in its answer."""
    if request.param == "refused":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        return
    with Nonsense(("127.0.0.1", 0), _Handler) as server:
        server.status = int(request.param)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class NoArguments:
    """None."""


class Breaks:
    """A stage that does what a test says, and ends with what that raises."""

    name = "breaks"
    logic_version = 1
    policy = StagePolicy()
    arguments = NoArguments
    description = "Breaks."

    def __init__(self, work: Callable[[Context], Any]) -> None:
        self.work = work

    def act(self, context: Context, arguments: NoArguments) -> dict[str, Any]:
        return dict(self.work(context) or {})


class Outside:
    """Everything that a stage leaves: its output, its record, its events, its termination log."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd
        self.error: VisionloopError | None = None

    def run(self, work: Callable[[Context], Any]) -> None:
        """Runs the work as a stage."""
        invocation = Invocation(str(self.folder / "work"), run="night", run_arguments={"dataset": SIGNED})
        stage: Any = Breaks(work)
        with contextlib.suppress(VisionloopError):
            run_stage(stage, {}, invocation)

    def text(self) -> str:
        """All of it."""
        captured = self._capfd.readouterr()
        files = [path.read_bytes().decode("latin-1") for path in self.folder.rglob("*") if path.is_file()]
        assert any("night" in text for text in files)
        return "\n".join([captured.out, captured.err, *files])


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Outside:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISIONLOOP_LOG_FORMAT", "json")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(messages, "TRIES", 2)
    folder = tmp_path / "outside"
    folder.mkdir()
    monkeypatch.setenv(live.VARIABLE, str(folder / "events"))
    monkeypatch.setattr(running, "TERMINATION_LOG", folder / "termination-log")
    (folder / "termination-log").touch()
    return Outside(folder, capfd)


def assert_none_in(text: str) -> None:
    assert [form for form in spellings() if form in text] == []


def stores(_: Context) -> None:
    """Reads a dataset."""
    open_prefix("s3://datasets/sample", "dataset").read("annotations.json")


def results(_: Context) -> None:
    """Writes a result."""
    open_prefix("s3://visionloop/work", "results").create("receipt.json", b"{}")


def tracker(_: Context) -> None:
    """Tracks an epoch; never an error."""
    training = TrainingDescription(
        run="night",
        workspace="s3://visionloop/work",
        experiment="digits",
        name="night",
        params={"model": SIGNED},
        tags={"source": SIGNED},
        dataset_hash="ab" * 32,
        dataset_uris=["s3://datasets/sample"],
    )
    tracked = open_trackers(os.environ, training)
    tracked.start()
    tracked.log_epochs({1: {"loss": 1.0}})
    tracked.finish("failed")
    assert tracked.wait(60)


def registry(_: Context) -> None:
    """Asks for the champion."""
    Registry(os.environ, "evaluate").champion("digits")


@pytest.mark.parametrize("work", [stores, results, tracker, registry])
def test_a_service_that_is_gone_or_answers_nonsense_tells_no_secret(
    outside: Outside, address: str, work: Callable[[Context], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EXTERNAL_S3_ENDPOINT", "INTERNAL_S3_ENDPOINT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, address)
    outside.run(work)
    text = outside.text()
    assert_none_in(text)
    assert "***" in text


def test_the_address_of_messages_is_in_no_line_of_a_library(
    outside: Outside, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 warns of each retry with the path that it asked for."""
    monkeypatch.setenv("VISIONLOOP_NOTIFY_URL", f"{address}/{CANARIES['VISIONLOOP_NOTIFY_URL']}")
    outside.run(lambda context: {"sent": notify(context.run)})
    text = outside.text()
    assert_none_in(text)


def test_who_is_told_of_a_training_is_in_no_line_whatever_the_receiver_answers(
    outside: Outside, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv(
        "VISIONLOOP_EVENTS_SECRET", f"{CANARIES['VISIONLOOP_EVENTS_SECRET']}/long-enough-for-a-signature"
    )
    for name in ("VISIONLOOP_EVENTS_URL", "CALLBACK_URL"):
        monkeypatch.setenv(name, f"{address}/{CANARIES[name]}")

    def tell(context: Context) -> dict[str, int]:
        publisher = Publisher(receivers(os.environ, "night"), "night", "trace", "a1b2")
        everything = " ".join(os.environ[entry.name] for entry in SECRETS)
        try:
            raise InvalidConfig(f"{everything} {SIGNED}")
        except InvalidConfig as error:
            failure = describe_failure("train", error, attempt=1, trace_id="trace", traceback=None)
        end = endings.ended(context.run, "trace", failure)
        assert_none_in(str(end))
        publisher.tell(end)
        return publisher.close()

    outside.run(tell)
    text = outside.text()
    assert_none_in(text)
    assert "events to VISIONLOOP_EVENTS_URL: 0 sent, 1 dropped" in text


@pytest.mark.parametrize("name", ["VISIONLOOP_EVENTS_URL", "CALLBACK_URL", "VISIONLOOP_EVENTS_SECRET"])
def test_an_address_or_secret_that_can_not_be_used_is_in_no_sentence(
    outside: Outside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("VISIONLOOP_EVENTS_URL", "CALLBACK_URL", "VISIONLOOP_EVENTS_SECRET"):
        if other != name:
            monkeypatch.delenv(other)
    outside.run(lambda _: {"told": len(receivers(os.environ, "night"))})
    text = outside.text()
    assert_none_in(text)
    assert name in text


def test_whatever_a_defect_says_no_secret_is_in_what_is_left_of_it(outside: Outside) -> None:
    everything = " ".join([*CANARIES.values(), *(quote(value, safe="") for value in CANARIES.values()), SIGNED])

    def defect(_: Context) -> None:
        logging.getLogger("urllib3.connectionpool").warning("Retrying: %s", everything)
        warnings.warn(everything, RuntimeWarning, stacklevel=1)
        try:
            raise ValueError(everything)
        except ValueError:
            LOGGER.exception("met %s", everything)
            raise RuntimeError(everything) from None

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        outside.run(defect)
        logging.captureWarnings(False)
    text = outside.text()
    assert_none_in(text)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"timestamp"')]
    assert {line["source"] for line in lines} >= {"sdk", "urllib3.connectionpool", "py.warnings"}
    assert "RuntimeError: Canary/00/" in text  # a key id, which is not a secret


def test_the_message_about_a_defect_tells_no_secret(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        address = f"{receiver.url}/{CANARIES['VISIONLOOP_NOTIFY_URL']}"
        monkeypatch.setenv("VISIONLOOP_NOTIFY_URL", address)
        others = " ".join(value for name, value in CANARIES.items() if name != "VISIONLOOP_NOTIFY_URL")

        def defect(_: Context) -> None:
            raise RuntimeError(f"{others} {address} {SIGNED}")

        outside.run(defect)
        record = RunRecord(open_prefix(str(outside.folder / "work"), "results"), "night")
        assert notify(record, "Failed", others)
        assert_none_in(json.dumps(receiver.bodies))
        assert "***" in receiver.bodies[0]["text"]
    assert_none_in(outside.text())


def test_a_secret_with_a_line_break_is_refused_by_its_name_in_the_run_too(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = f"first-line-of-it\n{CANARIES['MLFLOW_TRACKING_TOKEN']}"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", broken)
    stage: Any = Breaks(lambda _: None)
    with pytest.raises(InvalidConfig, match="MLFLOW_TRACKING_TOKEN has a line break"):
        run_stage(stage, {}, Invocation(str(outside.folder / "work"), run="night"))
    text = outside.text()
    assert_none_in(text)
    assert "first-line-of-it" not in text
    assert "MLFLOW_TRACKING_TOKEN has a line break" in (outside.folder / "termination-log").read_text()
    failure = json.loads((outside.folder / "work" / "runs" / "night" / "breaks.failure.json").read_text())
    assert (failure["exit_code"], failure["traceback"]) == (78, None)


def test_a_page_and_a_card_hold_no_secret(outside: Outside) -> None:
    everything = f"{' '.join(CANARIES.values())} {SIGNED}\u202e\x1b"
    assert_none_in(escape(everything))
    shown = reports._ENVIRONMENT.from_string("<p>{{ name }}</p>").render(name=everything)
    assert_none_in(shown)
    assert not {"\u202e", "\x1b"} & set(shown + escape(everything))
