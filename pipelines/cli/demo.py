"""``visionloop demo``: the whole loop on real data, on this machine, from nothing to a registered model."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Annotated, Any

import typer

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.storage import open_prefix
from visionloop.pipelines import sample, services
from visionloop.pipelines.cli.beginning import trainer_of
from visionloop.pipelines.cli.ending import show_end
from visionloop.pipelines.cli.options import Training
from visionloop.pipelines.cli.output import Output
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.laptop import ENGINE as LAPTOP
from visionloop.pipelines.sample import Labels
from visionloop.training import catalog

WORKSPACE = f"s3://{services.RESULTS_BUCKET}/demo"

#: What the names of variables begin with that a demo ignores: the caller's own stores, trackers and settings.
CALLERS_OWN = ("EXTERNAL_", "INTERNAL_", "AWS_", "MLFLOW_", "S3_", "CONFIG", "ADVANCED_CONFIG", "FRAMEWORK")

#: By task how many images train, val and test of the sample dataset have.
IMAGES: Mapping[str, tuple[int, int, int]] = {
    "detection": (400, 80, 80),
    "segmentation": (400, 80, 80),
    "pose": (400, 80, 80),
    "classification": (600, 120, 120),
}


def demo(
    task: Annotated[str, typer.Option(help="detection, segmentation, pose or classification.")] = "detection",
    trainer: Annotated[
        str | None,
        typer.Option(help="The training library, by the name of its trainer (default: as a run chooses it)."),
    ] = None,
    output: Output = None,
) -> None:
    """Write a small dataset, train on it and register the model; the second time everything is reused.

    Example: visionloop demo
    """
    if task not in IMAGES:
        raise InvalidConfig(f"--task {task}: give one of {', '.join(IMAGES)}.")
    # Before the trainer is chosen, so that the run chooses the same one.
    set_aside(os.environ)
    with services.session() as embedded:
        os.environ.update(embedded.environment())
        summary = train_sample(task, trainer)
    show_end(summary, output)


def set_aside(environment: MutableMapping[str, str]) -> None:
    """Removes the caller's own stores, trackers and settings from an environment."""
    for name in list(environment):
        if name.startswith(CALLERS_OWN):
            del environment[name]


def train_sample(task: str, trainer: str | None) -> dict[str, Any]:
    """Writes a task's sample dataset unless it is there, trains on it in the stores of the environment, and returns the run's summary.

    Raises:
        InvalidConfig: If there is no such trainer, none is installed, or it has no demo of the task.
        VisionloopError: The failed stage's own error.
    """
    settings, name = _settings(trainer, task), sample.name_of(task)
    dataset = f"s3://{services.DATASETS_BUCKET}/{name}"
    write_dataset(dataset, task)
    training = Training(
        dataset=[dataset],
        workspace=WORKSPACE,
        model_name=name,
        description="The sample dataset's handwritten digits.",
        settings=[f"{key}={value}" for key, value in settings.items()],
    )
    order = Order("train", training.arguments())
    notice(trainer_of(LAPTOP, order))
    return LAPTOP.result(order).summary()


def _settings(named: str | None, task: str) -> dict[str, str]:
    """The settings with which a trainer learns a task's sample dataset, its name among them if it is named.

    Raises:
        InvalidConfig: If there is no such trainer, none is installed, or it has no settings for this.
    """
    trainer = named or catalog.first_installed(catalog.trainers(), task)
    demos: Mapping[str, Mapping[str, str]] = getattr(catalog.trainer(trainer), "demos", {})
    if task not in demos:
        raise InvalidConfig(
            f"--task {task}: the trainer {trainer} has a demo of {', '.join(sorted(demos)) or 'no task'}; choose another trainer with --trainer."
        )
    return {"trainer": named, **demos[task]} if named else {**demos[task]}


def write_dataset(uri: str, task: str, train: int | None = None, labels: Labels | None = None) -> None:
    """Writes a task's sample dataset, or one like it, unless it is already complete.

    Args:
        uri: Where; its last part is the dataset's name.
        task: The task.
        train: How many images train has; as many as the sample's unless given.
        labels: How digits are named.
    """
    prefix = open_prefix(uri, "results")
    if prefix.exists(sample.LAST_KEY):
        return
    images: dict[str, bytes] = {}
    last: list[tuple[str, bytes]] = []
    first, val, test = IMAGES[task]
    sample.write(
        lambda key, data: images.__setitem__(key, data) if key.startswith("images/") else last.append((key, data)),
        first if train is None else train,
        val,
        test,
        task=task,
        name=uri.rpartition("/")[2],
        labels=labels or Labels(),
    )
    for _ in prefix.map(lambda key: prefix.write(key, images[key]), images):
        pass
    for key, data in last:
        prefix.write(key, data)
