"""What trainers with the loop here have in common. Importing this module imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.training.pytorch import settings
from visionloop.training.trainers import (
    PROTOCOL,
    BatchTrial,
    Evaluation,
    Exported,
    Listener,
    Predictor,
    TrainingJob,
    TrainingResult,
)

if TYPE_CHECKING:
    from visionloop.training.pytorch.failures import Further
    from visionloop.training.pytorch.loaded import LoadedModel
    from visionloop.training.pytorch.training import MakesLearner

#: Extensions of an architecture's name that stands for random weights.
FROM_SCRATCH = (".yaml", ".yml")


class LoopTrainer(ABC):
    """A library that brings models, trained by the loop here; the protocol is `visionloop.training.trainers.Trainer`.

    A library's own class declares what the protocol asks for and is not here, has ``settings``, and the methods below that have no body.

    Attributes:
        packages: Names of the packages that loading a model file needs.
    """

    protocol = PROTOCOL
    several_devices = True
    resumes_within_epoch = True
    packages: tuple[str, ...]

    @abstractmethod
    def learner(self) -> tuple[MakesLearner, Further]:
        """What makes the model with its data, and what recognises the library's own exceptions; both are functions or classes of a module.

        Whatever imports torch or the library is imported in here.
        """

    @abstractmethod
    def load(self, checkpoint: Path, config: Mapping[str, Any]) -> LoadedModel[Any]:
        """Loads a ``TrainingResult.best``.

        Args:
            checkpoint: The model file.
            config: Settings of the evaluation, ``device`` among them; empty for predictions.

        Raises:
            InvalidReceipt: If the file is not a model of this trainer's.
        """

    @abstractmethod
    def model_task(self, model: str) -> str | None:
        """The task of a bare model or YAML name, or None if the name does not show it."""

    @abstractmethod
    def files(self, model: str) -> tuple[str, ...]:
        """File names that the weights of a bare model name may have."""

    def weights_names(self, model: str) -> tuple[str, ...]:
        """File names that a bare model name's weights may have; empty for a YAML name, a path or a URI."""
        return () if "/" in model or model.endswith(FROM_SCRATCH) else self.files(model)

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` is the YAML name of an architecture, such as ``resnet18.yaml``."""
        return model.endswith(FROM_SCRATCH) and self.model_task(model) is not None

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Spells the optimizer's name as torch does. Raises InvalidConfig as `settings.normalise`."""
        return settings.normalise(values)

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; see `training.train`."""
        from visionloop.training.pytorch.training import train

        return train(job, listener, *self.learner())

    def try_batch(self, job: TrainingJob, listener: Listener) -> BatchTrial:
        """Trains on one batch again and again; see `training.try_batch`."""
        from visionloop.training.pytorch.training import try_batch

        return try_batch(job, listener, *self.learner())

    def evaluate(
        self,
        checkpoint: Path,
        dataset: Path,
        split: str,
        config: Mapping[str, Any],
        work: Path,
        on_batch: Callable[[int, int], None],
    ) -> Evaluation:
        """Evaluates a model file on one split; see `loaded.LoadedModel.evaluate`."""
        return self.load(checkpoint, config).evaluate(dataset, split, on_batch)

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file for inference."""
        return self.load(checkpoint, {})

    def export(self, checkpoint: Path, format: str, folder: Path) -> Exported:
        """Writes a model file in another format; see `exporting.exported`."""
        return self.load(checkpoint, {"device": "cpu"}).exported(folder, format)

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a model file needs."""
        return [f"{name}=={version(name)}" for name in self.packages]
