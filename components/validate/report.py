"""The validation report: ``report.json``, the stage's result."""

from __future__ import annotations

from typing import Any

import msgspec

from visionloop.core import structs
from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result


class ReportedFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding: severity ``error`` or ``warning``, a code, the image if it concerns one, and the sentence."""

    severity: str
    code: str
    file_name: str | None
    field: str
    sentence: str


class MeasuredDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far the dataset is from the one that the champion was trained on, in one measure (``data.annotations.drift.Drift``)."""

    measure: str
    distance: float
    chance: float
    threshold: float
    drifted: bool
    sentence: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How many images were checked, what was found, and which images are left out of training.

    ``labels`` counts the labels that convert keeps by split, ``labels_left_out`` the objects that become none, by reason.
    ``brightness`` counts images by the mean of their pixels, 0 to 255, in the mode ``full``; ``baseline`` is the id of the snapshot
    that the champion was trained on, and ``drift`` how far this one is from it.
    ``checks`` holds what of the checks was not the default: by code its severity, ``off`` among them, and its threshold.
    """

    schema: int = 1
    snapshot_id: str
    mode: str
    images: int
    errors: int
    warnings: int
    quarantined: list[str]
    findings: list[ReportedFinding]
    labels: dict[str, int] = {}
    labels_left_out: dict[str, int] = {}
    checks: dict[str, dict[str, Any]] = {}
    brightness: list[int] = []
    baseline: str = ""
    drift: list[MeasuredDrift] = []

    def encode(self) -> bytes:
        """Canonical JSON, because it is a result."""
        return canonical(msgspec.to_builtins(self))


def read(result: Result) -> Report:
    """Reads the report of a validate receipt."""
    try:
        return structs.decode(result.read("report"), Report)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{result.uri}: report.json is not a report ({error}); validate again.") from error
