"""Checks of what the loaded model answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from visionloop.training.conformance import samples
from visionloop.training.conformance.outcomes import Checks, NotChecked, require
from visionloop.training.conformance.subject import Subject
from visionloop.training.trainers import Prediction, PredictionSettings

CHECKS: Checks[Subject] = Checks()

#: By how much a coordinate may lie outside, in pixels: rounding.
ROUNDING = 0.01


@CHECKS.add
def classes(subject: Subject) -> None:
    """The loaded model has the classes in the order of the dataset."""
    named = tuple(subject.predictor.classes)
    require(
        named == samples.CLASSES,
        f"classes are {named}, and the model was trained on {samples.CLASSES}: keep them in order.",
    )


@CHECKS.add
def sizes(subject: Subject) -> str:
    """Pictures of any size are taken, and there is one answer for each."""
    answers = subject.answers
    require(
        len(answers) == len(samples.SHAPES),
        f"For {len(samples.SHAPES)} pictures there are {len(answers)} answers: give one for each, in order.",
    )
    shapes = ", ".join(f"{width} × {height}" for height, width in samples.SHAPES)
    return f"Pictures of {shapes} are taken, and there is one answer for each."


@CHECKS.add
def order(subject: Subject) -> None:
    """The most confident answer comes first, and confidences lie between 0 and 1."""
    for predictions in subject.answers:
        values = [prediction.confidence for prediction in predictions]
        require(all(0 <= value <= 1 for value in values), f"A confidence is not from 0 to 1: {values[:5]}.")
        require(
            values == sorted(values, reverse=True),
            f"The confidences come as {values[:5]}: give the most confident first.",
        )


@CHECKS.add
def fields(subject: Subject) -> None:
    """Each answer has what its task has, and nothing else."""
    _seen(subject)
    for predictions in subject.answers:
        for prediction in predictions:
            require(
                isinstance(prediction, Prediction) and 0 <= prediction.class_index < len(samples.CLASSES),
                f"An answer is {prediction}: give a Prediction with the number of a class.",
            )
            _check_fields(prediction, subject.task)


@CHECKS.add
def coordinates(subject: Subject) -> None:
    """Boxes, outlines and keypoints lie in the picture, in its pixels."""
    if subject.task == "classification":
        raise NotChecked("Not checked: a class of a whole image has no coordinates.")
    _seen(subject)
    for (height, width), predictions in zip(samples.SHAPES, subject.answers, strict=True):
        for prediction in predictions:
            left, top, right, bottom = prediction.box or (0, 0, 0, 0)
            require(left <= right and top <= bottom, f"A box is {prediction.box}: give x1, y1, x2, y2.")
            points = [(left, top), (right, bottom), *((x, y) for x, y, _ in prediction.keypoints.values())]
            for outline in (*prediction.polygons, *prediction.holes):
                points += zip(outline[::2], outline[1::2], strict=True)
            outside = [
                (x, y)
                for x, y in points
                if not (-ROUNDING <= x <= width + ROUNDING and -ROUNDING <= y <= height + ROUNDING)
            ]
            require(
                not outside,
                f"In a picture of {width} × {height} something lies at {outside[:1]}: give pixels of the picture, inside it.",
            )


@CHECKS.add
def confidence(subject: Subject) -> None:
    """Nothing is answered below the least confidence, nor more classes than were asked for."""
    if subject.task == "classification":
        for count in (1, 2):
            (predictions,) = subject.predictor.predict(iter(samples.unusual()[-1:]), PredictionSettings(classes=count))
            require(
                len(predictions) == count,
                f"{count} of {len(samples.CLASSES)} classes were asked for, and {len(predictions)} are given.",
            )
        return
    values = sorted(prediction.confidence for prediction in _seen(subject))
    middle = (values[0] + values[-1]) / 2 if len(values) > 1 else min(1.0, values[0] + 0.01)
    for predictions in subject.predictor.predict(iter(samples.unusual()), PredictionSettings(confidence=middle)):
        below = [prediction.confidence for prediction in predictions if prediction.confidence < middle]
        require(not below, f"With a least confidence of {middle:.4f} it answers {below[:1]}: leave it out.")


@CHECKS.add
def masks(subject: Subject) -> None:
    """Masks are given where they are asked for, and only there."""
    if subject.task != "segmentation":
        raise NotChecked(f"Not checked: {subject.task} has no masks.")
    seen = _seen(subject)
    require(
        all(prediction.mask is None for prediction in seen), "A mask is given that was not asked for: leave it out."
    )
    asked = subject.predictor.predict(iter(samples.unusual()), PredictionSettings(confidence=samples.LEAST, masks=True))
    outlined = [prediction for predictions in asked for prediction in predictions if prediction.polygons]
    if not outlined:
        raise NotChecked("Not checked: no answer of the model has an outline.")
    require(
        all(isinstance(prediction.mask, str) for prediction in outlined),
        "An answer with an outline has no mask, though masks were asked for.",
    )


def _check_fields(prediction: Prediction, task: str) -> None:
    if task == "classification":
        extra = prediction.box or prediction.polygons or prediction.keypoints or prediction.mask
        require(not extra, f"A class of a whole image has {extra}: leave box, polygons, keypoints and mask out.")
        return
    box: Sequence[float] = prediction.box or ()
    require(len(box) == 4 and all(map(math.isfinite, box)), f"A box is {prediction.box}: give x1, y1, x2, y2.")
    require(
        task == "segmentation" or not (prediction.polygons or prediction.mask),
        f"An object of {task} has an outline: leave it out.",
    )
    for outline in (*prediction.polygons, *prediction.holes):
        require(
            len(outline) >= 6 and len(outline) % 2 == 0,
            f"An outline has {len(outline)} numbers: give x1, y1, x2, y2 … of three points or more.",
        )
    names = list(prediction.keypoints)
    wanted = list(samples.KEYPOINTS) if task == "pose" else []
    require(
        names == wanted, f"The keypoints are {names}, not {wanted}: use the names in job.keypoints, in their order."
    )


def _seen(subject: Subject) -> list[Prediction]:
    """All answers. Raises NotChecked without any."""
    predictions = [prediction for answer in subject.answers for prediction in answer]
    if not predictions:
        raise NotChecked("Not checked: the model saw nothing in the pictures.")
    return predictions
