"""Errors that no retry mends, on a real Argo: one attempt, and their sentence in the failed pod's node and at the exit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from kubernetes_cluster import HOST, Cluster, kubectl, steps, template_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: What each error is made with, and its sentence.
ERRORS: dict[int, tuple[dict[str, str], str]] = {
    65: ({"dataset": "s3://datasets/nothing"}, "no dataset lies there"),
    77: ({}, "check EXTERNAL_S3_ACCESS_KEY and …SECRET_KEY."),
    78: ({"split": "train=0.9,val=many"}, "is no number"),
}


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of messages about runs on this machine: its URL, and what it was sent."""
    bodies: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Silence."""

    with HTTPServer((str(HOST), 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{HOST}:{server.server_port}/", bodies
        server.shutdown()
        thread.join()


@pytest.fixture(params=ERRORS)
def code(request: pytest.FixtureRequest, cluster: Cluster, told: tuple[str, list[dict[str, Any]]]) -> Iterator[int]:
    """The exit code; the pods' Secret has the receiver's URL meanwhile, and for 77 a wrong key."""
    found: int = request.param
    wrong = {"EXTERNAL_S3_SECRET_KEY": "not-the-key"} if found == 77 else {}
    right = {"EXTERNAL_S3_SECRET_KEY": cluster.services.keys.secret_key}
    _patch(cluster, {"VISIONLOOP_NOTIFY_URL": told[0], **wrong})
    yield found
    _patch(cluster, {"VISIONLOOP_NOTIFY_URL": None, **right})


def _patch(cluster: Cluster, values: dict[str, str | None]) -> None:
    text = {name: value for name, value in values.items() if value is not None}
    patch = {"stringData": text, "data": {name: None for name, value in values.items() if value is None}}
    kubectl("-n", cluster.namespace, "patch", "secret", "visionloop", "--type=merge", "-p", json.dumps(patch))


def test_a_permanent_error_ends_at_once_with_its_sentence(
    cluster: Cluster, dataset: str, code: int, told: tuple[str, list[dict[str, Any]]]
) -> None:
    arguments, sentence = ERRORS[code]
    given = {"dataset": dataset, "workspace": f"s3://visionloop/refused-{code}", "model_name": "Refused", **arguments}
    ended = cluster.wait(cluster.submit(**given), 300, "Failed")
    # The stage, once, and the exit handler, whose own attempts are not the question.
    tried = [
        (template_of(node), node.get("outputs", {}).get("exitCode"))
        for node in steps(ended)
        if template_of(node) != "cleanup"
    ]
    assert tried == [("snapshot", str(code))], cluster.account(ended)
    failed = steps(ended, "snapshot")[0]["message"]
    assert f"(exit code {code})" in failed
    assert sentence in failed
    messages = [body for body in told[1] if body["run"] == ended["metadata"]["uid"]]
    assert messages, cluster.account(ended)
    assert messages[-1]["error"].endswith(f"(exit code {code})")
    assert sentence in messages[-1]["text"]
