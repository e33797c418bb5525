"""A model file's model, to be measured and asked. Importing this module imports torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from visionloop.core.errors import InvalidConfig
from visionloop.training.pytorch.failures import Further, nothing_further, translated
from visionloop.training.pytorch.models import Description
from visionloop.training.pytorch.prediction import ImagePredictor
from visionloop.training.pytorch.training import set_threads, torch_device
from visionloop.training.trainers import Evaluation, Exported

About = TypeVar("About", bound=Description)


class LoadedModel(ImagePredictor, Generic[About]):
    """A model on its device."""

    def __init__(
        self,
        task: str,
        about: About,
        model: nn.Module,
        config: Mapping[str, Any],
        further: Further = nothing_further,
    ) -> None:
        """Puts the model onto its device.

        Args:
            task: Our name of its task.
            about: What its file says of it.
            model: In evaluation mode.
            config: Settings of the evaluation: ``batch``, ``device`` and what a kind of model uses besides; all have defaults.
            further: Recognises what the library itself raises.

        Raises:
            InvalidConfig: If a device is named that is not there.
            OutOfMemory: If the GPU's memory is used up.
            SickMachine: If the GPU is lost.
        """
        super().__init__(task, about.classes, about.imgsz, further)
        self.about, self.config, self.batch = about, config, int(config.get("batch", 16))
        with translated(self.batch, about.imgsz, further):
            self.device = torch_device(config.get("device"))
            self.model = model.to(self.device)

    def exported(self, folder: Path, format: str) -> Exported:
        """Writes the model in a format of `exporting.FORMATS`. Raises InvalidConfig where its kind has no such form."""
        raise InvalidConfig(f"A model of {type(self.about).__module__} can't be exported: it declares no graph.")

    @torch.no_grad()
    def evaluate(self, dataset: Path, split: str, on_batch: Callable[[int, int], None]) -> Evaluation:
        """Measures the model.

        Args:
            dataset: The dataset folder.
            split: ``train``, ``val`` or ``test``.
            on_batch: Called with the number of batches done and the total.

        Raises:
            InvalidDataset: If the split has no image.
            OutOfMemory: If the GPU's memory is used up.
            SickMachine: If the GPU is lost.
        """
        set_threads()
        with translated(self.batch, self.imgsz, self._further):
            return self.measure(dataset, split, on_batch)

    @abstractmethod
    def measure(self, dataset: Path, split: str, on_batch: Callable[[int, int], None]) -> Evaluation:
        """Measures the model, as `evaluate`."""
