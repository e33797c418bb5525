"""Which epoch is the best, and when to stop, by the configured metric."""

from __future__ import annotations

from dataclasses import dataclass

#: The notice where val has no ground truth.
UNLABELLED = "val has no label, so no epoch is measured, and the best epoch is the last one."


@dataclass
class Best:
    """The best epoch so far by the primary metric; called after each epoch, it returns whether to stop early.

    A metric that is still 0 does not show which epoch is better: while the best value to be maximised is 0, the latest
    epoch counts as the best, and patience does not run. So it is, whatever the mode, where nothing can be measured.

    Attributes:
        mode: ``max`` or ``min``.
        patience: Epochs without a better value after which training stops; with 0 it never does.
        epoch: The best epoch, 1-based, 0 before the first.
        value: Its value.
    """

    mode: str
    patience: int
    epoch: int = 0
    value: float = 0.0

    def __call__(self, epoch: int, value: float | None) -> bool:
        """Records an epoch's value, None without a measurement, and returns whether patience has run out."""
        if value is None:
            self.epoch = epoch
        elif self.improved_by(value):
            self.epoch, self.value = epoch, value
        return bool(self.patience) and epoch - self.epoch >= self.patience

    def improved_by(self, value: float) -> bool:
        """Whether an epoch with this value is the new best."""
        if self.epoch == 0:
            return True
        if self.mode == "min":
            return value < self.value
        return value > self.value or self.value == 0 == value
