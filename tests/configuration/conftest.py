"""A small trainer of the tests' own, with one of each kind of setting and one seed-style value that it maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.policy import StagePolicy
from visionloop.training.trainers import (
    PROTOCOL,
    Evaluation,
    Listener,
    Predictor,
    Setting,
    Trainer,
    TrainingJob,
    TrainingResult,
)

AUGMENTATIONS = ("mosaic", "fliplr")


class ToyTrainer:
    name = "toy"
    logic_version = 1
    tasks = frozenset({"detection"})
    policy = StagePolicy()
    protocol = PROTOCOL
    several_devices = True
    interpolation: ClassVar[Mapping[str, str]] = {"detection": "linear"}
    metrics: Mapping[str, tuple[str, ...]] = {
        "detection": ("mAP50-95", "mAP50", "box_loss"),
        "classification": ("accuracy_top1",),
    }

    def settings(self, task: str) -> Mapping[str, Setting]:
        return {
            "optimizer": Setting(str, "SGD", "name of the optimizer", choices=("SGD", "AdamW")),
            "mosaic": Setting(float, 1.0, "probability of mosaic", minimum=0, maximum=1),
            "fliplr": Setting(float, 0.5, "probability of a flip", minimum=0, maximum=1),
            "iou": Setting(float, 0.7, "overlap above which boxes are one", minimum=0, maximum=1),
            "cos_lr": Setting(bool, False, "cosine learning rate"),
            "close_mosaic": Setting(int, 10, "last epochs without mosaic", minimum=0),
            "freeze": Setting(int, None, "layers to freeze", minimum=0, optional=True),
            "threads": Setting(int, 1, "threads", minimum=1, affects_result=False),
        }

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        if "nms" in values:
            threshold = values.pop("nms")
            if isinstance(threshold, bool):
                raise InvalidConfig("nms is a truth value: give iou, a number from 0 to 1.")
            values.setdefault("iou", threshold)
        if values.get("augment") is False:
            for name in AUGMENTATIONS:
                values.setdefault(name, 0.0)
        if values.get("mosaic") is True:
            values["mosaic"] = 1.0
        return values

    def model_task(self, model: str) -> str | None:
        if "/" in model:
            return None
        return "segmentation" if "-seg" in model else "detection"

    def weights_names(self, model: str) -> tuple[str, ...]:
        return () if self.is_architecture(model) else (f"{model}.pt", f"{model}.pth")

    def is_architecture(self, model: str) -> bool:
        return model in ("yolo11n.yaml", "yolo11n-seg.yaml")

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        raise NotImplementedError

    def evaluate(self, *arguments: Any, **named: Any) -> Evaluation:
        raise NotImplementedError

    def predictor(self, checkpoint: Path) -> Predictor:
        raise NotImplementedError

    def requirements(self) -> list[str]:
        return []


class DownloadingTrainer(ToyTrainer):
    """Also fetches weights: it knows one name."""

    name = "downloading"

    def download_weights(self, model: str, folder: Path) -> Path:
        if model != "yolo11n":
            raise NotFound(model)
        target = folder / "yolo11n.pt"
        target.write_bytes(b"fetched")
        return target


class FolderTrainer(ToyTrainer):
    """Starts from a folder of files, too."""

    name = "folders"
    weights_files = (("config.json",), ("model.safetensors", "model.bin"))

    def weights_names(self, model: str) -> tuple[str, ...]:
        return (f"{model}/", f"{model}.pt")


class OtherDefaults(ToyTrainer):
    """Brings its own default model, and knows no mAP."""

    name = "other"
    several_devices = False
    interpolation: ClassVar[Mapping[str, str]] = {}
    metrics: Mapping[str, tuple[str, ...]] = {"detection": ("recall",)}

    def settings(self, task: str) -> Mapping[str, Setting]:
        return {"model": Setting(str, "resnet18", "the model")}

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        return values


@pytest.fixture(scope="session")
def toy() -> Trainer:
    return ToyTrainer()


@pytest.fixture(scope="session")
def downloading() -> Trainer:
    return DownloadingTrainer()


@pytest.fixture(scope="session")
def folders() -> Trainer:
    return FolderTrainer()


@pytest.fixture(scope="session")
def trainers() -> Mapping[str, Trainer]:
    return {"ultralytics": ToyTrainer(), "other": OtherDefaults()}


@pytest.fixture
def objects() -> dict[str, bytes]:
    """A store's objects by URI."""
    return {}


@pytest.fixture
def reader(objects: dict[str, bytes]) -> Callable[[str, Path], object]:
    def fetch(uri: str, local: Path) -> object:
        try:
            return local.write_bytes(objects[uri])
        except KeyError:
            raise NotFound(uri) from None

    return fetch
