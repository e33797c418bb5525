"""``export.json`` and ``exports.json``: what an export is and how it was found, and which ones a run made; without a time, host or run id."""

from __future__ import annotations

import msgspec

from visionloop.components.export.formats import Wanted
from visionloop.core import receipts, structs
from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix

#: The outputs of an export besides its files: how it was found. That of a list names the exports.
FOUND, LIST = "export", "exports"


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """The median milliseconds of a picture on the CPU of the machine that exported, without its preparation: of the file, and of the model itself."""

    latency_ms: float
    model_latency_ms: float


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """``export.json``.

    Attributes:
        format: The format.
        precision: ``fp32``.
        accepted: Whether the file finds what the model finds.
        reason: Why not; empty where it is accepted.
        size: Of all files in bytes; 0 where there is none.
        sha256: Of the file; empty where there is none.
        weights_sha256: Of the file of weights beside it; empty where there is none.
        pictures: How many pictures both were run on.
        objects: How many objects were compared on them.
        least_overlap: The least overlap (IoU) of an object's two boxes; None where nothing was compared.
        score_difference: The largest difference of a confidence; None where nothing was compared, or it is not finite.
        further_difference: The same of another output: a keypoint in pixels of the input, a mask.
        metric: What both were measured by on the labels of these images; empty where they were not.
        value: What the file has; None where it was not measured.
        model_value: What the model itself has by the same measurement.
    """

    schema: int = 1
    format: str
    precision: str
    accepted: bool
    reason: str = ""
    size: int = 0
    sha256: str = ""
    weights_sha256: str = ""
    pictures: int = 0
    objects: int = 0
    least_overlap: float | None = None
    score_difference: float | None = None
    further_difference: float | None = None
    metric: str = ""
    value: float | None = None
    model_value: float | None = None

    @property
    def wanted(self) -> Wanted:
        """What was asked for."""
        return Wanted(self.format, self.precision)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))


class Listed(msgspec.Struct, frozen=True):
    """One export of ``exports.json``: the key of its receipt, and its result."""

    key: str
    result: ExportResult


def encode(listed: list[Listed]) -> bytes:
    """``exports.json``."""
    return canonical(msgspec.to_builtins(listed))


def read(result: Result) -> list[Listed]:
    """The exports that an export receipt names. Raises InvalidReceipt."""
    try:
        return structs.decode(result.read(LIST), list[Listed])
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{result.uri}: exports.json is not one ({error}); export again.") from error


def read_one(result: Result) -> ExportResult:
    """``export.json`` of one export's receipt. Raises InvalidReceipt."""
    try:
        return structs.decode(result.read(FOUND), ExportResult)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(
            f"{result.uri}: export.json is not one ({error}); run again with --force export."
        ) from error


def of_key(workspace: Prefix, key: str) -> Result:
    """The receipt of one export. Raises InvalidReceipt if it, or its file, is gone."""
    return receipts.load(f"{workspace.uri}/export/{key}/{receipts.FILE}", "export", workspace)
