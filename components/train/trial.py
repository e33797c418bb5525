"""What ``visionloop run check`` does behind convert: a trial of one batch, with nothing written to the workspace."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.components.train.loaded import Loaded, make_job, planned, reduction_of
from visionloop.components.train.stage import STAGE
from visionloop.core.errors import InvalidConfig
from visionloop.core.folders import temporary_folder
from visionloop.core.limits import Limits
from visionloop.core.running import make_arguments
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix
from visionloop.data.images import ImageCache
from visionloop.training import catalog
from visionloop.training.environment import child_environment, trainer_variables
from visionloop.training.preflight import check_machine
from visionloop.training.supervision import channel
from visionloop.training.supervision.supervisor import supervise_trial
from visionloop.training.trainers import BatchTrial, Trainer, TriesABatch
from visionloop.training.trial import Finding, judged

#: Images of val that are there for the trainer, which does not look at them.
VALIDATED = 4

#: The longest that a trial may take, in seconds.
LIMIT = 3600.0


@dataclass(frozen=True)
class Tried:
    """A trial that has passed: what was tried, what was seen, and the figures."""

    trainer: str
    task: str
    model: str
    batch: BatchTrial
    findings: list[Finding]


def try_training(workspace: Prefix, run: str, trace_id: str, arguments: Mapping[str, Any]) -> Tried:
    """Tries a training on one batch.

    Args:
        workspace: Where the receipts lie; nothing is written there.
        run: A name for the log.
        trace_id: The trace id.
        arguments: Those of the stage train.

    Raises:
        InvalidDataset: If a check fails.
        InvalidConfig: If the trainer can't try a batch, or the training can't be configured so.
        VisionloopError: What the training would end with at its beginning.
    """
    with Limits("check", LIMIT, 0.0) as limits:
        context = Context(workspace, RunRecord(workspace, run), trace_id, limits, STAGE.policy)
        loaded = STAGE.resolve(context, make_arguments(STAGE, arguments)).loaded
        trainer = catalog.trainer(loaded.config.trainer)
        if not isinstance(trainer, TriesABatch):
            raise InvalidConfig(
                f"The trainer {trainer.name} can't try a batch: it has no method try_batch (visionloop/training/trainers); run check is for "
                "trainers that have it."
            )
        check_machine(planned(loaded), os.environ)
        with temporary_folder("check") as folder:
            trial = _trial(context, loaded, trainer, folder)
    findings = judged(trial, loaded.config.values["lr0"])
    return Tried(trainer.name, loaded.converted.task, str(loaded.config.values["model"]), trial, findings)


def _trial(context: Context, loaded: Loaded, trainer: Trainer, folder: Path) -> BatchTrial:
    config, dataset = loaded.config, folder / "dataset"
    dataset.mkdir()
    batch = int(str(config.values["batch"]))
    loaded.converted.view(
        loaded.snapshot,
        dataset,
        ImageCache.of_environment(),
        ("train", "val"),
        context.fetched,
        label_files=getattr(trainer, "label_files", True),
        reduction=reduction_of(config, trainer, loaded.converted.task),
        few={"train": batch, "val": VALIDATED},
    )
    job = make_job(context, loaded, config.values, batch, dataset, folder)

    def on_batch(_: channel.Batch) -> None:
        context.alive()

    tried = supervise_trial(job, folder, child_environment(os.environ, trainer_variables(trainer)), on_batch)
    return BatchTrial(
        losses=[math.nan if loss is None else loss for loss in tried.losses],
        gradients=tried.gradients,
        weights=tried.weights,
        trained=tried.trained,
        images=tried.images,
        chance=tried.chance,
    )
