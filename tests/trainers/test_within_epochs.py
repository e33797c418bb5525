"""Checkpoints within an epoch: a training that goes on from one ends with the bytes of one that was never interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_training import Learner, job
from loop_training import Gone, Silent, WithinEpochs, write
from PIL import Image

from visionloop.core.errors import InvalidConfig, InvalidReceipt
from visionloop.training.configuration.settings import settings_of
from visionloop.training.pytorch import checkpoint
from visionloop.training.pytorch.training import train
from visionloop.training.trainers import Trainer, TrainingJob, TrainingResult
from visionloop.training.trainers.timm import TRAINER as TIMM
from visionloop.training.trainers.torchvision import TRAINER as TORCHVISION
from visionloop.training.trainers.transformers import TRAINER as TRANSFORMERS

#: Each step is further from the last checkpoint than this.
ALWAYS = 1e-9

Train = Callable[[TrainingJob, Silent], TrainingResult]


def outcome(result: TrainingResult) -> tuple[bytes, bytes, int, str]:
    """All of a result that counts."""
    return result.best.read_bytes(), result.last.read_bytes(), result.best_epoch, json.dumps(result.history)


def interrupted(whole: TrainingJob, gone_after: tuple[int, int], train: Train) -> TrainingResult:
    """The same training, gone after a step and begun again from its checkpoint."""
    first = replace(
        whole, work=_empty(whole.work.with_name("first")), config={**whole.config, "checkpoint_minutes": ALWAYS}
    )
    listener = WithinEpochs(whole.work.with_name("kept"), gone_after)
    with pytest.raises(Gone):
        train(first, listener)
    return train(
        replace(whole, work=_empty(whole.work.with_name("second")), checkpoint=listener.kept[gone_after]), Silent()
    )


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("gone_after", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "AdamW", "model_ema": True, "normalised": True},
        {"normalised": True, "momentum": 0.9, "max_grad_norm": 0.1, "warmup_epochs": 1.0},
    ],
    ids=["averaged", "momentum"],
)
def test_a_training_goes_on_within_an_epoch_to_equal_bytes(
    tmp_path: Path, gone_after: tuple[int, int], changes: dict[str, Any]
) -> None:
    """A step is made of two batches here, and an epoch of three steps."""

    def numbers(wanted: TrainingJob, listener: Silent) -> TrainingResult:
        return train(wanted, listener, Learner)

    whole = job(tmp_path / "whole", batch=4, **changes)
    expected = outcome(numbers(whole, Silent()))
    assert outcome(interrupted(whole, gone_after, numbers)) == expected


def test_checkpoints_within_epochs_are_made_as_often_as_they_are_asked_for(tmp_path: Path) -> None:
    steps = [(epoch, step) for epoch in (1, 2) for step in (1, 2)]
    for minutes, made in ((0, []), (1000, []), (ALWAYS, steps)):
        listener = WithinEpochs(tmp_path / f"{minutes}")
        train(job(tmp_path / f"work_{minutes}", checkpoint_minutes=minutes), listener, Learner)
        assert list(listener.kept) == made
        assert [report.epoch for report in listener.reports] == [1, 2]


def test_a_checkpoint_within_an_epoch_is_none_to_who_knows_those_of_epochs_alone(tmp_path: Path) -> None:
    listener = WithinEpochs(tmp_path / "kept", (1, 2))
    with pytest.raises(Gone):
        train(job(tmp_path / "work", checkpoint_minutes=ALWAYS), listener, Learner)
    state = checkpoint.read(listener.kept[1, 2])
    assert (state["format"], state["epoch"], state["within"]["step"]) == (checkpoint.WITHIN_EPOCH, 0, 2)
    torch.save(state | {"format": 3}, listener.kept[1, 2])
    with pytest.raises(InvalidReceipt, match="another layout"):
        checkpoint.read(listener.kept[1, 2])


def test_weights_that_are_no_numbers_become_no_checkpoint(tmp_path: Path) -> None:
    class Diverging(Learner):
        def losses(self, batch: Any) -> dict[str, torch.Tensor]:
            losses = super().losses(batch)
            with torch.no_grad():
                next(self.model.parameters()).fill_(torch.inf)
            return losses

    listener = WithinEpochs(tmp_path / "kept")
    with pytest.raises(InvalidConfig, match="diverged"):
        train(job(tmp_path / "work", checkpoint_minutes=ALWAYS), listener, Diverging)
    assert listener.kept == {}


def configured(trainer: Trainer, task: str, **changes: Any) -> dict[str, Any]:
    defaults = {name: setting.default for name, setting in settings_of(trainer, task).items()}
    return defaults | {"workers": 0, "device": "cpu", "batch": 3, "epochs": 2, "lr0": 0.01} | changes


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_images_that_are_mixed_are_mixed_as_they_would_have_been(tmp_path: Path, workers: int) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for index, name in enumerate(("red", "green")):
            folder = tmp_path / "dataset" / split / f"{index:05}_{name}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 33), (200 - 100 * index, 20 * number, 100 * index)).save(folder / f"{number}.png")
    config = configured(TIMM, "classification", model="test_resnet.yaml", imgsz=32, workers=workers, drop_rate=0.2)
    assert config["mixup_alpha"]
    assert config["aa"]
    whole = TrainingJob(
        "classification", tmp_path / "dataset", ("red", "green"), config, None, _empty(tmp_path / "whole"), None, 3
    )
    expected = outcome(TIMM.train(whole, Silent()))
    assert outcome(interrupted(whole, (2, 1), TIMM.train)) == expected


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("detection", "fcos_tiny"),
        pytest.param("segmentation", "maskrcnn_tiny", marks=pytest.mark.slow),
        pytest.param("pose", "keypointrcnn_tiny", marks=pytest.mark.slow),
    ],
)
def test_objects_are_drawn_as_they_would_have_been(tmp_path: Path, task: str, model: str) -> None:
    dataset = write(tmp_path / "dataset", task)
    config = configured(TORCHVISION, task, imgsz=64, epochs=1, model=f"{model}.yaml")
    points = ("left", "right") if task == "pose" else ()
    whole = TrainingJob(
        task, dataset, ("blue", "red"), config, None, _empty(tmp_path / "whole"), None, 3, points, (1, 0)[: len(points)]
    )
    expected = outcome(TORCHVISION.train(whole, Silent()))
    assert outcome(interrupted(whole, (1, 1), TORCHVISION.train)) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param("dfine_tiny", marks=pytest.mark.matrix),
        "rtdetr_tiny",
        pytest.param("rtdetr_v2_tiny", marks=pytest.mark.matrix),
    ],
)
def test_a_detector_of_transformers_goes_on_as_it_would_have(tmp_path: Path, model: str) -> None:
    """Its noise is drawn anew for each batch, and its images are augmented."""
    dataset = write(tmp_path / "dataset", "detection")
    config = configured(TRANSFORMERS, "detection", model=f"{model}.yaml", imgsz=64, lr0=0.001)
    whole = TrainingJob("detection", dataset, ("blue", "red"), config, None, _empty(tmp_path / "whole"), None, 3)
    expected = outcome(TRANSFORMERS.train(whole, Silent()))
    assert outcome(interrupted(whole, (2, 1), TRANSFORMERS.train)) == expected
