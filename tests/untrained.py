"""Model files of each trainer with random weights, and registered versions of them: what no test has to train first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionloop.registry import CHAMPION, Registry, Version, package
from visionloop.registry.versions import CHECKPOINT_SHA256
from visionloop.training import catalog

CLASSES = ("dim", "bright")
KEYPOINTS = ("left", "right")
SIDE = 64

#: Each trainer of the package with each of its tasks.
PAIRS = (
    ("ultralytics", "detection"),
    ("ultralytics", "segmentation"),
    ("ultralytics", "pose"),
    ("ultralytics", "classification"),
    ("torchvision", "detection"),
    ("torchvision", "segmentation"),
    ("torchvision", "pose"),
    ("timm", "classification"),
    ("transformers", "detection"),
)

_YOLO = {"detection": "", "segmentation": "-seg", "pose": "-pose", "classification": "-cls"}
_TORCHVISION = {"detection": "fcos_tiny", "segmentation": "maskrcnn_tiny", "pose": "keypointrcnn_tiny"}


def checkpoint(trainer: str, task: str, folder: Path, *, sure: bool = False) -> Path:
    """A model file as a training of this trainer leaves it; equal calls give equal weights.

    Of Ultralytics' detectors each place has nearly the same low score; ``sure`` gives them different ones, as training does.
    """
    import torch

    torch.manual_seed(0)
    if trainer == "ultralytics":
        return _yolo(task, folder / "best.pt", sure=sure)
    return _safetensors(trainer, task, folder / "best.safetensors")


def _yolo(task: str, path: Path, *, sure: bool) -> Path:
    import torch

    from visionloop.training.trainers.ultralytics import checkpoint as files
    from visionloop.training.trainers.ultralytics.environment import library
    from visionloop.training.trainers.ultralytics.tasks import TASKS

    description = library().YOLO(f"yolo11n{_YOLO[task]}.yaml").model.yaml
    description |= {"nc": len(CLASSES), "channels": 3}
    description |= {"kpt_shape": [len(KEYPOINTS), 3]} if task == "pose" else {}
    model = TASKS[task].model_class()(description, ch=3, nc=len(CLASSES), verbose=False)
    if sure and task != "classification":
        with torch.no_grad():
            for _ in range(30):  # until its layers know how large their inputs are
                model.train()(torch.rand(4, 3, SIDE, SIDE))
            for branch in model.model[-1].cv3:
                branch[-1].weight.mul_(4)
                branch[-1].bias.fill_(-1)
    state: dict[str, Any] = {
        "architecture": json.dumps(dict(model.yaml)),
        "names": list(CLASSES),
        "task": TASKS[task].name,
    }
    state |= {"imgsz": SIDE, "single_cls": False, "keypoints": list(KEYPOINTS) if task == "pose" else []}
    files.write_model(state, files.half(model.state_dict()), path)
    return path


def _safetensors(trainer: str, task: str, path: Path) -> Path:
    import torch

    from visionloop.training.pytorch import models

    if trainer == "timm":
        from visionloop.training.trainers.timm.model import Description as Classifier

        classifier = Classifier.of("test_resnet", CLASSES, SIDE)
        return models.write(classifier.build().state_dict(), classifier.as_json(), path)
    if trainer == "torchvision":
        from visionloop.training.trainers.torchvision.model import Description as Torchvision

        points = KEYPOINTS if task == "pose" else ()
        about = Torchvision(CLASSES, SIDE, task, 100, _TORCHVISION[task], points, 0.7)
        return models.write(about.build(0.001).state_dict(), about.as_json(), path)
    from visionloop.training.trainers.transformers import model as transformers
    from visionloop.training.trainers.transformers import names

    family, changes = names.ARCHITECTURES["rtdetr_tiny"]
    configuration = transformers.configuration_of(family, changes)
    detector = transformers.Description(CLASSES, SIDE, task, 100, family, configuration)
    built = detector.build()
    # As the library begins, each place of a picture has nearly the same score, and any order of them is right.
    for part in built.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
    with torch.no_grad():
        for _ in range(30):
            built.train()(pixel_values=torch.rand(4, 3, SIDE, SIDE))
    return models.write(built.state_dict(), detector.as_json(), path)


def register(registry: Registry, trainer: str, task: str, name: str, folder: Path) -> Version:
    """A version with such a model, which is its name's champion.

    Args:
        registry: The registry.
        trainer: The trainer's name.
        task: One of its tasks.
        name: The model's registered name.
        folder: An empty folder, where the version's files lie from then on.
    """
    file = checkpoint(trainer, task, folder)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    description = package.Description(
        trainer=trainer,
        task=task,
        classes=list(CLASSES),
        training_digest="0" * 64,
        checkpoint=f"artifacts/{file.name}",
        checkpoint_sha256=digest,
        config={},
        keypoints=list(KEYPOINTS) if task == "pose" else [],
    )
    package.build(folder / "model", file, catalog.trainer(trainer), description)
    registry.ensure_model(name, name)
    version = registry.create_version(name, (folder / "model").as_uri(), {CHECKPOINT_SHA256: digest}, "")
    registry.set_alias(version, CHAMPION)
    return version


def photograph(path: Path, width: int = 96, height: int = 64, seed: int = 0) -> Path:
    """Writes a picture of random pixels in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path
