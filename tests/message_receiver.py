"""A receiver of the messages about runs' ends: a webhook on this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from visionloop.components.cleanup.notify import URL_VARIABLE

#: A part of the receiver's address, which is a secret: it may stand in no log and in no workflow.
SECRET_PART = "a-secret-part"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted and answers with ``status``."""

    status = 200

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.url = f"http://{host}:{self.server_port}/hook/{SECRET_PART}"
        self.bodies: list[dict[str, Any]] = []

    @property
    def variables(self) -> dict[str, str]:
        """What a run is told of it."""
        return {URL_VARIABLE: self.url}

    def about(self, run: str) -> list[dict[str, Any]]:
        """The messages about one run."""
        return [body for body in self.bodies if body["run"] == run]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    """A receiver that listens until the block ends."""
    with Receiver(host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
