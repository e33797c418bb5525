"""Says which trainer a run takes, and why: the one that is named, else the first that is installed and has the task."""

from __future__ import annotations

from collections.abc import Mapping

from visionloop.core.errors import InvalidConfig
from visionloop.training import catalog
from visionloop.training.configuration import named_trainer
from visionloop.training.trainers import Trainer


def trainer_line(
    trainers: Mapping[str, Trainer],
    settings: Mapping[str, object],
    task: str | None,
    form: str | None,
    environment: Mapping[str, str],
) -> str:
    """One line on the trainer of a run, as its stages choose it.

    Args:
        trainers: The trainers by name.
        settings: The explicit settings of the training by name.
        task: The task, if it is named; without it the dataset decides later.
        form: The trainer that the run's form names where nothing else does; None on a machine whose stages choose it.
        environment: The variables of the stages.

    Raises:
        InvalidConfig: If no trainer is installed for the task, or for any task.
    """
    if named := named_trainer(settings, environment):
        name, source = named
        return f"trainer {name}: named by {source}"
    if form is not None:
        return f"trainer {form}: the run's form names it where --set does not"
    tasks = [task] if task else sorted({task for trainer in trainers.values() for task in trainer.tasks})
    by_trainer: dict[str, list[str]] = {}
    refused: InvalidConfig | None = None
    for each in tasks:
        try:
            by_trainer.setdefault(catalog.first_installed(trainers, each), []).append(each)
        except InvalidConfig as error:
            refused = refused or error
    if refused and not by_trainer:
        raise refused
    first = f"the first of {', '.join(catalog.in_order(trainers))} that is installed"
    if len(by_trainer) == 1:
        (name,) = by_trainer
        return f"trainer {name}: {first} and has the task{f' {task}' if task else ''}"
    words = "; ".join(f"{name} for {', '.join(names)}" for name, names in by_trainer.items())
    return f"trainer by the dataset's task, {words}: {first} and has the task"
