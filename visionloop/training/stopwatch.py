"""What a training's time goes into: the parts of an attempt, and those of an epoch, which trainers report with `EpochReport.seconds`; and
how long a model takes to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

#: The parts of an attempt, one after the other.
WAITING, DOWNLOAD, FIRST_BATCH, EPOCHS, UPLOAD = ("waiting", "download", "first_batch", "epochs", "upload")

#: The parts of an epoch: waiting for the next batch, training on it, validation.
LOADING, COMPUTING, VALIDATING = PARTS = ("loading", "computing", "validating")

#: What is answered, as the names of an evaluation's ``timings`` begin, and in words.
ANSWERS = {"latency": "one image", "batch_latency": "a batch of the training's size"}


class Stopwatch:
    """Counts from the end of a process's first batch on: what comes before is the training's start, not an epoch."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._at: float | None = None
        self._parts: dict[str, float] = {}

    def begin(self) -> None:
        """Begins, with the first batch that is done; later calls change nothing."""
        if self._at is None:
            self._at = self._clock()

    def lap(self, part: str | None = None) -> None:
        """Counts the seconds since the last lap as ``part``'s, or as nobody's."""
        if self._at is None:
            return
        now = self._clock()
        if part is not None:
            self._parts[part] = self._parts.get(part, 0.0) + now - self._at
        self._at = now

    def epoch(self) -> dict[str, float]:
        """The seconds of the epoch that ends now, by part; empty where none was counted."""
        parts, self._parts = self._parts, {}
        return parts


def described(timings: Mapping[str, float]) -> list[tuple[str, str]]:
    """What a training's ``timings`` say, as names and texts for people; of an older receipt what it has."""

    def seconds(name: str) -> str:
        return f"{timings[f'{name}_seconds']:,.1f} s"

    def has(name: str) -> bool:
        return f"{name}_seconds" in timings

    rows = [("in all", f"{timings['seconds']:,.1f} s")] if "seconds" in timings else []
    if timings.get("earlier_seconds"):
        rows.append(("earlier attempts", seconds("earlier")))
    rows += [(part.replace("_", " "), seconds(part)) for part in (WAITING, DOWNLOAD, FIRST_BATCH) if has(part)]
    if has(EPOCHS):
        parts = ", ".join(f"{part} {seconds(part)}" for part in PARTS if has(part))
        rows.append((EPOCHS, f"{seconds(EPOCHS)} ({parts})" if parts else seconds(EPOCHS)))
    if has(UPLOAD):
        beside = f" (checkpoints beside the epochs: {seconds('checkpoint_upload')})" if has("checkpoint_upload") else ""
        rows.append((UPLOAD, seconds(UPLOAD) + beside))
    if "images_per_second" in timings:
        rows.append(("images a second", f"{timings['images_per_second']:,.1f}"))
    if "peak_gpu_bytes" in timings:
        rows.append(("GPU memory at most", f"{timings['peak_gpu_bytes'] / 1e9:,.2f} GB"))
    if timings.get("gpu_hours"):
        rows.append(("GPU hours", f"{timings['gpu_hours']:,.4f}"))
    return rows


def of_answers(timings: Mapping[str, float]) -> dict[str, float]:
    """Those of an evaluation's ``timings`` that say how long an answer takes."""
    return {name: value for name, value in timings.items() if name.startswith(tuple(f"{each}_" for each in ANSWERS))}


def described_answers(timings: Mapping[str, float]) -> list[tuple[str, str]]:
    """What they say, as names and texts for people; empty for a receipt without."""

    def text(name: str) -> str:
        median, p95 = (1000 * timings[f"{name}_{entry}_seconds"] for entry in ("median", "p95"))
        return f"{median:,.1f} ms (95 % within {p95:,.1f} ms)"

    return [(words, text(name)) for name, words in ANSWERS.items() if f"{name}_median_seconds" in timings]
