"""The Ultralytics trainer on segmentation, pose and classification: resumed to equal bytes, evaluated, predicting."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import ultralytics_training as tiny
from ultralytics_training import train_in_process

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import decode
from visionloop.training.configuration.settings import PRIMARY_METRICS
from visionloop.training.trainers import PredictionSettings, TrainingResult
from visionloop.training.trainers.ultralytics import TRAINER, checkpoint
from visionloop.training.trainers.ultralytics.prediction import _outlined
from visionloop.training.trainers.ultralytics.tasks import TASKS

pytestmark = pytest.mark.slow

OTHER_TASKS = ("segmentation", "pose", "classification")

#: Names of a task's metrics beside those of boxes.
OWN_METRICS = {
    "segmentation": {"mask_mAP50-95", "mask_mAP50", "mask_precision", "mask_recall"},
    "pose": {"pose_mAP50-95", "pose_mAP50", "pose_precision", "pose_recall"},
    "classification": {"accuracy_top1", "accuracy_top5"},
}


@dataclass(frozen=True)
class Trained:
    """A training of two epochs of a task, the same one resumed after its first, and their dataset."""

    task: str
    dataset: Path
    whole: TrainingResult
    resumed: TrainingResult
    used: dict[str, list[str]]


@pytest.fixture(scope="module", params=OTHER_TASKS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    task: str = request.param
    folder = tmp_path_factory.mktemp(task)
    dataset = tiny.write_dataset(folder / "dataset", {"train": 12, "val": 6, "test": 6}, task=task)
    changes = {"task": task, "imgsz": 32, "epochs": 2, "optimizer": "AdamW", "lr0": 0.002}
    whole = TRAINER.train(tiny.job(dataset, folder / "whole", **changes), tiny.Keeping(folder / "store"))
    listener = tiny.SilentListener()
    job = tiny.job(dataset, folder / "resumed", checkpoint=folder / "store" / "epoch_1.pt", **changes)
    return Trained(task, dataset, whole, TRAINER.train(job, listener), listener.used)


def test_a_resumed_training_is_the_same_one(finished: Trained) -> None:
    for name in ("best", "last"):
        whole, resumed = (getattr(result, name).read_bytes() for result in (finished.whole, finished.resumed))
        assert hashlib.sha256(whole).digest() == hashlib.sha256(resumed).digest()
    assert finished.whole.history == finished.resumed.history
    assert {split: len(names) for split, names in finished.used.items()} == {"train": 12, "val": 6}


@pytest.mark.matrix
@pytest.mark.parametrize("task", OTHER_TASKS)
def test_killed_and_resumed_is_the_same_training(task: str, tmp_path: Path) -> None:
    """SIGKILL after epoch 1, resumed, SIGKILL after epoch 2, resumed: equal bytes, equal history."""
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 12, "val": 6}, task=task)
    wanted: dict[str, Any] = {"task": task, "imgsz": 32}
    whole = train_in_process(tmp_path / "whole", dataset, **wanted)
    first = train_in_process(tmp_path / "first", dataset, expect=-9, kill_after=1, **wanted)
    resumed: dict[str, Any] = {"checkpoint": str(first.store / "epoch_1.pt"), **wanted}
    second = train_in_process(tmp_path / "the second", dataset, expect=-9, kill_after=2, **resumed)
    third = train_in_process(
        tmp_path / "and a third", dataset, **{**wanted, "checkpoint": str(second.store / "epoch_2.pt")}
    )
    assert third.output["reported"] == [3]
    for name in ("best", "last"):
        assert Path(third.output[name]).read_bytes() == Path(whole.output[name]).read_bytes()
    for name in ("history", "best_epoch", "epochs"):
        assert third.output[name] == whole.output[name]


def test_each_epoch_has_the_metrics_of_its_task_and_the_primary_one_decides(finished: Trained) -> None:
    metric = PRIMARY_METRICS[finished.task]
    assert metric in OWN_METRICS[finished.task]
    values = [entry["val_metrics"][metric] for entry in finished.whole.history]
    # Where no epoch measures more than 0, the latest one counts.
    best = max(values)
    assert finished.whole.best_epoch == (values.index(best) + 1 if best else len(values))
    for entry in finished.whole.history:
        assert OWN_METRICS[finished.task] <= set(entry["val_metrics"])
        assert entry["val_metrics"]["val_loss"] > 0
        assert entry["train_metrics"]["loss"] > 0


def test_an_evaluation_measures_the_task(finished: Trained, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    config = {"imgsz": 32, "batch": 2, "device": "cpu"}
    evaluation = TRAINER.evaluate(
        finished.whole.best, finished.dataset, "test", config, tmp_path, lambda done, total: heard.append((done, total))
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert evaluation.images == 6
    assert evaluation.classes == tiny.CLASSES
    assert OWN_METRICS[finished.task] <= set(evaluation.metrics)
    assert not evaluation.not_measured
    assert set(evaluation.per_class) == set(tiny.CLASSES)
    assert all(OWN_METRICS[finished.task] <= set(values) for values in evaluation.per_class.values())
    size = 3 if finished.task == "classification" else 4
    assert [len(row) for row in evaluation.confusion] == [size] * size
    assert evaluation.resampled is not None
    for name, value in evaluation.metrics.items():
        assert evaluation.resampled(name, np.ones(6, int)) == pytest.approx(value, abs=1e-6)
    assert evaluation.resampled("val_loss", np.ones(6, int)) is None
    images = {
        str(path.relative_to(finished.dataset)) for path in finished.dataset.rglob("*.png") if "test" in path.parts
    }
    assert len(evaluation.files) == 6
    assert set(evaluation.files) == images


def test_the_images_of_an_evaluation_stand_in_the_order_of_its_samples(finished: Trained, tmp_path: Path) -> None:
    config = {"imgsz": 32, "batch": 2, "device": "cpu"}
    measured = (finished.whole.best, finished.dataset, "test", config, tmp_path / "all", lambda *_: None)
    evaluation, alone = TRAINER.evaluate(*measured), tmp_path / "alone"
    assert evaluation.resampled is not None
    for number, file in enumerate(evaluation.files):
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(finished.dataset, alone)
        for other in set(evaluation.files) - {file}:
            (alone / other).unlink()
        one = TRAINER.evaluate(finished.whole.best, alone, "test", config, tmp_path / f"{number}", lambda *_: None)
        metric = PRIMARY_METRICS[finished.task]
        assert evaluation.resampled(metric, np.eye(6, dtype=int)[number]) == pytest.approx(
            one.metrics[metric], abs=0.01
        )


def test_predictions_are_those_of_the_task(finished: Trained) -> None:
    predictor = TRAINER.predictor(finished.whole.best)
    assert predictor.classes == tiny.CLASSES
    path = next(path for path in sorted(finished.dataset.rglob("*.png")) if "test" in path.parts)
    (predictions,) = predictor.predict([decode(path.read_bytes())], PredictionSettings(confidence=0.00001, masks=True))
    assert predictions
    confidences = [prediction.confidence for prediction in predictions]
    assert confidences == sorted(confidences, reverse=True)
    for prediction in predictions:
        assert (prediction.box is None) == (finished.task == "classification")
        assert set(prediction.keypoints) == (set(tiny.KEYPOINTS) if finished.task == "pose" else set())
        assert (prediction.mask is not None) == (finished.task == "segmentation")
    if finished.task == "classification":
        assert [prediction.class_index for prediction in predictions] != [0, 0, 0]
        assert sum(confidences) == pytest.approx(1)
        (best,) = predictor.predict([decode(path.read_bytes())], PredictionSettings(classes=1))
        assert best == predictions[:1]


def sees_everywhere(index: int, path: Path) -> Path:
    """The model file of a classifier that sees one class in every picture: its score is 4, and that of each other one 0."""
    model = TASKS["classification"].model_class()(
        tiny.ARCHITECTURES["classification"], nc=len(tiny.CLASSES), verbose=False
    )
    state = model.state_dict()
    weight, bias = (name for name in state if ".linear." in name)
    state[weight].zero_()
    state[bias].zero_()[index] = 4
    described = {"task": "classify", "names": tiny.CLASSES, "imgsz": 32, "single_cls": False}
    checkpoint.write_model(described | {"architecture": checkpoint.architecture(model)}, checkpoint.half(state), path)
    return path


@pytest.mark.parametrize("index", range(len(tiny.CLASSES)))
def test_a_class_that_a_split_lacks_shifts_no_number(index: int, tmp_path: Path) -> None:
    """val has no image of the first class: what sees one class everywhere is right in just the images of that class."""
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 8, "val": 7}, 32, "classification")
    of_train, of_val = (3, 3, 2), (0, 4, 3)
    model = sees_everywhere(index, tmp_path / "start.pt")

    evaluation = TRAINER.evaluate(model, dataset, "val", {"imgsz": 32, "device": "cpu"}, tmp_path, lambda *_: None)
    assert evaluation.confusion == [list(of_val) if row == index else [0, 0, 0] for row in range(3)]
    assert {name: values["accuracy_top1"] for name, values in evaluation.per_class.items()} == {
        name: number == index for number, name in enumerate(tiny.CLASSES) if of_val[number]
    }
    assert evaluation.not_measured_per_class == {
        "red": dict.fromkeys(("accuracy_top1", "accuracy_top5"), "the split val has no image of this class")
    }
    predictor = TRAINER.predictor(model)
    (predictions,) = predictor.predict([np.zeros((32, 32, 3), np.uint8)])
    assert predictor.classes[predictions[0].class_index] == tiny.CLASSES[index]

    # A training that changes nothing measures what these weights see.
    changes = {"imgsz": 32, "epochs": 1, "optimizer": "AdamW", "lr0": 1e-9, "warmup_bias_lr": 0.0}
    job = tiny.job(dataset, tmp_path / "work", task="classification", weights=model, **changes)
    (entry,) = TRAINER.train(job, tiny.SilentListener()).history
    assert entry["val_metrics"]["accuracy_top1"] == pytest.approx(of_val[index] / 7, abs=1e-5)  # the library rounds
    assert entry["train_metrics"]["loss"] == pytest.approx(np.log(np.exp(4) + 2) - 4 * of_train[index] / 8, rel=1e-4)


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_class_called_like_one_of_imagenets_codes_keeps_its_name(task: str, tmp_path: Path) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 4, "val": 4, "test": 4}, 32, task)
    classes = ("n01440764", "n0", "x")
    job = replace(tiny.job(dataset, tmp_path / "work", task=task, imgsz=32, epochs=1), classes=classes)
    best = TRAINER.train(job, tiny.SilentListener()).best
    assert TRAINER.predictor(best).classes == classes
    config = {"imgsz": 32, "device": "cpu"}
    evaluation = TRAINER.evaluate(best, dataset, "test", config, tmp_path / "evaluated", lambda *_: None)
    assert evaluation.classes == classes
    assert {*evaluation.per_class, *evaluation.not_measured_per_class} == set(classes)


def test_folders_that_are_not_the_classes_are_refused(tmp_path: Path) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 3, "val": 3}, 32, "classification")
    for split in ("train", "val"):
        (folder,) = (dataset / split).glob("00002*")
        for path in (*folder.iterdir(), folder):
            path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(InvalidDataset, match="has 2 folders of classes, and the dataset has 3 classes"):
        TRAINER.train(tiny.job(dataset, tmp_path / "work", task="classification", imgsz=32), tiny.SilentListener())


@pytest.mark.parametrize(("width", "height"), [(100, 60), (60, 100), (64, 64), (640, 33)])
def test_a_mask_is_outlined_in_the_pictures_own_pixels(width: int, height: int) -> None:
    """From a mask in the model's input, shrunk or enlarged between borders, to the picture that it is of."""
    side = 320
    rows, columns = np.mgrid[:height, :width] + 0.5
    true = ((columns / width - 0.5) ** 2 / 0.09 + (rows / height - 0.4) ** 2 / 0.06) < 1
    gain = min(side / height, side / width)
    inner = round(width * gain), round(height * gain)
    shown = np.zeros((side, side), np.uint8)
    left, top = ((side - part) // 2 for part in inner)
    # The size of a pixel is not a whole number: sample the ellipse itself.
    down, across = np.mgrid[: inner[1], : inner[0]] + 0.5
    shown[top : top + inner[1], left : left + inner[0]] = (
        (across / inner[0] - 0.5) ** 2 / 0.09 + (down / inner[1] - 0.4) ** 2 / 0.06
    ) < 1
    box = [columns[true].min() - 0.5, rows[true].min() - 0.5, columns[true].max() + 0.5, rows[true].max() + 0.5]
    outlined = _outlined(shown, box, (height, width), PredictionSettings())
    (polygon,) = outlined["polygons"]
    # Drawn four times as large, so that the drawing's own rounding does not count.
    drawn = np.zeros((4 * height, 4 * width), np.uint8)
    cv2.fillPoly(drawn, [np.round(np.array(polygon).reshape(-1, 2) * 4 - 0.5).astype(np.int32)], 1)
    large = np.kron(true, np.ones((4, 4), bool))
    overlap = (drawn.astype(bool) & large).sum() / (drawn.astype(bool) | large).sum()
    assert overlap > 0.9
    assert outlined["holes"] == []
    assert outlined["mask"] is None


def test_starting_weights_go_on_by_the_classes_names(finished: Trained, tmp_path: Path) -> None:
    """Two classes change places and one is new: each known class has the rows that it had."""
    import torch

    classes = (tiny.CLASSES[2], "new", tiny.CLASSES[0])
    changes = {"task": finished.task, "imgsz": 32, "epochs": 1, "lr0": 1e-9, "warmup_bias_lr": 0.0}
    job = tiny.job(finished.dataset, tmp_path, weights=finished.whole.best, **changes)
    result = TRAINER.train(replace(job, classes=classes), tiny.SilentListener())
    before, after = (
        checkpoint.load_model(path).model.model[-1].state_dict() for path in (finished.whole.best, result.last)
    )
    last = ("linear",) if finished.task == "classification" else ("cv3.0.2", "cv3.1.2", "cv3.2.2")
    for layer in last:
        for name in (f"{layer}.weight", f"{layer}.bias"):
            assert torch.equal(after[name][[0, 2]], before[name][[2, 0]])
            assert not torch.equal(after[name][1], before[name][1])
