"""Errors that no retry mends, on a real Argo: one attempt, and their sentence in the failed pod's node and at the exit."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from kubernetes_cluster import HOST, Cluster, kubectl, steps, template_of
from message_receiver import Receiver, receiving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: What each error is made with, and its sentence.
ERRORS: dict[int, tuple[dict[str, str], str]] = {
    65: ({"dataset": "s3://datasets/nothing"}, "no dataset lies there"),
    77: ({}, "check EXTERNAL_S3_ACCESS_KEY and …SECRET_KEY."),
    78: ({"split": "train=0.9,val=many"}, "is not a number"),
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving(str(HOST)) as received:
        yield received


@pytest.fixture(params=ERRORS)
def code(request: pytest.FixtureRequest, cluster: Cluster, receiver: Receiver) -> Iterator[int]:
    """The exit code; cleanup's Secret has the receiver's URL meanwhile, and the dataset's for 77 a wrong key."""
    result: int = request.param
    right = cluster.services.keys.secret_key
    _patch(cluster, "notify", dict(receiver.variables))
    _patch(cluster, "dataset", {"EXTERNAL_S3_SECRET_KEY": "not-the-key" if result == 77 else right})
    yield result
    _patch(cluster, "notify", dict.fromkeys(receiver.variables))
    _patch(cluster, "dataset", {"EXTERNAL_S3_SECRET_KEY": right})


def _patch(cluster: Cluster, role: str, values: dict[str, str | None]) -> None:
    text = {name: value for name, value in values.items() if value is not None}
    patch = {"stringData": text, "data": {name: None for name, value in values.items() if value is None}}
    kubectl("-n", cluster.namespace, "patch", "secret", f"visionloop-{role}", "--type=merge", "-p", json.dumps(patch))


def test_a_permanent_error_ends_at_once_with_its_sentence(
    cluster: Cluster, dataset: str, code: int, receiver: Receiver
) -> None:
    arguments, sentence = ERRORS[code]
    values = {"dataset": dataset, "workspace": f"s3://visionloop/refused-{code}", "model_name": "Refused", **arguments}
    ended = cluster.wait(cluster.submit(**values), 300, "Failed")
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
    messages = receiver.about(ended["metadata"]["uid"])
    assert messages, cluster.account(ended)
    assert messages[-1]["error"].endswith(f"(exit code {code})")
    assert sentence in messages[-1]["text"]
