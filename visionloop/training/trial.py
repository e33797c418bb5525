"""What training on one batch has to show before hours are spent: a loss that makes sense, that falls, and gradients everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from visionloop.core.errors import InvalidDataset
from visionloop.training.trainers import BatchTrial

#: The most steps on the batch, and the least before a fall of the loss ends them.
STEPS = 30
LEAST_STEPS = 5

#: The share of the highest loss that has to be gone at its end, and the share of the first one that ends it earlier. The loss of a detector
#: may rise before it falls: it is divided by how well objects are found, which is hardly at all at the beginning.
FALL = 0.01
ENOUGH = 0.1

#: How many times the loss of a model that knows nothing the first loss may be, and the most where that is not known.
TIMES_CHANCE = 20
MOST = 1e4

#: Steps over which the learning rate rises to that after the warm-up.
WARM_UP = 10

#: Parts that a sentence names.
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """A check that passed: its name, and what was seen."""

    check: str
    seen: str


def is_enough(losses: Sequence[float]) -> bool:
    """Whether a trial has shown what it can: a loss that is not finite, one that has fallen by a tenth, or all steps."""
    steps = len(losses) - 1
    if not math.isfinite(losses[-1]) or steps >= STEPS:
        return True
    return steps >= LEAST_STEPS and min(losses[1:]) <= losses[0] * (1 - ENOUGH)


def rate(first: float, step: int) -> float:
    """The learning rate of a step, counted from 0; ``first`` is that after the warm-up."""
    return first * min(1.0, (step + 1) / WARM_UP)


def judged(trial: BatchTrial, lr0: object) -> list[Finding]:
    """What was seen of each check.

    Args:
        trial: What the trainer has done.
        lr0: The learning rate, for the sentence.

    Raises:
        InvalidDataset: If a check fails, with what to do.
    """
    if not trial.trained:
        raise InvalidDataset(
            f"Nothing would be trained: all {trial.weights:,} weights of the model are frozen; set freeze to less."
        )
    first, *later = trial.losses
    _check_start(first, trial.chance)
    _check_gradients(trial)
    _check_fall(first, later, lr0, trial.images)
    highest, lowest = _fall(trial.losses)
    moved = f"{first:.4g} up to {highest:.4g}, then down" if highest > first else f"{first:.4g}"
    compared = f", where guessing gives {trial.chance:.4g}" if trial.chance is not None else ""
    frozen = trial.weights - trial.trained
    also = f"; {frozen:,} of {trial.weights:,} weights are frozen" if frozen else ""
    return [
        Finding("loss", f"{first:.4g} at the start{compared}"),
        Finding("gradients", f"in each of {len(trial.gradients)} parts of the model{also}"),
        Finding(
            "overfitting",
            f"{moved} to {lowest:.4g} in {len(later)} steps on one batch of {trial.images} images",
        ),
    ]


def _check_start(first: float, chance: float | None) -> None:
    if not math.isfinite(first):
        raise InvalidDataset(
            f"The loss of the first batch is {first}: look at the starting weights, the labels of its images, and amp (set amp=false to train "
            "without mixed precision)."
        )
    most = MOST if chance is None else TIMES_CHANCE * chance
    if not 0 <= first <= most:
        guessing = f" and guessing gives {chance:.4g}" if chance is not None else ""
        raise InvalidDataset(
            f"The loss of the first batch is {first:.4g}, outside what makes sense (0 to {most:.4g}{guessing}): look at the starting weights, and "
            "at the labels of its images."
        )


def _check_gradients(trial: BatchTrial) -> None:
    without = [part for part, norm in trial.gradients.items() if not norm > 0]
    if without:
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        raise InvalidDataset(
            f"No gradients arrive in {', '.join(islice(without, NAMED))}{more} of the model, though {'it is' if len(without) == 1 else 'they are'} "
            "trained: its loss does not depend on them; freeze them, or correct the model."
        )


def _check_fall(first: float, later: Sequence[float], lr0: object, images: int) -> None:
    if not math.isfinite(later[-1]):
        raise InvalidDataset(
            f"Trained on one batch of {images} images, the loss is no longer finite after {len(later)} steps (it began at {first:.4g}): lower lr0 "
            f"(now {lr0}), or set amp=false."
        )
    highest, lowest = _fall([first, *later])
    if lowest > highest * (1 - FALL):
        raise InvalidDataset(
            f"Trained on one batch of {images} images, the loss did not fall in {len(later)} steps ({first:.4g} at the start, {later[-1]:.4g} at the "
            f"end): raise lr0 (now {lr0}) where it stays as it was, lower it where it rises, freeze less, or look at the labels."
        )


def _fall(losses: Sequence[float]) -> tuple[float, float]:
    """The highest loss, and the lowest from there on."""
    peak = max(range(len(losses)), key=losses.__getitem__)
    return losses[peak], min(losses[peak:])
