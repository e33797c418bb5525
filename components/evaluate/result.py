"""``evaluation.json``: what evaluate measured and decided, without a time, host or run id."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from visionloop.components.evaluate.calibration import Calibration
from visionloop.core import structs
from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.data.annotations.split import listed

OUTPUT = "evaluation"


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation.

    Attributes:
        training: The training's result digest; of a checkpoint whose training is not known ``sha256:`` and the file's.
        snapshot: The snapshot's result digest.
        champion: The champion's training digest, ``NAME/VERSION`` if Visionloop did not register it, or ``none``.
        split: The split that was evaluated.
        images: The number of its images that were measured.
        left_out: The reason for each of its images that was not, by file name: the code of validate's finding.
        classes: The candidate's own class names by index.
        shared: The classes that the candidate shares with the champion, on which alone they are compared, or of a model that is only
            measured those that it shares with the dataset; None where both have the same.
        keypoints: For pose the names of its keypoints in their order.
        metrics: The candidate's overall metrics.
        not_measured: The reason for each of them that has no value.
        per_class: The candidate's metrics by class name.
        not_measured_per_class: The reasons by class name.
        coco: COCO's figures (``AP`` to ``AR100``), of masks in a segmentation, else of boxes; empty without an object.
        errors: By kind of mistake its ``count``, the number of ``images`` in which it is the most frequent, and ``dAP``, what AP at an
            overlap of 0.5 would gain without it; empty for a classification.
        calibration: How far confidences are from the share that is right: of detections from a confidence of 0.25 on, or of the likeliest
            classes of images; None where the trainer gives no confidences.
        slices: COCO's ``AP`` and ``AR`` by the objects' size (``size:small``), and by the value of a field (``metadata.source=night``)
            what the gate's metric is on the images that have it, both without a figure where there are too few.
        sliced_images: The number of images that ``coco``, ``errors`` and the sizes cover, the first by file name.
        champion_metrics: The champion's metrics on the images of the comparison; None where there are none.
        seen: How many images the champion was trained on, or a model whose weights it went on from: they are not compared.
        compared_metrics: The candidate's metrics on the images of the comparison; None where these are all of the split.
        compared_per_class: The same by class name.
        difference: The bounds of candidate minus champion of the gate's metric in 95 % of 1,000 samples over these images; None
            where the gate asks for no evidence, or it can't be measured.
        verdict: promote, keep or reject; none where a model was measured and nothing is decided.
        interval: The bounds between which the gate's metric lies in 95 % of 1,000 samples over the images; None where it is
            not measured or the trainer measures no samples.
        reason: The reason for the verdict.
        gate: The gate's resolved content.
        must_pass: Of the images that the gate's ``must_pass`` lists those on which the model is not right, with what is wrong; None
            without a list.
    """

    schema: int = 1
    training: str
    snapshot: str
    champion: str
    split: str
    images: int
    left_out: dict[str, str] = {}
    classes: list[str] = []
    shared: list[str] | None = None
    keypoints: list[str] = []
    metrics: dict[str, float]
    not_measured: dict[str, str] = {}
    per_class: dict[str, dict[str, float]]
    not_measured_per_class: dict[str, dict[str, str]] = {}
    coco: dict[str, float] = {}
    errors: dict[str, dict[str, float]] = {}
    calibration: Calibration | None = None
    slices: dict[str, dict[str, float]] = {}
    sliced_images: int = 0
    champion_metrics: dict[str, float] | None = None
    champion_per_class: dict[str, dict[str, float]] | None = None
    seen: int = 0
    compared_metrics: dict[str, float] | None = None
    compared_per_class: dict[str, dict[str, float]] | None = None
    difference: tuple[float, float] | None = None
    verdict: Literal["promote", "keep", "reject", "none"]
    reason: str
    interval: tuple[float, float] | None = None
    gate: dict[str, Any]
    must_pass: dict[str, str] | None = None

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical(msgspec.to_builtins(self))


def seen_sentence(result: EvaluationResult) -> str:
    """How many images the champion had learned from, and what the candidate has on the others; empty where there is none."""
    if not result.seen:
        return ""
    metric = str(result.gate["primary_metric"])
    value = (result.compared_metrics or {}).get(metric)
    learned = f"The champion, or a model before it, was trained on {result.seen:,} of these images"
    if value is None:
        return f"{learned}, and is not compared."
    return (
        f"{learned}: its values and the differences are those of the other {result.images - result.seen:,}, where the "
        f"candidate's {metric} is {value:.4f}."
    )


def shared_sentence(result: EvaluationResult) -> str:
    """On which classes the champion was compared, where it has others; empty where it has the same, or there is no comparison."""
    if result.shared is None or result.verdict == "none":
        return ""
    metric, number = str(result.gate["primary_metric"]), len(result.shared)
    value = (result.compared_metrics or {}).get(metric)
    own = "" if value is None else f", where the candidate's {metric} is {value:.4f}"
    classes = f"{number:,} class{'' if number == 1 else 'es'}"
    return (
        f"The champion has other classes: its values and the differences are those of the {classes} that both have "
        f"({listed(result.shared)}){own}."
    )


def read(result: Result) -> EvaluationResult:
    """Reads the result of an evaluate receipt. Raises InvalidReceipt."""
    try:
        return structs.decode(result.read(OUTPUT), EvaluationResult)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{result.uri}: evaluation.json is not one ({error}); evaluate again.") from error
