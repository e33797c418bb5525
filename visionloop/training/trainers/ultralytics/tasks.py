"""How the library handles each of our tasks: one table of its names, classes and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visionloop.training.trainers.ultralytics.environment import library


@dataclass(frozen=True)
class LibraryMeasure:
    """One way in which the library compares objects: by box, mask or keypoints.

    Attributes:
        prefix: What our names of its metrics begin with.
        suffix: What the library's end with.
        right: The library's name of what it notes of each detection.
    """

    prefix: str
    suffix: str
    right: str


BOXES = LibraryMeasure("", "(B)", "tp")
MASKS = LibraryMeasure("mask_", "(M)", "tp_m")
KEYPOINTS = LibraryMeasure("pose_", "(P)", "tp_p")


@dataclass(frozen=True)
class LibraryTask:
    """How the library handles a task; its classes are imported on request.

    Attributes:
        name: The library's name of the task, and of its folder in ``ultralytics.models.yolo``.
        model: Name of the class in ``ultralytics.nn.tasks``.
        trainer: Name of the class in the task's folder.
        validator: Name of the class in the task's folder.
        measures: How it compares objects, the one that the task is about last; empty for whole images.
    """

    name: str
    model: str
    trainer: str
    validator: str
    measures: tuple[LibraryMeasure, ...] = (BOXES,)

    def model_class(self) -> Any:
        """The class of the task's models."""
        return getattr(library().nn.tasks, self.model)

    def trainer_class(self) -> Any:
        """The class of the task's training loop."""
        return getattr(getattr(library().models.yolo, self.name), self.trainer)

    def validator_class(self) -> Any:
        """The class of the task's validation."""
        return getattr(getattr(library().models.yolo, self.name), self.validator)


#: The library's tasks by our task names.
TASKS: dict[str, LibraryTask] = {
    "detection": LibraryTask("detect", "DetectionModel", "DetectionTrainer", "DetectionValidator"),
    "segmentation": LibraryTask(
        "segment", "SegmentationModel", "SegmentationTrainer", "SegmentationValidator", (BOXES, MASKS)
    ),
    "pose": LibraryTask("pose", "PoseModel", "PoseTrainer", "PoseValidator", (BOXES, KEYPOINTS)),
    "classification": LibraryTask(
        "classify", "ClassificationModel", "ClassificationTrainer", "ClassificationValidator", ()
    ),
}


def task_of_library(name: str) -> str:
    """Our name of the task that the library, and therefore a model file, calls ``name``."""
    return {row.name: task for task, row in TASKS.items()}[name]
