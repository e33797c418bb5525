"""What is measured of objects is what the Ultralytics trainer measures of the same detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import CLASSES, SIZE, Picture, measured, picture

from visionloop.training.measurement.matches import unpacked
from visionloop.training.measurement.objects import MEASURES
from visionloop.training.trainers import Evaluation
from visionloop.training.trainers.ultralytics.environment import library
from visionloop.training.trainers.ultralytics.evaluation import _of_objects
from visionloop.training.trainers.ultralytics.progress import val_metrics
from visionloop.training.trainers.ultralytics.tasks import TASKS


def of_the_library(task: str, pictures: list[Picture], tmp_path: Path) -> tuple[dict[str, Any], Evaluation]:
    """The Ultralytics trainer's validation of pictures: what the library notes of each detection, and the evaluation."""
    import torch

    from visionloop.training.trainers.ultralytics.validation import validation_class  # loads the library

    validator = validation_class(task)(lambda *_: None, save_dir=tmp_path, args={"plots": False})
    keypoints = pictures[0].objects.keypoints.shape[1]
    if task == "pose":
        sigmas = library().utils.metrics.OKS_SIGMA
        validator.sigma = sigmas if keypoints == 17 else np.ones(keypoints) / keypoints
    validator.seen = len(pictures)
    validator.crowds = {f"{number}.png": shown.crowds for number, shown in enumerate(pictures)}
    confusion = library().utils.metrics.ConfusionMatrix(dict(enumerate(CLASSES)))
    for number, shown in enumerate(pictures):
        detections, objects = shown.detections, shown.objects
        predicted = {
            "cls": torch.tensor(detections.classes).float(),
            "conf": torch.tensor(detections.confidence),
            "bboxes": torch.tensor(detections.boxes),
            "masks": torch.tensor(detections.masks),
            "keypoints": torch.tensor(detections.keypoints),
        }
        true: dict[str, Any] = {
            "cls": torch.tensor(objects.classes).float(),
            "bboxes": torch.tensor(objects.boxes),
            "masks": torch.tensor(objects.masks).float(),
            "keypoints": torch.tensor(objects.keypoints),
            "im_file": f"{number}.png",
            "ori_shape": (SIZE, SIZE),
            "ratio_pad": ((1.0, 1.0), (0.0, 0.0)),
        }
        right = validator._process_batch(predicted, true)
        classes = true["cls"].numpy()
        rest = {"target_cls": classes, "target_img": np.unique(classes), "im_name": f"{number}.png"}
        columns = {"conf": predicted["conf"].numpy(), "pred_cls": predicted["cls"].numpy()}
        validator.metrics.update_stats({**right, **rest, **columns})
        confusion.process_batch(predicted, true, conf=0.25)
    validator.metrics.names = dict(enumerate(CLASSES))
    stats = {name: np.concatenate(rows) for name, rows in validator.metrics.stats.items()}
    values = val_metrics(validator.get_stats())
    evaluation = _of_objects(validator, values, TASKS[task].measures, CLASSES, "val")
    return stats, replace(evaluation, confusion=confusion.matrix.tolist())


def compare(task: str, pictures: list[Picture], tmp_path: Path) -> Evaluation:
    """Compares both measurements, and returns ours."""
    measurement = measured(task, pictures)
    ours = measurement.evaluation()
    stats, theirs = of_the_library(task, pictures, tmp_path)
    for measure in TASKS[task].measures:
        assert (unpacked(np.array(measurement._right[measure.prefix])) == stats[measure.right]).all()
    assert ours.confusion == theirs.confusion
    assert ours.metrics == pytest.approx(dict(theirs.metrics), abs=1e-9)
    assert list(ours.metrics) == list(theirs.metrics)
    assert list(ours.per_class) == list(theirs.per_class)
    for name, values in theirs.per_class.items():
        assert ours.per_class[name] == pytest.approx(dict(values), abs=1e-9)
    assert (list(ours.right), list(ours.wrong)) == (list(theirs.right), list(theirs.wrong))
    assert ours.curves == theirs.curves
    assert ours.not_measured == theirs.not_measured
    assert ours.not_measured_per_class == theirs.not_measured_per_class
    assert ours.images == theirs.images
    return ours


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("task", tuple(MEASURES))
@pytest.mark.parametrize("crowds", [False, True])
def test_it_measures_what_the_ultralytics_trainer_measures(task: str, crowds: bool, seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    pictures = [picture(generator, crowds=crowds) for _ in range(60)]
    assert any(not len(shown.objects.classes) for shown in pictures)
    assert any(not len(shown.detections.classes) for shown in pictures)
    evaluation = compare(task, pictures, tmp_path)
    prefix = MEASURES[task][-1].prefix
    assert 0 < evaluation.metrics[prefix + "mAP50-95"] < evaluation.metrics[prefix + "mAP50"] < 1
    assert set(evaluation.not_measured_per_class) == {"dog", "eel"}
    if crowds:
        aside = sum(len(shown.detections.classes) for shown in pictures) - len(evaluation.right) - len(evaluation.wrong)
        assert aside > 5


def test_17_keypoints_are_compared_as_cocos(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    evaluation = compare("pose", [picture(generator, keypoints=17) for _ in range(40)], tmp_path)
    assert 0 < evaluation.metrics["pose_mAP50-95"] < 1


# The true masks

SIDE = 128


def square(x: float, y: float, side: float, height: float | None = None) -> np.ndarray:
    right, bottom = x + side, y + (side if height is None else height)
    return np.array([[x, y], [right, y], [right, bottom], [x, bottom]], np.float32)


def two_parts(x: float, y: float) -> np.ndarray:
    """Two squares of 32 pixels in one outline, as convert joins them: there and back between the nearest points."""
    first, second = square(x, y, 32), square(x + 60, y + 40, 32)
    return np.concatenate([first[:3], second, second[:1], first[2:]])


SHAPES = {
    "squares": [square(20.3 + step, 30.6 + step / 2, side) for side in (8, 16, 32, 64) for step in range(4)],
    "of two parts": [two_parts(3 + step, 10 + step) for step in range(4)],
    "thin": [square(10 + step, 20, width, 60) for width in (0.4, 1, 2, 3) for step in range(4)],
    "at the borders": [square(0, 0, 40), square(SIDE - 40, SIDE - 30, 40, 30), square(0, 0, SIDE)],
    "slanted": [
        np.array([[5.5 + step, 9], [90, 17.5 + step], [110.2, 100], [30, 77]], np.float32) for step in range(4)
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_true_masks_are_those_of_the_library(shape: str) -> None:
    from visionloop.training.pytorch.objects import pictures
    from visionloop.training.pytorch.objects.measuring import SHRUNK

    ours = pictures.drawn(SHAPES[shape], SIDE, SHRUNK)
    theirs = library().data.utils.polygons2masks((SIDE, SIDE), SHAPES[shape], 1, SHRUNK)
    assert ours.shape == theirs.shape == (len(SHAPES[shape]), SIDE // SHRUNK, SIDE // SHRUNK)
    assert (ours == theirs).all()


@pytest.mark.parametrize(("side", "least"), [(16, 0.85), (32, 0.92), (64, 0.95)])
def test_a_square_that_is_found_has_nearly_the_true_mask(side: int, least: float) -> None:
    from visionloop.training.measurement.objects import MASKS
    from visionloop.training.pytorch.objects.detector import Found
    from visionloop.training.pytorch.objects.measuring import _detections, _true
    from visionloop.training.pytorch.objects.pictures import Targets

    shared = []
    for step in range(16):
        outline = square(20 + step % 4, 20 + step // 4, side)
        box = np.concatenate([outline.min(0), outline.max(0)])[None]
        result = Found(box, np.zeros(1, np.int64), np.ones(1, np.float32), np.ones((1, 28, 28), np.float32))
        true = _true(Targets(np.zeros(1, np.int64), box, [outline], None), "segmentation", SIDE)
        shared.append(MASKS.overlaps(true, _detections(result, (SIDE, SIDE), SIDE)).item())
    assert np.mean(shared) > least
