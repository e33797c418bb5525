"""How long a model takes to answer on this machine: measured, so it stands beside the result and never in it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from visionloop.components.evaluate.slicing import LEAST
from visionloop.training.stopwatch import ANSWERS
from visionloop.training.trainers import Predictor

#: Answers before the first one that is measured.
WARM = 3

#: The most answers that are measured, and the seconds after which no further one is once LEAST are.
RUNS, SECONDS = 50, 5.0

#: The most seconds that LEAST answers may take: larger batches are not measured.
LONGEST = 60.0

#: The most pictures that are held in memory; a larger batch has some several times.
PICTURES = 8


class Measured(msgspec.Struct, frozen=True):
    """The milliseconds that ``batch`` images take together, from pictures in memory to what they show.

    Attributes:
        batch: The number of images.
        runs: How many times they were measured.
        median_ms: The median.
        p95_ms: What 95 % of the times are at most.
    """

    batch: int
    runs: int
    median_ms: float
    p95_ms: float


class Latency(msgspec.Struct, frozen=True):
    """``latency.json``.

    Attributes:
        device: The device's name.
        measured: For one image, and for the training's batch; without the second where it is 1 or would take too long.
    """

    device: str
    measured: list[Measured]

    @property
    def milliseconds(self) -> float:
        """The median of one image."""
        return self.measured[0].median_ms

    def timings(self) -> dict[str, float]:
        """The entries of a receipt's ``timings``, in seconds."""
        return {
            f"{name}_{entry}_seconds": round(value / 1000, 6)
            for name, each in zip(ANSWERS, self.measured, strict=False)
            for entry, value in (("median", each.median_ms), ("p95", each.p95_ms))
        }


def measure(
    predictor: Predictor,
    pictures: Sequence[NDArray[np.uint8]],
    batch: int,
    device: Callable[[], str],
    alive: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Measures a loaded model.

    Args:
        predictor: The model.
        pictures: Pictures that it is asked for, of which there is at least one.
        batch: The training's batch.
        device: Names the device, once something was computed on it.
        alive: Called after each answer, as a sign of life.
        clock: Gives seconds.
    """
    images = list(pictures)[:PICTURES]

    def answer(number: int) -> float:
        began = clock()
        for _ in predictor.predict(itertools.islice(itertools.cycle(images), number)):
            pass
        took = clock() - began
        alive()
        return took

    for _ in range(WARM):
        answer(1)
    single = _measured(answer, 1)
    measured = [single]
    # An estimate: no model takes longer for a batch than for its images one after the other.
    if batch > 1 and single.median_ms / 1000 * batch * LEAST <= LONGEST:
        answer(batch)
        measured.append(_measured(answer, batch))
    return Latency(device(), measured)


def _measured(answer: Callable[[int], float], batch: int) -> Measured:
    times: list[float] = []
    while len(times) < LEAST or (len(times) < RUNS and sum(times) < SECONDS):
        times.append(answer(batch))
    median, p95 = (float(value) * 1000 for value in np.percentile(times, [50, 95]))
    return Measured(batch, len(times), round(median, 3), round(p95, 3))
