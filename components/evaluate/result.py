"""``evaluation.json``: what evaluate measured and decided, without a time, host or run id."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result

OUTPUT = "evaluation"


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation.

    Attributes:
        training: The training's result digest.
        snapshot: The snapshot's result digest.
        champion: The champion's training digest, ``NAME/VERSION`` if Visionloop did not register it, or ``none``.
        split: The split that was evaluated.
        images: The number of its images.
        metrics: The candidate's overall metrics.
        per_class: The candidate's metrics by class name.
        slices: Precision and recall by the objects' size.
        sliced_images: The number of images that the slices cover, the first by file name.
        champion_metrics: The champion's metrics on the same images; None where there are none.
        verdict: promote, keep or reject.
        reason: The reason for the verdict.
        gate: The gate's resolved content.
    """

    schema: int = 1
    training: str
    snapshot: str
    champion: str
    split: str
    images: int
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    slices: dict[str, dict[str, float]] = {}
    sliced_images: int = 0
    champion_metrics: dict[str, float] | None = None
    champion_per_class: dict[str, dict[str, float]] | None = None
    verdict: Literal["promote", "keep", "reject"]
    reason: str
    gate: dict[str, Any]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))


def read(result: Result) -> EvaluationResult:
    """Reads the result of an evaluate receipt. Raises InvalidReceipt."""
    try:
        return msgspec.json.decode(result.read(OUTPUT), type=EvaluationResult)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{result.uri}: evaluation.json is not one ({error}); evaluate again.") from error
