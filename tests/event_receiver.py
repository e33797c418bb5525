"""Receivers of events on this machine: one that keeps what it is sent, and ones that do what hostile ones do."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: How a receiver answers: well, or as a hostile one.
WELL, HANGS, CLOSES, REDIRECTS, PAGE, ENDLESS = "well", "hangs", "closes", "redirects", "page", "endless"
HOSTILE = (HANGS, CLOSES, REDIRECTS, PAGE, ENDLESS, "401", "413", "503")

SECRET = "a-secret-of-more-than-32-characters"


@dataclass(frozen=True)
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any

    @property
    def id(self) -> str:
        """The event's id, whatever the form."""
        return str(self.headers.get("Ce-Id") or self.body["id"])

    @property
    def kind(self) -> str:
        """The last word of its type, or of the address."""
        return str(self.body.get("type", self.path)).replace("/", ".").rpartition(".")[2]

    @property
    def data(self) -> dict[str, Any]:
        """What it says."""
        data = self.body["data"] if "specversion" in self.body else self.body
        assert isinstance(data, dict)
        return data


@dataclass
class Answers:
    """What a receiver does with the next requests, and what it keeps; ``first`` comes before ``then``.

    ``refused`` has what it was sent and did not take; ``down`` says of an event's data that the receiver is down when it comes.
    """

    then: str = WELL
    first: list[str] = field(default_factory=list)
    taken: list[Posted] = field(default_factory=list)
    refused: list[Posted] = field(default_factory=list)
    asked: int = 0
    elsewhere: str = ""
    down: Callable[[dict[str, Any]], bool] = lambda data: False


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted."""

    daemon_threads = True

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.changed = threading.Condition()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/events"

    @property
    def taken(self) -> list[Posted]:
        """What it has taken, in order."""
        return self.answers.taken

    @property
    def story(self) -> list[Posted]:
        """What a receiver sees that drops repeats, without the log."""
        by_id = {posted.id: posted for posted in reversed(self.taken)}
        first = [
            posted for number, posted in enumerate(self.taken) if posted.id not in {p.id for p in self.taken[:number]}
        ]
        assert len(first) == len(by_id)
        return [posted for posted in first if posted.kind != "log"]

    def wait_for(self, number: int) -> list[Posted]:
        """What it has taken, once that is so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.taken) >= number, 60), self.taken
            return list(self.taken)

    def handle_error(self, *_: object) -> None:
        """A sender that has gone is no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answers = self.server.answers
        with self.server.changed:
            answers.asked += 1
            posted = Posted(self.path, dict(self.headers), json.loads(body))
            how = answers.first.pop(0) if answers.first else CLOSES if answers.down(posted.data) else answers.then
            (answers.taken if how == WELL else answers.refused).append(posted)
            self.server.changed.notify_all()
        match how:
            case "well":
                self.answer(200, b'{"status": "ok"}', "application/json")
            case "hangs":
                self.server.over.wait(60)
                self.close_connection = True
            case "closes":
                self.close_connection = True
            case "redirects":
                self.answer(307, b"", "text/plain", Location=answers.elsewhere)
            case "page":
                self.answer(200, b"\n<!DOCTYPE html><html>Log in, please.</html>", "text/html; charset=utf-8")
            case "endless":
                self.answer(500, b"", "application/json", length=10**15)
                with contextlib.suppress(OSError):
                    while not self.server.over.is_set():
                        self.wfile.write(b"0" * 65536)
            case status:
                self.answer(int(status), b'{"detail": "no"}', "application/json")

    def answer(self, status: int, body: bytes, form: str, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": form, "Content-Length": str(length or len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Who follows a redirect comes here."""
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def receiving(
    then: str = WELL,
    first: list[str] | None = None,
    elsewhere: str = "",
    down: Callable[[dict[str, Any]], bool] = lambda data: False,
) -> Iterator[Receiver]:
    """A receiver that listens until the block ends."""
    with Receiver(Answers(then, first or [], elsewhere=elsewhere, down=down)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
