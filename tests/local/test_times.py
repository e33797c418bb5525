"""Where a training's time went, by clocks that a test moves."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from visionloop.components.train.times import Times
from visionloop.training.devices import peak_gpu_bytes
from visionloop.training.stopwatch import (
    COMPUTING,
    DOWNLOAD,
    LOADING,
    UPLOAD,
    VALIDATING,
    WAITING,
    Stopwatch,
    described,
)
from visionloop.training.supervision import channel


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> Clock:
        self.now += seconds
        return self


def epoch(peak: int | None = None, **seconds: float) -> channel.Epoch:
    return channel.Epoch(
        epoch=1,
        train_metrics={},
        val_metrics={},
        checkpoint="",
        best_epoch=1,
        best_value=0.5,
        stopping=False,
        seconds=seconds,
        peak_gpu_bytes=peak,
    )


def test_a_stopwatch_counts_from_the_end_of_the_first_batch_on():
    clock = Clock()
    watch = Stopwatch(clock)
    clock.passes(9)
    watch.lap(LOADING)
    assert watch.epoch() == {}
    watch.begin()
    for part, seconds in ((LOADING, 1), (COMPUTING, 2), (LOADING, 4), (None, 8), (VALIDATING, 16)):
        clock.passes(seconds)
        watch.lap(part)
        watch.begin()
    assert watch.epoch() == {LOADING: 5, COMPUTING: 2, VALIDATING: 16}
    assert watch.epoch() == {}


def test_the_parts_of_an_attempt_follow_each_other():
    clock = Clock()
    times = Times(clock.now, clock)
    clock.passes(1)
    times.turn(WAITING)
    clock.passes(2)
    times.turn(DOWNLOAD)
    clock.passes(4)
    times.batch()
    for peak in (3_000, 2_000):
        clock.passes(8)
        times.batch()
        clock.passes(8)
        times.epoch(epoch(peak, loading=3, computing=10, validating=2.5))
        clock.passes(0.5)
        times.turn(UPLOAD)
    times.train_images, times.checkpoints = 20, 6.25
    clock.passes(64)
    times.turn(None)
    assert times.timings(batch=8) == {
        "waiting_seconds": 1,
        "download_seconds": 2,
        "first_batch_seconds": 4,
        "epochs_seconds": 32,
        "upload_seconds": 1,
        "loading_seconds": 6,
        "computing_seconds": 20,
        "validating_seconds": 5,
        "checkpoint_upload_seconds": 6.25,
        "images_per_second": 1,
        "peak_gpu_bytes": 3_000,
    }


def test_what_is_not_known_is_left_out():
    clock = Clock()
    times = Times(clock.now, clock)
    times.batch()
    clock.passes(4)
    times.epoch(epoch())
    assert times.timings(batch=8) == {"first_batch_seconds": 0, "epochs_seconds": 4}


def test_parts_that_are_more_than_the_epochs_took_are_no_measurement():
    clock = Clock()
    times = Times(clock.now, clock)
    times.batch()
    clock.passes(4)
    times.epoch(epoch(loading=3, computing=3))
    assert times.timings(batch=8) == {"first_batch_seconds": 0, "epochs_seconds": 4}


def test_people_read_it_in_the_order_in_which_it_passed():
    timings = {
        "seconds": 1234.5,
        "gpu_hours": 0.3429,
        "earlier_seconds": 1000.0,
        "waiting_seconds": 1.0,
        "download_seconds": 2.0,
        "first_batch_seconds": 4.0,
        "epochs_seconds": 200.0,
        "loading_seconds": 20.0,
        "computing_seconds": 150.0,
        "validating_seconds": 25.0,
        "upload_seconds": 3.0,
        "checkpoint_upload_seconds": 30.0,
        "images_per_second": 1500.0,
        "peak_gpu_bytes": 3.2e9,
    }
    assert described(timings) == [
        ("in all", "1,234.5 s"),
        ("earlier attempts", "1,000.0 s"),
        ("waiting", "1.0 s"),
        ("download", "2.0 s"),
        ("first batch", "4.0 s"),
        ("epochs", "200.0 s (loading 20.0 s, computing 150.0 s, validating 25.0 s)"),
        ("upload", "3.0 s (checkpoints beside the epochs: 30.0 s)"),
        ("images a second", "1,500.0"),
        ("GPU memory at most", "3.20 GB"),
        ("GPU hours", "0.3429"),
    ]
    # A receipt of an older version.
    assert described({"seconds": 3.0, "gpu_hours": 0.0}) == [("in all", "3.0 s")]
    assert described({}) == []


@pytest.mark.parametrize(("initialised", "peaks", "peak"), [(True, [5, 7], 7), (True, [0], None), (False, [5], None)])
def test_the_peak_of_the_gpus_memory_is_that_of_the_fullest(
    monkeypatch: pytest.MonkeyPatch, initialised: bool, peaks: list[int], peak: int | None
):
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: initialised,
        device_count=lambda: len(peaks),
        max_memory_allocated=lambda number: peaks[number],
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert peak_gpu_bytes() == peak


def test_without_torch_there_is_no_peak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert peak_gpu_bytes() is None
