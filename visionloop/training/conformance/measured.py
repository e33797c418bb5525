"""Checks of an evaluation of the best model, which runs in this process as it does in the evaluate stage."""

from __future__ import annotations

import math

import numpy as np

from visionloop.data.view import LABELS
from visionloop.training.conformance import samples
from visionloop.training.conformance.declaration import METRICS
from visionloop.training.conformance.outcomes import Broken, Checks, NotChecked, require
from visionloop.training.conformance.subject import Subject
from visionloop.training.conformance.trained import check_values

CHECKS: Checks[Subject] = Checks()

#: By how much a metric that is measured again may differ: libraries compute in single precision.
TOLERANCE = 1e-4


@CHECKS.add
def evaluation(subject: Subject) -> None:
    """An evaluation measures the task's metrics on every image, over all and by class."""
    result, batches = subject.evaluation, subject.evaluated
    require(
        batches and batches[-1][0] == batches[-1][1],
        "It does not call on_batch up to the last batch: it is the sign of life.",
    )
    require(
        result.images == samples.COUNTS["test"],
        f"images is {result.images}, and the split has {samples.COUNTS['test']}: measure each.",
    )
    missing = [name for name in METRICS[subject.task] if name not in result.metrics and name not in result.not_measured]
    require(not missing, f"metrics lacks {', '.join(missing)}: measure it, or give the reason in not_measured.")
    check_values(result.metrics, subject.task, "metrics")
    classes = tuple(result.classes or samples.CLASSES)
    require(classes == samples.CLASSES, f"classes are {classes}, and the model was trained on {samples.CLASSES}.")
    strange = [name for name in {*result.per_class, *result.not_measured_per_class} if name not in classes]
    require(not strange, f"per_class has {', '.join(map(str, strange))}: use the classes' names.")
    for name, values in result.per_class.items():
        check_values(values, subject.task, f"per_class of {name}")


@CHECKS.add
def absent_class(subject: Subject) -> None:
    """A class that the split lacks is not measured, with a reason, and never 0."""
    result, absent = subject.evaluation, samples.CLASSES[samples.ABSENT]
    values = result.per_class.get(absent, {})
    require(not values, f"per_class has {dict(values)} for {absent}, of which the split has nothing: leave it out.")
    reasons = result.not_measured_per_class.get(absent, {})
    require(
        reasons and all(reasons.values()),
        f"not_measured_per_class has no reason for {absent}, of which the split has nothing: give one.",
    )
    present = [name for name in samples.CLASSES if name != absent]
    missing = [name for name in present if not result.per_class.get(name)]
    require(not missing, f"per_class lacks {', '.join(missing)}, of which the split has some: measure it.")


@CHECKS.add
def confusion(subject: Subject) -> None:
    """The confusion matrix has a row and a column for each class, and for the background where there are objects."""
    matrix = np.array([list(row) for row in subject.evaluation.confusion])
    if not matrix.size:
        raise NotChecked("Not checked: it gives no confusion matrix; the report then has none.")
    side = len(samples.CLASSES) + (subject.task != "classification")
    require(
        matrix.shape == (side, side),
        f"confusion has the shape {matrix.shape}, not {(side, side)}: rows predicted, columns true.",
    )
    require((matrix >= 0).all() and (matrix == matrix.round()).all(), "confusion has numbers that are not counts.")
    require(
        not matrix[:, samples.ABSENT].any(),
        "confusion has true objects of the class that the split lacks: columns are the true classes.",
    )


@CHECKS.add
def resampled(subject: Subject) -> None:
    """A metric that is measured again with each image once is the metric."""
    result = subject.evaluation
    if result.resampled is None:
        raise NotChecked("Not checked: it measures no part of the split; evaluate then has no interval.")
    once = np.ones(result.images, int)
    primary = str(subject.config.values["primary_metric"])
    value, metric = result.resampled(primary, once), result.metrics.get(primary)
    if value is None or metric is None:
        raise Broken(f"resampled({primary!r}, …) is {value}, and the metric {metric}: measure both.")
    require(
        math.isclose(value, metric, abs_tol=TOLERANCE),
        f"resampled({primary!r}, ones) is {value}, and the metric {metric}.",
    )
    require(
        result.resampled(primary, once * 0) is None, f"resampled({primary!r}, zeros) measures nothing, and is not None."
    )


@CHECKS.add
def unlabelled(subject: Subject) -> None:
    """Without a labelled object nothing is measured, with a reason, and no metric is 0."""
    if subject.task == "classification":
        raise NotChecked("Not checked: an image without a class is in no class folder.")
    result = subject.evaluate(subject.unlabelled)
    names = METRICS[subject.task]
    measured = {name: value for name, value in result.metrics.items() if name in names}
    require(
        not measured, f"Without a labelled object metrics has {measured}: leave them out, a 0 would be a measurement."
    )
    missing = [name for name in names if not result.not_measured.get(name)]
    require(not missing, f"Without a labelled object not_measured has no reason for {', '.join(missing)}: give one.")
    require(
        not any(result.per_class.values()),
        f"Without a labelled object per_class has {dict(result.per_class)}: leave them out.",
    )


@CHECKS.add
def folders(subject: Subject) -> None:
    """A dataset with the labels' archive and one without give the same measurement."""
    if subject.task == "classification":
        raise NotChecked("Not checked: class folders have no archive of labels.")
    first, second = subject.evaluation, subject.evaluate(subject.plain)
    require(
        first.metrics == second.metrics and first.per_class == second.per_class,
        f"With {LABELS} the metrics are {dict(first.metrics)}, without it {dict(second.metrics)}: read both.",
    )
