"""What a training is made of: its arguments, what they lead to, its settings, and the job of the trainer's process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.train.events import TrainingEvents
from visionloop.core import stop
from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.stage import Context, argument
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import split_uri
from visionloop.data.annotations.labels import flip_index, keypoint_names
from visionloop.data.reduced import Reduction
from visionloop.registry import resolve_model
from visionloop.training import catalog, configuration, weights
from visionloop.training.preflight import Planned
from visionloop.training.supervision.child import JobFile
from visionloop.training.trainers import Trainer


@dataclass(frozen=True)
class Arguments:
    """The arguments of train."""

    converted: str = argument("URI of the convert receipt.")
    snapshot: str = argument("URI of the snapshot's receipt: it says where the images are read from.")
    set: list[str] = argument("A setting, KEY=VALUE; may be given many times.", default=(), repeated=True)
    settings: str | None = argument(
        "Settings as a JSON object; one of them may stand here or in --set, not in both.", default=None
    )
    model_name: str | None = argument("The name the model will be registered under; for tracking only.", default=None)
    run_name: str | None = argument("A name for people; for tracking only.", default=None)
    description: str | None = argument("A description for people; for tracking only.", default=None)


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` loaded."""

    arguments: Arguments
    converted: Converted
    snapshot: Snapshot
    config: configuration.Resolved
    weights: weights.Weights
    events: TrainingEvents
    watch: stop.Watch


def resolve_settings(settings: Mapping[str, object], task: str) -> tuple[configuration.Resolved, Trainer]:
    """Returns the configuration of a training for a task, and its trainer, without reading the dataset.

    Args:
        settings: The explicit settings by name, ``advanced_config`` among them where it is given.
        task: The dataset's task.

    Raises:
        InvalidConfig: If a setting can't be used, or the trainer or model is for another task.
    """
    config = configuration.resolve(settings, catalog.trainers(), os.environ, task)
    trainer = catalog.trainer(config.trainer)
    configuration.check_model_task(str(config.values["model"]), task, trainer)
    if task not in trainer.tasks:
        raise InvalidConfig(
            f"task {task}: the trainer {trainer.name} trains {', '.join(sorted(trainer.tasks))}; "
            "choose another --task or trainer."
        )
    return config, trainer


def fetch_weights(uri: str, local: Path) -> None:
    """Fetches starting weights from the results store into a file. Raises NotFound; InvalidConfig if they are too large."""
    parent, name = split_uri(uri)
    prefix = open_prefix(parent, "results")
    weights.check_size(prefix.head(name).size, uri)
    prefix.download(name, local)


def registered(reference: str, workspace: Prefix | None = None) -> str:
    """The URI of a registered model's checkpoint (``models:/NAME@alias``); see `resolve_model`. Raises NotFound."""
    return resolve_model(reference, os.environ, workspace)


def planned(loaded: Loaded) -> Planned:
    """What a training will use of its machine."""
    config, images = loaded.config, loaded.converted.result.receipt.scalars.get("train")
    asked = config.source("batch") != configuration.DEFAULT
    return Planned.of(config.values, catalog.trainer(config.trainer), images, batch_asked=asked)


def reduction_of(config: configuration.Resolved, trainer: Trainer, task: str) -> Reduction | None:
    """How a training's images are reduced; None if they are not."""
    side, by = config.values["resize"], configuration.interpolation(trainer, task)
    return Reduction(side, by) if isinstance(side, int) and side and by else None


def make_job(
    context: Context, loaded: Loaded, config: Mapping[str, Any], batch: int, dataset: Path, folder: Path
) -> JobFile:
    """Fetches the starting weights, and returns a job for the trainer's process.

    Args:
        context: Where the stage runs.
        loaded: What is trained.
        config: The configuration.
        batch: The batch to use.
        dataset: The folder with the view.
        folder: An empty folder for weights and work.
    """
    work = folder / "work"
    work.mkdir()
    located = weights.materialise(loaded.weights, fetch_weights, folder)
    keypoints, flip = _keypoints(loaded.snapshot)
    return JobFile(
        trainer=loaded.config.trainer,
        task=loaded.converted.task,
        dataset=str(dataset),
        classes=list(loaded.converted.classes),
        config=dict(config),
        weights=str(located) if located else None,
        work=str(work),
        checkpoint=None,
        batch=batch,
        keypoints=keypoints,
        flip=flip,
        run=context.run.name,
        trace_id=context.trace_id,
    )


def _keypoints(snapshot: Snapshot) -> tuple[list[str], list[int]]:
    """For pose the keypoints' names and each one's counterpart in a mirror; no other task's annotations are read for it."""
    if snapshot.task != "pose":
        return [], []
    annotations = snapshot.annotations
    names = keypoint_names(annotations) or ()
    if any(entry.keypoints and entry.keypoints != names for entry in annotations.classes):
        notice(
            "train: the dataset gives keypoints one name twice, or classes other names; the model answers with those of the first class, or with numbers."
        )
    return list(names), list(flip_index(annotations) or ())
