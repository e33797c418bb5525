"""How long a model takes to answer, by a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_detector import Prepared, published

from visionloop.components.evaluate.latency import LONGEST, PICTURES, RUNS, SECONDS, WARM, Latency, measure
from visionloop.components.evaluate.result import read
from visionloop.components.evaluate.slicing import LEAST
from visionloop.training import devices
from visionloop.training.stopwatch import described_answers, of_answers
from visionloop.training.trainers import Prediction, PredictionSettings

BLACK = np.zeros((4, 4, 3), np.uint8)


class Slow:
    """A model that takes so many seconds for an image by its own clock; the first answers take much longer."""

    classes: tuple[str, ...] = ("a",)

    def __init__(self, *seconds: float) -> None:
        self.now, self.asked = 0.0, 0
        self._seconds = seconds

    def predict(
        self,
        images: Iterable[Any],
        settings: PredictionSettings = PredictionSettings(),  # noqa: B008
    ) -> Iterator[list[Prediction]]:
        for _ in images:
            self.now += self._seconds[self.asked % len(self._seconds)] if self.asked >= WARM else 100
            self.asked += 1
            yield []

    def measured(self, batch: int, pictures: int = 1) -> Latency:
        return measure(self, [BLACK] * pictures, batch, lambda: "a device", clock=lambda: self.now)


def test_median_and_p95_are_of_warm_answers() -> None:
    model = Slow(*[0.01] * 9, 0.05)
    (single,) = model.measured(1).measured
    assert (single.batch, single.runs, single.median_ms) == (1, RUNS, 10.0)
    assert single.p95_ms == pytest.approx(50.0)
    assert model.asked == WARM + RUNS


def test_a_batch_is_measured_as_a_whole() -> None:
    result = Slow(0.01).measured(12, pictures=PICTURES + 3)
    single, batch = result.measured
    assert (single.median_ms, batch.batch, batch.median_ms, batch.p95_ms) == (10.0, 12, 120.0, 120.0)
    assert (result.device, result.milliseconds) == ("a device", 10.0)
    assert result.timings() == {
        "latency_median_seconds": 0.01,
        "latency_p95_seconds": 0.01,
        "batch_latency_median_seconds": 0.12,
        "batch_latency_p95_seconds": 0.12,
    }
    assert of_answers({"seconds": 3.0, **result.timings()}) == result.timings()
    assert described_answers(result.timings()) == [
        ("one image", "10.0 ms (95 % within 10.0 ms)"),
        ("a batch of the training's size", "120.0 ms (95 % within 120.0 ms)"),
    ]
    assert described_answers({"seconds": 3.0}) == []


def test_a_slow_model_is_measured_a_few_times_and_never_fewer_than_ten() -> None:
    slow = LONGEST / LEAST / 2
    single, batch = Slow(slow).measured(2).measured
    assert (single.runs, batch.runs) == (LEAST, LEAST)
    assert len(Slow(slow).measured(3).measured) == 1  # that would take longer than is allowed
    (between,) = Slow(SECONDS / 20).measured(1).measured
    assert between.runs == 20


def test_the_device_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_device_name=lambda: "GPU 0")
    monkeypatch.setitem(devices.sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert devices.computing_device() == "GPU 0"
    cuda.is_initialized = lambda: False
    names = tmp_path / "cpuinfo"
    names.write_text("processor\t: 0\nmodel name\t: A processor @ 2 GHz\n")
    monkeypatch.setattr(devices, "CPU_NAMES", names)
    assert devices.computing_device() == "A processor @ 2 GHz"
    names.unlink()
    assert devices.computing_device()


@pytest.mark.usefixtures("mlflow_uri")
def test_times_stand_beside_the_result_and_of_them_the_condition_alone_is_in_it(prepared: Prepared, name: str) -> None:
    training = prepared.train(1)
    first = published(prepared.evaluate(training, name, gate='{"max_latency_ms": 1e6}'))
    times = json.loads(first.read("latency"))
    assert [each["batch"] for each in times["measured"]] == [1, 4]
    assert times["device"] in first.read("report").decode()
    assert not first.receipt.outputs["latency"].result
    assert {"latency_median_seconds", "batch_latency_p95_seconds"} <= set(first.receipt.timings)
    again = published(prepared.evaluate(training, name, gate='{"max_latency_ms": 1e6}', force=True))
    assert again.receipt.digest == first.receipt.digest
    assert read(first).verdict == "promote"
    slow = read(published(prepared.evaluate(training, name, gate='{"max_latency_ms": 0}')))
    assert slow.verdict == "keep"
    assert slow.reason.startswith("mAP50-95 is ")
    assert "but one image takes it more than 0 ms (max_latency_ms)" in slow.reason
