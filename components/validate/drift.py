"""Drift against the snapshot that the champion was trained on, which snapshot named in the run's record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.snapshot.baseline import SCALAR
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts
from visionloop.core.errors import VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.stage import Context
from visionloop.data.annotations.drift import Drift, compare, profile
from visionloop.data.annotations.tables import Annotations


@dataclass(frozen=True)
class Baseline:
    """What is compared with.

    Attributes:
        snapshot: The champion's snapshot.
        report: The receipt of its validation, where its brightness counts: in the mode ``full``, if it was validated so too.
        named: The receipts' URIs as the run's record names them.
    """

    snapshot: Snapshot
    report: Result | None
    named: dict[str, Any]

    def content(self) -> dict[str, str]:
        """What of it decides the result, for the key."""
        content = {"snapshot": self.snapshot.id}
        return content if self.report is None else content | {"report": self.report.receipt.outputs["report"].sha256}


def of_run(context: Context, snapshot: Snapshot, mode: str) -> tuple[Baseline | None, list[str]]:
    """What the run's snapshot is compared with, and a notice where it can't be, or not any more."""
    named = context.scalars_of("snapshot").get(SCALAR)
    if not isinstance(named, dict):
        return None, []
    try:
        theirs = Snapshot(receipts.nearest(str(named["snapshot"]), "snapshot", context.workspace))
        report = _with_brightness(str(named["report"]), context) if mode == "full" else None
    except (VisionloopError, KeyError) as error:
        why = error.sentence if isinstance(error, VisionloopError) else f"no {error}"
        return None, [f"drift is not measured: the champion's snapshot can't be read any more ({why.rstrip('.')})."]
    if theirs.id == snapshot.id:
        return None, []
    if theirs.task != snapshot.task:
        return None, [
            f"drift is not measured: the champion was trained for {theirs.task}, and this dataset is for {snapshot.task}."
        ]
    return Baseline(theirs, report, named), []


def _with_brightness(uri: str, context: Context) -> Result | None:
    """The receipt of a report with the images' brightness; None where there is no such report any more."""
    try:
        result = receipts.nearest(uri, "validate", context.workspace)
        return result if validation.read(result).brightness else None
    except VisionloopError:
        return None


def measured(read: Annotations, baseline: Baseline, brightness: Sequence[int], threshold: float) -> list[Drift]:
    """How far a dataset is from what it is compared with.

    Args:
        read: The dataset's annotations.
        baseline: What is compared with.
        brightness: The dataset's images by brightness; empty where no pixels were read.
        threshold: The distance from which a difference is drift.
    """
    theirs = validation.read(baseline.report).brightness if baseline.report is not None else []
    return compare(profile(baseline.snapshot.annotations, theirs), profile(read, brightness), threshold)


def reported(measures: Sequence[Drift]) -> list[validation.MeasuredDrift]:
    """The measures as the report holds them, with six decimals."""
    return [
        validation.MeasuredDrift(
            measure=part.measure,
            distance=round(part.distance, 6),
            chance=round(part.chance, 6),
            threshold=part.threshold,
            drifted=part.drifted,
            sentence=part.sentence,
        )
        for part in measures
    ]
