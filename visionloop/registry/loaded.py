"""A registered model, loaded in this process by its trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.folders import temporary_folder
from visionloop.registry import package
from visionloop.registry.versions import Version
from visionloop.training import catalog
from visionloop.training.trainers import Predictor, Trainer


@dataclass(frozen=True)
class LoadedModel:
    """A version with what predicts by it.

    Attributes:
        version: The version.
        description: What its files say of it.
        trainer: The trainer that made it.
        checkpoint: Its checkpoint in a folder of this process.
        predictor: The model itself.
    """

    version: Version
    description: package.Description
    trainer: Trainer
    checkpoint: Path
    predictor: Predictor


@contextlib.contextmanager
def loaded(version: Version, uri: str, description: package.Description) -> Iterator[LoadedModel]:
    """Fetches a version's checkpoint, checked against its recorded digest, and loads it by the trainer that made it.

    Args:
        version: The version.
        uri: The URI of its files, as ``resolve.describe`` finds it.
        description: What they say of it.

    Raises:
        InvalidConfig: If its trainer is not installed here, with the command that installs it.
        InvalidReceipt: If its checkpoint is gone or was altered.
    """
    trainer = catalog.trainer(description.trainer)
    catalog.check_installed(trainer)
    with temporary_folder("registered") as folder:
        # Libraries tell a file's kind by its ending.
        local = folder / (Path(description.checkpoint).name or package.CHECKPOINT)
        checkpoint = package.fetch_checkpoint(uri, description, local, version.checkpoint_sha256)
        yield LoadedModel(version, description, trainer, checkpoint, trainer.predictor(checkpoint))
