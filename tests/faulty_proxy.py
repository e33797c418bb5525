"""A proxy before a server of this machine that lets some of the calls fail, as a store in trouble or a bad line does."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: How a call fails: it is answered with 503 and not passed on, or its answer is cut off: half of the body, or none of an answer without one.
OUT, CUT = "503", "cut"
FAULTS = (OUT, CUT)

#: What a store says that is overloaded (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)

#: Headers about one connection alone.
OF_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-length")


@dataclass(frozen=True)
class Call:
    """One request, and how it failed; None if it did not."""

    method: str
    path: str
    fault: str | None


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to a server, all but those that are to fail, and keeps what was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, fault: Callable[[int], str | None]) -> None:
        """``fault`` says how a call fails, from its number, from 1."""
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(target)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.calls: list[Call] = []
        self._fault, self._numbers, self._lock = fault, itertools.count(1), threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def failed(self) -> list[Call]:
        """The calls that failed."""
        return [call for call in self.calls if call.fault]

    def decide(self, method: str, path: str) -> str | None:
        """How the next call fails."""
        with self._lock:
            fault = self._fault(next(self._numbers))
            self.calls.append(Call(method, path, fault))
            return fault

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.decide(self.command, self.path)
        if fault == OUT:
            self._answer(503, [("Content-Type", "application/xml")], len(SLOW_DOWN), SLOW_DOWN)
            return
        with contextlib.closing(http.client.HTTPConnection(*self.server.target, timeout=60)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            headers = [entry for entry in answer.getheaders() if entry[0].lower() not in OF_CONNECTION]
            length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(data)
        if fault == CUT:
            self.close_connection = True
            if not data:
                return
            data = data[: len(data) // 2]
        self._answer(answer.status, headers, length, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _answer(self, status: int, headers: list[tuple[str, str]], length: int, data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def each_tenth(fault: str) -> Callable[[int], str | None]:
    """One call in ten fails."""
    return lambda number: fault if number % 10 == 0 else None


@contextlib.contextmanager
def failing(target: str, fault: Callable[[int], str | None]) -> Iterator[FaultyProxy]:
    """A proxy that listens until the block ends."""
    with FaultyProxy(target, fault) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
