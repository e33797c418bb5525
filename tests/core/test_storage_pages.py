"""A proxy or a login that answers with its page in place of the store: 75 with the host's name, never an empty list."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from visionloop.core.errors import Transient
from visionloop.core.storage import Prefix, open_prefix

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><p>Sign in</p></body></html>"
XHTML = b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body><p>Sign in</p></body></html>'


class Login(BaseHTTPRequestHandler):
    """Answers every request with a page, at once or after a redirect."""

    page = PAGE
    redirects = False

    def do_GET(self) -> None:
        """Answers."""
        if self.redirects and not self.path.startswith("/login"):
            self.send_response(302)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.page)))
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")
        self.send_header("ETag", '"page"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.page)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(params=["html", "xhtml", "redirect"])
def login(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prefix]:
    """A prefix of a dataset whose store is behind a login."""
    monkeypatch.setattr(Login, "page", PAGE if request.param == "html" else XHTML)
    monkeypatch.setattr(Login, "redirects", request.param == "redirect")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Login)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("EXTERNAL_S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("EXTERNAL_S3_ACCESS_KEY", "access")
    monkeypatch.setenv("EXTERNAL_S3_SECRET_KEY", "secret-key")
    yield open_prefix("s3://datasets/digits", "dataset")
    server.shutdown()
    server.server_close()


def test_a_page_in_place_of_a_list_is_transient_and_names_the_host(login: Prefix):
    for look in (lambda: list(login.objects()), login.children):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            look()


def test_a_page_in_place_of_an_object_is_transient_and_names_the_host(login: Prefix, tmp_path: Path):
    for look in (
        lambda: login.read("annotations_detection.json"),
        lambda: login.read_start("images/1.png", 4096),
        lambda: login.download("images/1.png", tmp_path / "image"),
    ):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            look()
    assert not (tmp_path / "image").exists()
