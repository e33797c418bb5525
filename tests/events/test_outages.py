"""A receiver of events that is down for the middle third of a training: what is missing, what is told, what is counted."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from event_receiver import receiving
from event_schemas import check
from published_training import Tell, Training, epochs

from visionloop.core.receipts import Receipt

EPOCHS, MIDDLE = 9, range(4, 7)
SETTING = f"epochs={EPOCHS}"


@pytest.fixture
def undisturbed(training: Training) -> Receipt:
    """What the training comes to that tells nobody and is not tracked."""
    alone = Training(training.workspace.child("alone"), training.uris)
    return alone.receipt(alone.train(SETTING))


def check_equal(receipt: Receipt, undisturbed: Receipt) -> None:
    """Whether two trainings are one to the byte."""
    assert (receipt.key, receipt.digest) == (undisturbed.key, undisturbed.digest)
    hashes = [{name: output.sha256 for name, output in entry.outputs.items()} for entry in (receipt, undisturbed)]
    assert hashes[0] == hashes[1]
    assert (receipt.scalars, receipt.metrics) == (undisturbed.scalars, undisturbed.metrics)


class Middle:
    """Says of an event's data whether it is of the middle third; lines that name no epoch are of the one before them."""

    def __init__(self) -> None:
        self._epoch = 0

    def __call__(self, data: dict[str, Any]) -> bool:
        """Whether it is."""
        about = [line["metadata"] or {} for line in data.get("logs", ())]
        numbers = [fields["epoch"] for fields in (data, *about) if "epoch" in fields]
        self._epoch = numbers[-1] if numbers else self._epoch if "logs" in data else 0
        return self._epoch in MIDDLE


def test_a_receiver_that_is_down_for_the_middle_third_misses_that_alone(
    training: Training, send_to: Tell, undisturbed: Receipt, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiving(down=Middle()) as server:
        send_to(server)
        receipt = training.receipt(training.train(SETTING))
        story, taken, refused = server.story, list(server.taken), server.answers.refused
    check_equal(receipt, undisturbed)
    for posted in taken:
        check(posted)
    assert [posted.id for posted in story] == [story[0].id, *epochs(1, 2, 3, 7, 8, 9), "night.train.completed"]
    # Each was tried three times, then dropped and counted.
    tries = Counter(posted.id for posted in refused)
    assert set(epochs(*MIDDLE)) <= set(tries)
    assert set(tries.values()) == {3}
    assert training.record().state("train").events == {"sent": len(taken), "dropped": len(tries)}
    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (warning,) = [line for line in lines if "does not take events" in line]
    assert warning.startswith("the receiver of VISIONLOOP_EVENTS_URL does not take events (")
    (end,) = [line for line in lines if line.startswith("events to VISIONLOOP_EVENTS_URL: ")]
    assert end.startswith(f"events to VISIONLOOP_EVENTS_URL: {len(taken)} sent, {len(tries)} dropped (")
