"""What trainers of detectors with the loop here have in common. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionloop.training.pytorch.objects.settings import AUGMENTATION
from visionloop.training.pytorch.settings import augmented, switch_off
from visionloop.training.pytorch.trainer import LoopTrainer


class DetectorTrainer(LoopTrainer):
    """A library of detectors: labels, pictures, augmentation, measurement and predictions are those of `pytorch.objects`."""

    label_files = False
    #: As `pictures.fitted` shrinks.
    interpolation: Mapping[str, str] = dict.fromkeys(("detection", "segmentation", "pose"), "linear")

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Spells the optimizer's name as torch does, and switches augmentations off where ``augment`` is false.

        Raises:
            InvalidConfig: As `settings.normalise` of all trainers, and if ``augment`` is false and an augmentation is set.
        """
        values = super().normalise(values, task)
        if not augmented(values):
            switch_off(values, dict.fromkeys(AUGMENTATION, 0.0))
        return values
