"""A detector in training, whatever library it is from. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

from visionloop.core.logs import notice
from visionloop.training.pytorch.learner import LibraryLearner
from visionloop.training.pytorch.objects.dataset import LabelledImages, Sample, augmentation, collate
from visionloop.training.pytorch.objects.detector import Detector
from visionloop.training.pytorch.objects.measuring import measured
from visionloop.training.pytorch.objects.pictures import MIRRORS

About = TypeVar("About", bound=Detector)


class DetectorLearner(LibraryLearner[About, LabelledImages]):
    """A library's own class builds the model and says its losses."""

    def images(self, split: str) -> LabelledImages:
        """The images of ``train``, augmented by the settings, or of ``val``, as they are."""
        job, side = self.job, self.about.imgsz
        augment = augmentation(job.config, side, job.flip) if split == "train" else None
        asked = [name for name in MIRRORS if float(job.config[name])]
        if augment and job.keypoints and not job.flip and asked:
            notice(
                f"train: the dataset does not say which keypoints a mirror swaps (flip_pairs), so no picture is mirrored and "
                f"{' and '.join(asked)} {'have' if len(asked) > 1 else 'has'} no effect."
            )
        return LabelledImages(job.dataset, split, job.task, side, len(job.keypoints), augment)

    def collation(self) -> Callable[[Sequence[Sample]], Any]:
        """Inputs in one tensor, objects and sizes in lists."""
        return collate

    def validate(self, model: nn.Module, on_batch: Callable[[int], None]) -> dict[str, float]:
        """The metrics on val; none without a label."""
        measurement = measured(
            self.about,
            model,
            self.validation,
            device=self.device,
            confidence=float(self.job.config["conf"]),
            split="val",
            batch=self.job.batch,
            workers=self.workers,
            on_batch=lambda done, _: on_batch(done),
        )
        return measurement.metrics()
