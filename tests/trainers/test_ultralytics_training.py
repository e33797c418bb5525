"""The Ultralytics trainer training: resumed to equal bytes, offline, stopped, diverged, evaluated."""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy
import pytest
import ultralytics_training as tiny
from ultralytics_training import Finished, train_in_process

from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt, OutOfMemory, SickMachine
from visionloop.data import view
from visionloop.data.annotations.crowds import Crowd
from visionloop.data.decoding import decode
from visionloop.training.trainers import Evaluation, PredictionSettings, TrainingResult
from visionloop.training.trainers.ultralytics import TRAINER, environment

pytestmark = pytest.mark.slow

SCRIPT = Path(tiny.__file__)

WITHOUT_A_GPU = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("dataset"), {"train": 10, "val": 4, "test": 4})


class Planted:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture(scope="module")
def uninterrupted(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return train_in_process(tmp_path_factory.mktemp("uninterrupted"), dataset, offline=True)


def test_a_training_touches_no_network_and_no_foreign_folder(uninterrupted: Finished, dataset: Path) -> None:
    assert uninterrupted.output["reported"] == [1, 2, 3]
    assert files(uninterrupted.here) == set()
    assert files(uninterrupted.home) == set()
    assert {Path(name).suffix for name in files(dataset)} == {".png", ".txt"}


def test_a_training_needs_no_library_of_a_screen(uninterrupted: Finished) -> None:
    """Slim images have none, and the build of OpenCV that Ultralytics asks for can't be imported there."""
    assert uninterrupted.output["screen"] == []
    assert set(packages_distributions()["cv2"]) == {"opencv-python-headless"}


@pytest.mark.matrix
def test_killed_and_resumed_is_the_same_training(uninterrupted: Finished, dataset: Path, tmp_path: Path) -> None:
    """SIGKILL after epoch 1, resumed, SIGKILL after epoch 2, resumed: equal bytes, equal history."""
    first = train_in_process(tmp_path / "first", dataset, expect=-9, kill_after=1)
    second = train_in_process(
        tmp_path / "the second", dataset, expect=-9, kill_after=2, checkpoint=str(first.store / "epoch_1.pt")
    )
    third = train_in_process(tmp_path / "and a third", dataset, checkpoint=str(second.store / "epoch_2.pt"))
    assert third.output["reported"] == [3]
    for name in ("best", "last"):
        assert sha256(third.output[name]) == sha256(uninterrupted.output[name])
    for name in ("history", "best_epoch", "epochs"):
        assert third.output[name] == uninterrupted.output[name]


def test_a_checkpoint_after_the_last_epoch_is_only_finalised(
    uninterrupted: Finished, dataset: Path, tmp_path: Path
) -> None:
    listener = tiny.Keeping(tmp_path / "store")
    job = tiny.job(dataset, tmp_path / "work", checkpoint=uninterrupted.store / "epoch_3.pt")
    result = TRAINER.train(job, listener)
    assert (listener.reports, listener.batches) == ([], [])
    assert (result.epochs, result.best_epoch) == (3, uninterrupted.output["best_epoch"])
    assert sha256(result.best) == sha256(uninterrupted.output["best"])
    assert sha256(result.last) == sha256(uninterrupted.output["last"])
    assert list(result.history) == uninterrupted.output["history"]
    assert [path.suffix for path in result.plots] == [".png"]


def test_a_model_file_holds_nothing_of_the_run(uninterrupted: Finished) -> None:
    import torch

    from visionloop.training.trainers.ultralytics import checkpoint

    model = checkpoint.load_model(Path(uninterrupted.output["best"]))
    assert model.task == "detect"
    assert model.names == dict(enumerate(tiny.CLASSES))
    content = torch.load(uninterrupted.output["best"], weights_only=False)
    assert set(content) == {"epoch", "license", "model", "train_args"}
    assert content["train_args"] == {"task": "detect", "imgsz": 64, "single_cls": False}
    assert {value.dtype for value in content["model"].parameters()} == {torch.float16}
    data = Path(uninterrupted.output["best"]).read_bytes()
    for foreign in (str(uninterrupted.here.parent), str(Path.home()), str(SCRIPT.parent), os.uname().nodename):
        assert foreign.encode() not in data


def test_histories_have_the_names_of_the_seeds(uninterrupted: Finished) -> None:
    history = uninterrupted.output["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    for entry in history:
        assert set(entry["train_metrics"]) == {"loss", "box_loss", "cls_loss", "dfl_loss", "lr"}
        assert {"mAP50", "mAP50-95", "precision", "recall", "val_loss"} <= set(entry["val_metrics"])
        assert entry["train_metrics"]["loss"] > 0
        assert entry["val_metrics"]["val_loss"] > 0


def interrupted_and_not(dataset: Path, folder: Path, **changes: Any) -> tuple[TrainingResult, TrainingResult]:
    """A training of 3 epochs, and the same one resumed from its first epoch's checkpoint, in this process."""
    listener = tiny.Keeping(folder / "store")
    whole = TRAINER.train(tiny.job(dataset, folder / "whole", **changes), listener)
    resumed = TRAINER.train(
        tiny.job(dataset, folder / "resumed", checkpoint=folder / "store" / "epoch_1.pt", **changes),
        tiny.SilentListener(),
    )
    return whole, resumed


def test_mosaic_its_closing_accumulation_and_epoch_wise_gains_resume_exactly(dataset: Path, tmp_path: Path) -> None:
    """10 images in batches of 4, a step each 20 images: gradients are left over at each epoch's end."""
    import torch

    whole, resumed = interrupted_and_not(
        dataset,
        tmp_path,
        model="yolo26n.yaml",
        optimizer="AdamW",
        lr0=0.002,
        nbs=20,
        mosaic=1.0,
        mixup=0.5,
        close_mosaic=1,
        warmup_epochs=0.5,
        multi_scale=0.5,
    )
    state = torch.load(tmp_path / "store" / "epoch_1.pt", weights_only=True)
    assert state["since_step"] > 0
    assert state["gradients"]
    assert sha256(whole.last) == sha256(resumed.last)
    assert whole.history == resumed.history


@pytest.mark.parametrize(("cache", "room"), [("ram", "memory"), ("disk", "disk")])
def test_a_cache_without_room_is_refused(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, room: str
) -> None:
    """The library would go on without it, to the weights of another key."""

    def left_out(images: Any) -> bool:
        images.cache = None
        return False

    monkeypatch.setattr(environment.library().data.base.BaseDataset, f"check_cache_{cache}", left_out)
    with pytest.raises(InvalidConfig, match=f"cache is {cache}, but the decoded images do not fit into .* {room}"):
        TRAINER.train(tiny.job(dataset, tmp_path, cache=cache), tiny.SilentListener())


def test_a_smaller_batch_keeps_the_effective_batch(uninterrupted: Finished, dataset: Path, tmp_path: Path) -> None:
    """Half the batch after an epoch: twice the accumulation, so a step for as many images as before."""
    import torch

    job = tiny.job(dataset, tmp_path / "work", job_batch=2, checkpoint=uninterrupted.store / "epoch_1.pt")
    listener = tiny.Keeping(tmp_path / "store")
    result = TRAINER.train(job, listener)
    first, last = (uninterrupted.store / "epoch_1.pt", tmp_path / "store" / "epoch_3.pt")
    updates = [torch.load(path, weights_only=True)["updates"] for path in (first, last)]
    assert updates == [3, 3 + 10 // 2]  # 4 + 4 + 2 images, then 10 batches of 2
    assert result.batch == 2
    assert {batches for _, _, batches in listener.batches} == {5 + 1}


def test_every_batch_and_epoch_is_heard(dataset: Path, tmp_path: Path) -> None:
    listener = tiny.Keeping(tmp_path / "store", stop_after=2)
    result = TRAINER.train(tiny.job(dataset, tmp_path / "work", epochs=5), listener)
    assert listener.batches == [(epoch, batch, 4) for epoch in (1, 2) for batch in (1, 2, 3, 4)]
    assert [(report.epoch, report.stopping) for report in listener.reports] == [(1, False), (2, False)]
    assert [report.train_batches for report in listener.reports] == [3, 3]  # the fourth is validation's
    assert result.epochs == 2
    assert [entry["epoch"] for entry in result.history] == [1, 2]
    assert files(tmp_path / "work" / "checkpoints") == {"epoch_2.pt"}


def test_the_primary_metric_decides_the_best_epoch_and_the_stop(dataset: Path, tmp_path: Path) -> None:
    """The validation loss falls, so its largest value is the first, and a patience of 1 ends after the second epoch."""
    listener = tiny.Keeping(tmp_path / "store")
    changes = {"primary_metric": "val_loss", "primary_metric_mode": "max", "patience": 1, "epochs": 5}
    result = TRAINER.train(tiny.job(dataset, tmp_path / "a", **changes), listener)
    losses = [report.val_metrics["val_loss"] for report in listener.reports]
    assert losses[0] > losses[1]
    assert (result.best_epoch, result.epochs) == (1, 2)
    assert [report.stopping for report in listener.reports] == [False, True]
    assert listener.reports[-1].best_value == losses[0]
    assert sha256(result.best) != sha256(result.last)
    # Its checkpoint is a finished training's.
    silent = tiny.SilentListener()
    stopped = tiny.job(dataset, tmp_path / "b", checkpoint=tmp_path / "store" / "epoch_2.pt", **changes)
    again = TRAINER.train(stopped, silent)
    assert silent.epochs == []
    assert (sha256(again.best), sha256(again.last)) == (sha256(result.best), sha256(result.last))


def test_starting_weights_whatever_their_file_is_called(uninterrupted: Finished, dataset: Path, tmp_path: Path) -> None:
    import torch

    from visionloop.training.trainers.ultralytics import checkpoint

    weights = tmp_path / "yolov5n"
    weights.write_bytes(Path(uninterrupted.output["best"]).read_bytes())
    job = tiny.job(
        dataset,
        tmp_path / "work",
        model="yolov5n",
        weights=weights,
        epochs=1,
        lr0=1e-9,
        warmup_bias_lr=0.0,
    )
    result = TRAINER.train(job, tiny.SilentListener())
    started = checkpoint.load_model(weights).model.state_dict()
    ended = checkpoint.load_model(result.last).model.state_dict()
    learned = [name for name in started if name.endswith(("conv.weight", "bn.weight"))]
    assert learned
    assert all(torch.equal(started[name], ended[name]) for name in learned)


def test_weights_that_do_not_fit_are_refused_and_run_no_code(dataset: Path, tmp_path: Path) -> None:
    import torch

    from visionloop.training.trainers.ultralytics.environment import library

    nothing, masks, planted = tmp_path / "nothing.pt", tmp_path / "masks.pt", tmp_path / "planted.pt"
    nothing.write_bytes(b"nothing")
    library().YOLO("yolo11n-seg.yaml").save(masks)
    torch.save({"model": Planted(tmp_path / "trace")}, planted)
    for weights, match in ((nothing, r"nothing\.pt"), (planted, r"planted\.pt"), (masks, "segment, not for detect")):
        with pytest.raises(InvalidConfig, match=match):
            TRAINER.train(tiny.job(dataset, tmp_path / "work", weights=weights), tiny.SilentListener())
    with pytest.raises(InvalidReceipt, match=r"planted\.pt"):
        TRAINER.predictor(planted)
    assert not (tmp_path / "trace").exists()


def test_a_scale_less_architecture_and_a_single_class(dataset: Path, tmp_path: Path) -> None:
    job = tiny.job(dataset, tmp_path / "work", model="yolo11.yaml", epochs=1, single_cls=True)
    result = TRAINER.train(job, tiny.SilentListener())
    assert TRAINER.predictor(result.best).classes == ("item",)
    evaluation, _ = evaluate(result.best, dataset, tmp_path / "evaluation", single_cls=True)
    assert evaluation.classes == ("item",)
    assert set(evaluation.per_class) == {"item"}
    assert [len(row) for row in evaluation.confusion] == [2, 2]


def test_a_diverged_training_reports_no_checkpoint(uninterrupted: Finished, dataset: Path, tmp_path: Path) -> None:
    import torch

    from visionloop.training.pytorch import checkpoint

    state = checkpoint.read(uninterrupted.store / "epoch_1.pt")
    next(iter(state["model"].values())).fill_(torch.inf)
    checkpoint.write(state, tmp_path / "epoch_1.pt")
    listener = tiny.SilentListener()
    with pytest.raises(InvalidConfig, match=r"diverged in epoch 2: .*lower lr0 \(now 0\.01\)"):
        TRAINER.train(tiny.job(dataset, tmp_path / "work", checkpoint=tmp_path / "epoch_1.pt"), listener)
    assert listener.epochs == []


def test_memory_that_runs_out_is_told_at_once(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own halving of the batch, in the first epoch of each start, is off."""
    import torch

    from visionloop.training.trainers.ultralytics.environment import library

    calls = []

    def too_much(*_: object) -> None:
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(library().nn.tasks.BaseModel, "loss", too_much)
    with pytest.raises(OutOfMemory, match=r"CUDA out of memory\. Try reducing batch size: batch is 4, imgsz 64\."):
        TRAINER.train(tiny.job(dataset, tmp_path), tiny.SilentListener())
    assert len(calls) == 1


def test_a_foreign_checkpoint_is_refused(dataset: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "epoch_1.pt"
    foreign.write_bytes(b"none")
    with pytest.raises(InvalidReceipt, match=r"epoch_1\.pt"):
        TRAINER.train(tiny.job(dataset, tmp_path, checkpoint=foreign), tiny.SilentListener())


@pytest.mark.parametrize(
    ("device", "pod_gpus", "line"),
    [
        ("cpu", "1", "training on the CPU, as device says"),
        pytest.param(None, "0", "training on the CPU: no GPU was found", marks=WITHOUT_A_GPU),
    ],
)
def test_one_line_says_where_a_training_runs(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    device: str | None,
    pod_gpus: str,
    line: str,
) -> None:
    monkeypatch.setenv("VISIONLOOP_POD_GPUS", pod_gpus)
    dataset = tiny.write_dataset(tmp_path / "data", {"train": 4, "val": 2})
    with caplog.at_level("INFO"), pytest.raises(Enough):
        TRAINER.train(tiny.job(dataset, tmp_path / "work", device=device), EnoughAtOnce())
    assert [message for message in caplog.messages if message.startswith("training on")] == [line]


@WITHOUT_A_GPU
def test_a_pod_without_the_gpu_that_it_was_given_is_a_sick_machine(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a day of training on the CPU."""
    monkeypatch.setenv("VISIONLOOP_POD_GPUS", "1")
    with pytest.raises(SickMachine, match="This pod was given 1 GPU, and no GPU can be used"):
        TRAINER.train(tiny.job(dataset, tmp_path / "work", device=None), tiny.SilentListener())
    with pytest.raises(SickMachine, match="This pod was given 1 GPU"):
        TRAINER.evaluate(tmp_path / "best.pt", dataset, "test", {"device": None}, tmp_path / "work", lambda *_: None)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"device": "99"}, "device is 99, but"),
        ({"device": "quantum"}, "device is quantum"),
        ({"momentum": 3.0}, "momentum"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    dataset: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidConfig, match=match):
        TRAINER.train(tiny.job(dataset, tmp_path, **changes), tiny.SilentListener())


def test_a_dataset_without_labels_is_refused_and_no_pickle_in_it_is_read(tmp_path: Path) -> None:
    import numpy

    trace = tmp_path / "trace"
    dataset = tiny.write_dataset(tmp_path / "data", {"train": 2, "val": 2})
    for label in (dataset / "labels" / "train").iterdir():
        label.unlink()
    with (dataset / "labels" / "train.cache").open("wb") as file:
        numpy.save(file, numpy.array(Planted(trace), dtype=object), allow_pickle=True)
    with pytest.raises(InvalidDataset, match="train has no label"):
        TRAINER.train(tiny.job(dataset, tmp_path / "work"), tiny.SilentListener())
    assert not trace.exists()


class Enough(Exception):
    """Ends a training that has shown what it should."""


class EnoughAtOnce(tiny.SilentListener):
    """Ends a training after its first batch."""

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        raise Enough


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_training_on_fewer_images_is_refused(split: str, tmp_path: Path) -> None:
    """The library goes on without an image that it can't use, or whose labels it can't."""
    dataset = tiny.write_dataset(tmp_path / "data", {"train": 4, "val": 2})
    (dataset / "images" / split / "000.png").write_bytes(b"no picture")
    (dataset / "labels" / split / "001.txt").write_text("0 5 5 0.2 0.2\n")
    with pytest.raises(InvalidDataset) as caught:
        TRAINER.train(tiny.job(dataset, tmp_path / "work"), EnoughAtOnce())
    assert f"can't use 2 of the {len(list((dataset / 'images' / split).iterdir()))} images of the split {split}" in str(
        caught.value
    )
    assert f"{split}/000.png (" in str(caught.value)
    assert f"{split}/001.png (non-normalized" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_without_a_label_in_val_nothing_is_measured_and_the_best_epoch_is_the_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = tiny.write_dataset(tmp_path / "data", {"train": 4, "val": 1})
    (dataset / "labels" / "val" / "000.txt").write_text("")
    job = tiny.job(dataset, tmp_path / "work", primary_metric_mode="min", epochs=2, imgsz=32, patience=1)
    result = TRAINER.train(job, tiny.SilentListener())
    assert (result.epochs, result.best_epoch) == (2, 2)
    ours = [record.message for record in caplog.records if record.name == "visionloop"]
    assert ours.count("val has no label, so no epoch is measured, and the best epoch is the last one.") == 1
    assert not [message for message in ours if str(tmp_path) in message or "no labels found" in message]
    assert "val_loss" in result.history[-1]["val_metrics"]
    assert not {name for name in result.history[-1]["val_metrics"] if "loss" not in name}


def test_no_image_is_rewritten(tmp_path: Path) -> None:
    from PIL import Image

    dataset = tiny.write_dataset(tmp_path / "data", {"train": 4, "val": 2})
    images = dataset / "images" / "train"
    with Image.open(images / "001.png") as image:
        image.save(images / "001.jpg")
    (images / "001.png").unlink()
    with (images / "001.jpg").open("ab") as file:
        file.write(b"trailing bytes, which cameras write")
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    with pytest.raises(Enough):
        TRAINER.train(tiny.job(dataset, tmp_path / "work"), EnoughAtOnce())
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before


def test_a_cache_on_the_disk_leaves_no_image_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = tiny.write_dataset(tmp_path / "data", {"train": 4, "val": 2})
    listener = EnoughAtOnce()
    with pytest.raises(Enough):
        TRAINER.train(tiny.job(dataset, tmp_path / "work", cache="disk"), listener)
    assert {split: len(names) for split, names in listener.used.items()} == {"train": 4, "val": 2}
    assert len(list(dataset.rglob("*.npy"))) == 6
    assert "left out" not in caplog.text


# Evaluation and prediction


def evaluate(model: Path | str, dataset: Path, work: Path, **config: Any) -> tuple[Evaluation, list[tuple[int, int]]]:
    heard: list[tuple[int, int]] = []
    settings = {"imgsz": 64, "batch": 2, "device": "cpu", **config}
    evaluation = TRAINER.evaluate(
        Path(model), dataset, "test", settings, work, lambda done, total: heard.append((done, total))
    )
    return evaluation, heard


def test_an_evaluation(uninterrupted: Finished, dataset: Path, tmp_path: Path) -> None:
    evaluation, heard = evaluate(uninterrupted.output["best"], dataset, tmp_path / "evaluation")
    assert heard == [(1, 2), (2, 2)]
    assert evaluation.images == 4
    assert set(evaluation.metrics) == {"mAP50", "mAP50-95", "precision", "recall"}
    labels = [
        int(line.split()[0])
        for path in (dataset / "labels" / "test").iterdir()
        for line in path.read_text().splitlines()
    ]
    columns = [sum(column) for column in zip(*evaluation.confusion, strict=True)]
    assert columns[:3] == [labels.count(index) for index in range(3)]
    assert set(evaluation.per_class) == {tiny.CLASSES[index] for index in set(labels)}
    for metrics in evaluation.per_class.values():
        assert set(metrics) == {"mAP50", "mAP50-95", "precision", "recall"}
    assert set(evaluation.curves) == set(evaluation.per_class)
    for name, curves in evaluation.curves.items():
        assert len(curves.precision) == len(curves.f1) == 101
        assert 0 <= min(*curves.precision, *curves.f1) <= max(*curves.precision, *curves.f1) <= 1
        area = numpy.trapezoid(curves.precision, dx=0.01)
        assert area == pytest.approx(evaluation.per_class[name]["mAP50"], abs=0.02)


def test_right_and_wrong_detections_are_those_that_the_metric_counts(uninterrupted: Finished, tmp_path: Path) -> None:
    """Objects everywhere, as large as a hardly trained model's boxes: mAP50 is what these confidences give, ties either way."""
    folder = tiny.write_dataset(tmp_path / "everywhere", {"test": 2})
    boxes = [
        f"0 {x / 8} {y / 8} {size / 8} {size / 8}\n"
        for size in (2, 3, 4, 6)
        for x in (size / 2, 4, 8 - size / 2)
        for y in (size / 2, 4, 8 - size / 2)
    ]
    for label in (folder / "labels" / "test").iterdir():
        label.write_text("".join(boxes))
    evaluation, _ = evaluate(uninterrupted.output["best"], folder, tmp_path / "evaluation", single_cls=True, imgsz=640)
    right, wrong = numpy.array(evaluation.right), numpy.array(evaluation.wrong)
    assert 0 < len(right) <= 2 * len(boxes)
    assert len(wrong)
    confidences = numpy.concatenate([right, wrong])
    assert confidences.min() >= 0.001
    assert confidences.max() <= 1

    def average_precision(before: float) -> float:
        """With right ones so much before wrong ones of the same confidence."""
        hits = numpy.arange(len(confidences))[:, None] < len(right)
        classes = numpy.zeros(len(confidences)), numpy.zeros(2 * len(boxes))
        result = environment.library().utils.metrics.ap_per_class(hits, confidences + before * hits[:, 0], *classes)
        return float(result[5].mean())

    assert 0 < average_precision(-1e-12) - 1e-6 <= evaluation.metrics["mAP50"] <= average_precision(1e-12) + 1e-6


def test_an_evaluation_of_a_folder_that_holds_one_split(uninterrupted: Finished, tmp_path: Path) -> None:
    only = tiny.write_dataset(tmp_path / "only", {"test": 2})
    for label in (only / "labels" / "test").iterdir():
        label.write_text("")
    evaluation, _ = evaluate(uninterrupted.output["best"], only, tmp_path / "evaluation")
    assert evaluation.images == 2
    assert (evaluation.metrics, evaluation.per_class) == ({}, {})
    names = {"mAP50", "mAP50-95", "precision", "recall"}
    assert evaluation.not_measured == dict.fromkeys(names, "the split test has no labelled object")
    absent = dict.fromkeys(names, "the split test has no object of this class")
    assert evaluation.not_measured_per_class == dict.fromkeys(tiny.CLASSES, absent)
    assert list(evaluation.right) == []
    assert evaluation.curves == {}
    assert evaluation.wrong


def test_an_evaluation_of_a_missing_split_is_refused(uninterrupted: Finished, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="test has no image"):
        evaluate(uninterrupted.output["best"], tmp_path, tmp_path / "evaluation")


def test_predictions_in_order(uninterrupted: Finished, dataset: Path) -> None:
    predictor = TRAINER.predictor(Path(uninterrupted.output["best"]))
    assert predictor.classes == tiny.CLASSES
    paths = sorted((dataset / "images" / "test").iterdir())
    images = [decode(path.read_bytes()) for path in paths]
    few = PredictionSettings(confidence=0.0005)
    forwards = list(predictor.predict(images, few))
    assert any(forwards)
    for predictions in forwards:
        confidences = [prediction.confidence for prediction in predictions]
        assert confidences == sorted(confidences, reverse=True)
        for prediction in predictions:
            assert prediction.box is not None
            x1, y1, x2, y2 = prediction.box
            assert 0 <= x1 <= x2 <= 64
            assert 0 <= y1 <= y2 <= 64
            assert prediction.class_index in range(3)
    assert list(predictor.predict(images[::-1], few)) == forwards[::-1]
    assert not any(predictor.predict(images, PredictionSettings(confidence=1.0)))


@pytest.mark.gpu
def test_a_gpus_checkpoint_resumes_on_the_processor(dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    changes = {"optimizer": "AdamW", "lr0": 0.002, "amp": True}
    TRAINER.train(tiny.job(dataset, tmp_path / "a", epochs=2, device="0", **changes), tiny.Keeping(store, stop_after=1))
    for device in ("cpu", "0"):
        listener = tiny.SilentListener()
        job = tiny.job(
            dataset, tmp_path / f"on {device}", epochs=2, device=device, checkpoint=store / "epoch_1.pt", **changes
        )
        TRAINER.train(job, listener)
        assert [report.epoch for report in listener.epochs] == [2]


@pytest.mark.gpu
def test_a_gpus_memory_runs_out(dataset: Path, tmp_path: Path) -> None:
    large = tiny.write_dataset(tmp_path / "large", {"train": 600, "val": 2}, side=64)
    with pytest.raises(OutOfMemory, match="batch is 600, imgsz 4096"):
        TRAINER.train(
            tiny.job(large, tmp_path / "work", device="0", batch=600, nbs=600, imgsz=4096), tiny.SilentListener()
        )


def test_a_detection_in_a_crowd_region_that_matches_nothing_does_not_count(
    uninterrupted: Finished, dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    paths = [f"images/test/{path.name}" for path in sorted((folder / "images" / "test").iterdir())]
    best = Path(uninterrupted.output["best"])

    def measured(*crowds: tuple[str, Crowd]) -> Evaluation:
        view.write_crowds(folder, [view.ImageCrowds(path, [crowd]) for path, crowd in crowds])
        return TRAINER.evaluate(best, folder, "test", tiny.configuration(conf=0.0001), tmp_path, lambda *_: None)

    everything = (0.0, 0.0, 1.0, 1.0)
    plain = measured((paths[0], Crowd(None, (0.0, 0.0, 0.001, 0.001))))
    assert len(plain.wrong) > 100
    one_class = measured((paths[0], Crowd(1, everything)))
    whole = measured(*((path, Crowd(None, everything)) for path in paths))
    # What is left is right at no overlap of 0.5, but matches an object anyway.
    assert len(whole.wrong) < 20 < len(one_class.wrong) < len(plain.wrong)
    for evaluation in (one_class, whole):
        assert list(evaluation.right) == list(plain.right)
