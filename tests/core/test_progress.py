"""The progress record moves forward only, whoever writes it."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from visionloop.core import progress
from visionloop.core.progress import FILE, Checkpoint, Progress
from visionloop.core.storage import Prefix, open_prefix


@pytest.fixture
def prefix(workspace: str) -> Prefix:
    return open_prefix(workspace, "results").child("train/key")


def at(epoch: int, attempt: str = "a", **changes) -> Progress:
    values: dict[str, Any] = {
        "attempt": attempt,
        "epoch": epoch,
        "epochs": 9,
        "checkpoints": [Checkpoint(f"{attempt}/checkpoints/epoch_{epoch}.pt", epoch, 1, "0" * 64)],
        "metrics": {"mAP50": epoch / 10},
        "best_epoch": epoch,
    }
    return Progress(**(values | changes))


def test_it_reads_back(prefix):
    assert progress.read(prefix) is None
    assert progress.advance(prefix, at(1)) == at(1)
    assert progress.read(prefix) == at(1)


def test_an_earlier_or_equal_epoch_changes_nothing(prefix):
    progress.advance(prefix, at(3, "first"))
    assert progress.advance(prefix, at(3, "second")) == at(3, "first")
    assert progress.advance(prefix, at(2, "second")) == at(3, "first")
    assert progress.read(prefix) == at(3, "first")
    assert progress.advance(prefix, at(4, "second")) == at(4, "second")


def test_steps_of_an_epoch_lie_before_its_end(prefix):
    progress.advance(prefix, at(3))
    assert progress.advance(prefix, at(2, step=900)) == at(3)
    assert progress.advance(prefix, at(3, step=5)) == at(3, step=5)
    assert progress.advance(prefix, at(3)) == at(3, step=5)
    assert progress.advance(prefix, at(4)) == at(4)


def test_of_checkpoints_within_epochs_the_newest_is_kept_until_its_epoch_ends():
    def kept(*places: tuple[int, int]) -> list[tuple[int, int]]:
        checkpoints = [Checkpoint(f"{epoch}_{step}", epoch, 1, "0" * 64, step) for epoch, step in places]
        return [checkpoint.at for checkpoint in progress.kept(checkpoints)]

    assert kept((0, 2), (0, 1)) == [(0, 2)]
    assert kept((1, 0), (0, 2)) == [(1, 0)]
    assert kept((2, 3), (2, 1), (2, 0), (1, 0)) == [(2, 3), (2, 0), (1, 0)]
    assert kept((3, 0), (2, 3), (2, 0), (1, 0)) == [(3, 0), (2, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_racing_writers_only_move_it_forward(prefix, seed):
    def writer(number: int) -> list[int]:
        own = random.Random(seed * 100 + number)
        epochs = sorted(own.sample(range(1, 60), 8))
        seen = []
        for epoch in epochs:
            stands = progress.advance(prefix, at(epoch, f"attempt{number}"))
            assert stands.epoch >= epoch
            recorded = progress.read(prefix)
            assert recorded is not None
            seen.append(recorded.epoch)
        assert seen == sorted(seen)
        return epochs

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(writer, range(4)))
    last = progress.read(prefix)
    assert last is not None
    assert last.epoch == max(max(epochs) for epochs in written)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"attempt": 1}'])
def test_a_torn_record_is_none_and_is_replaced(prefix, torn):
    prefix.write(FILE, torn)
    assert progress.read(prefix) is None
    assert progress.advance(prefix, at(1)) == at(1)
    assert progress.read(prefix) == at(1)


def test_a_metric_that_is_no_number_does_not_cost_the_record(prefix):
    progress.advance(prefix, at(1, metrics={"mAP50": math.nan, "precision": 0.5}))
    stands = progress.read(prefix)
    assert stands is not None
    assert stands.metrics == {"precision": 0.5}
