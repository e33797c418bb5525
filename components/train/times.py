"""Where a training's time went, part by part; `visionloop.training.stopwatch.described` puts it into words."""

from __future__ import annotations

import time
from collections.abc import Callable

from visionloop.training.stopwatch import EPOCHS, FIRST_BATCH, PARTS
from visionloop.training.supervision import channel


class Times:
    """Where one attempt's seconds went: a part begins where the one before ended.

    Attributes:
        train_images: Images of the split train, where the trainer says which it uses.
        checkpoints: Seconds that uploads of checkpoints took, most of them during the epochs.
    """

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``began`` is when the attempt began, by the clock."""
        self._clock, self._at = clock, began
        self._parts: dict[str, float] = {}
        self._of_epochs: dict[str, float] = {}
        self._epochs = 0
        self._peak: int | None = None
        self.train_images = 0
        self.checkpoints = 0.0

    def turn(self, part: str | None) -> None:
        """Counts the seconds since the last turn as ``part``'s; None: as no part's."""
        now = self._clock()
        if part is not None:
            self._parts[part] = self._parts.get(part, 0.0) + now - self._at
        self._at = now

    def batch(self) -> None:
        """A batch is done: with the first one the epochs begin."""
        if FIRST_BATCH not in self._parts and EPOCHS not in self._parts:
            self.turn(FIRST_BATCH)

    def epoch(self, epoch: channel.Epoch) -> None:
        """An epoch is done: takes what the training process says of it."""
        self.turn(EPOCHS)
        self._epochs += 1
        for part in PARTS:
            if part in epoch.seconds:
                self._of_epochs[part] = self._of_epochs.get(part, 0.0) + max(0.0, epoch.seconds[part])
        self._peak = max(self._peak or 0, epoch.peak_gpu_bytes or 0) or None

    def timings(self, batch: int) -> dict[str, float]:
        """The entries of a receipt's ``timings`` that say where this attempt's time went.

        Args:
            batch: Images in a batch: the epochs' seconds leave out the first batch, so its images do not count for the speed.
        """
        timings = {f"{part}_seconds": seconds for part, seconds in self._parts.items()}
        epochs = self._parts.get(EPOCHS, 0.0)
        # A trainer that reports more time than has passed has not measured it.
        if sum(self._of_epochs.values()) <= epochs:
            timings |= {f"{part}_seconds": seconds for part, seconds in self._of_epochs.items()}
        if self.checkpoints:
            timings["checkpoint_upload_seconds"] = self.checkpoints
        images = self._epochs * self.train_images - batch
        if images > 0 and epochs > 0:
            timings["images_per_second"] = images / epochs
        if self._peak is not None:
            timings["peak_gpu_bytes"] = float(self._peak)
        return {name: round(value, 3) for name, value in timings.items()}
