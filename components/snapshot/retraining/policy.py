"""The retraining policy: its file, and the decision from the figures alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from visionloop.training.configuration.option_file import read_option_file

#: The values that the condition of every task after snapshot compares with.
GO, SKIP = "true", "false"


class RetrainingPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of ``--retraining``; every field is optional.

    The first three are reasons to go on, of which one is enough; without any of them, every change of the dataset is one. The
    last two are limits, which apply whatever the reason.

    Attributes:
        min_new_images: Labelled images that the champion's snapshot did not have.
        drift_above: Total variation distance between the class frequencies of the champion's snapshot and this one, 0 to 1.
        champion_older_than_days: Days since the champion was trained.
        max_runs_per_week: Runs of this model in 7 days whose train stage computed.
        max_gpu_hours_per_month: GPU hours of this model's trainings since the first of the month (UTC).
    """

    min_new_images: Annotated[int, Meta(ge=1)] | None = None
    drift_above: Annotated[float, Meta(ge=0, le=1)] | None = None
    champion_older_than_days: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    max_runs_per_week: Annotated[int, Meta(ge=0)] | None = None
    max_gpu_hours_per_month: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None

    @property
    def limits(self) -> bool:
        """Whether earlier runs must be counted."""
        return self.max_runs_per_week is not None or self.max_gpu_hours_per_month is not None


@dataclass(frozen=True)
class Comparison:
    """A dataset compared with the champion's snapshot.

    Attributes:
        snapshot: The id of the champion's snapshot.
        unchanged: Whether this is the same snapshot that the champion was trained on.
        new_images: The number of images with annotations here but not there.
        drift: Total variation distance between the class frequencies, 0 to 1.
        champion_age: Days since the champion was trained.
    """

    snapshot: str
    unchanged: bool
    new_images: int
    drift: float
    champion_age: float


@dataclass(frozen=True)
class Usage:
    """What a model's earlier runs used: the number in the last 7 days, and the month's GPU hours."""

    runs: int = 0
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Whether to go on, and why: one sentence with the figures."""

    go: bool
    reason: str

    def scalars(self) -> dict[str, str]:
        """The scalars that snapshot adds for this run alone."""
        return {"go": GO if self.go else SKIP, "reason": self.reason}


#: The decision of a run without a policy.
ALWAYS = Decision(True, "no retraining policy")


def parse_policy(retraining: str) -> RetrainingPolicy:
    """Reads the policy from a file, a URI, or a text.

    Args:
        retraining: A path, a URI, or JSON or YAML itself (an engine's form has no files).

    Raises:
        InvalidConfig: If it can't be read, or a field is unknown or out of its range.
    """
    return read_option_file("--retraining", retraining, RetrainingPolicy, '{"min_new_images": 50}')


def decide(policy: RetrainingPolicy, comparison: Comparison | str, usage: Usage) -> Decision:
    """Decides whether to go on.

    Args:
        policy: The policy.
        comparison: The dataset compared with the champion's snapshot; a text says why there is nothing to compare with, which
            is a reason to go on.
        usage: What earlier runs used.
    """
    if isinstance(comparison, str):
        reasons = [comparison]
    elif comparison.unchanged:
        return Decision(False, f"skipped: the dataset is still the champion's {comparison.snapshot}")
    else:
        reasons, missed = _reasons(policy, comparison)
        if not reasons:
            return Decision(False, f"skipped: {'; '.join(missed)}")
    if policy.max_runs_per_week is not None and usage.runs >= policy.max_runs_per_week:
        return Decision(False, f"skipped: {_count(usage.runs, 'run')} in 7 days, {policy.max_runs_per_week} allowed")
    if policy.max_gpu_hours_per_month is not None and usage.gpu_hours >= policy.max_gpu_hours_per_month:
        hours = f"{usage.gpu_hours:.4g} GPU hours this month, {policy.max_gpu_hours_per_month:g} allowed"
        return Decision(False, f"skipped: {hours}")
    return Decision(True, f"retraining: {'; '.join(reasons)}")


def _reasons(policy: RetrainingPolicy, comparison: Comparison) -> tuple[list[str], list[str]]:
    """Returns the policy's reasons that hold, and those that do not."""
    checks: list[tuple[bool, str]] = []
    if policy.min_new_images is not None:
        images = _count(comparison.new_images, "new image")
        checks.append((comparison.new_images >= policy.min_new_images, f"{images}, {policy.min_new_images} needed"))
    if policy.drift_above is not None:
        drift = f"drift {comparison.drift:.3g}, more than {policy.drift_above:g} needed"
        checks.append((comparison.drift > policy.drift_above, drift))
    if policy.champion_older_than_days is not None:
        needed = policy.champion_older_than_days
        age = f"champion {comparison.champion_age:.3g} days old, more than {needed:g} needed"
        checks.append((comparison.champion_age > needed, age))
    if not checks:
        checks.append((True, f"the dataset is no longer the champion's {comparison.snapshot}"))
    return [text for holds, text in checks if holds], [text for holds, text in checks if not holds]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
