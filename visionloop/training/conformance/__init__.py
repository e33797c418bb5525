"""The conformance suite: whether a trainer keeps what the protocol promises, on 24 generated images of each of its tasks.

From the command line it is ``visionloop trainer check NAME``. In pytest it is one line, in the tests of whoever wrote the trainer::

    from visionloop.training import conformance

    test_conformance = conformance.suite("example")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core import catalog
from visionloop.core.errors import InvalidConfig
from visionloop.training.catalog import TRAINERS, check_installed, spelled
from visionloop.training.conformance import declaration, measured, predicted, trained
from visionloop.training.conformance.outcomes import STATES, Broken, Check, Checks, NotChecked, Outcome, require
from visionloop.training.conformance.subject import Subject

__all__ = ["STATES", "Broken", "NotChecked", "Outcome", "Promise", "promises", "suite"]

#: The last check: what all others have left behind.
AFTERWARDS: Checks[Subject] = Checks()


@AFTERWARDS.add
def dataset(subject: Subject) -> None:
    """The dataset's folder, which may not be written, is as it was."""
    altered = subject.altered()
    require(not altered, f"It wrote into the dataset's folder ({', '.join(altered[:3])}): write into job.work alone.")


#: The checks of each task, in their order.
OF_TASK: Checks[Subject] = Checks(
    [*declaration.OF_TASK, *trained.CHECKS, *measured.CHECKS, *predicted.CHECKS, *AFTERWARDS]
)


@dataclass(frozen=True)
class Promise:
    """A check of one trainer.

    Attributes:
        trainer: The trainer's name.
        task: The task; None for what all tasks share.
        check: The check.
        subject: What is checked; those of one task share it, so that a training is made once.
    """

    trainer: str
    task: str | None
    check: Check[Any]
    subject: Any

    def __str__(self) -> str:
        """Task and name, as pytest shows it."""
        return f"{self.task or 'trainer'}-{self.check.name}".replace(" ", "-")

    def __call__(self) -> str:
        """Checks, and returns the sentence. Raises `Broken`, `NotChecked`, or what the trainer raised."""
        return self.check(self.subject)

    def outcome(self) -> Outcome:
        """Checks; whatever the trainer raises is a failure."""
        return self.check.outcome(self.subject, self.task)


def promises(name: str, task: str | None = None, settings: Mapping[str, object] | None = None) -> Iterator[Promise]:
    """The checks of a trainer in their order; each trains only when it is called, and only what no other has trained.

    Args:
        name: That of its entry point.
        task: One of its tasks; None takes all.
        settings: Settings of its trainings, such as a small model; those of its ``demos`` count otherwise. The checks themselves
            decide epochs, batch and workers.

    Raises:
        InvalidConfig: If there is no such trainer or task, something that the trainer needs is not installed, or it does not take one
            of the settings.
    """
    name = spelled(name)
    trainer = catalog.find(TRAINERS, name, "trainer")
    general = declaration.Declared(name, trainer)
    declared = Promise(name, None, declaration.GENERAL[0], general)
    if declared.outcome().state == "failed":
        yield declared  # of one that lacks what the protocol asks for, nothing else can be asked
        return
    check_installed(trainer)
    tasks = sorted(trainer.tasks)
    if task is not None and task not in tasks:
        raise InvalidConfig(
            f"--task {task}: the trainer {name} trains {', '.join(map(str, tasks))}; give one of these."
        )
    for check in declaration.GENERAL:
        yield Promise(name, None, check, general)
    for own in tasks if task is None else [task]:
        if own in declaration.METRICS:
            subject = Subject(name, trainer, own, settings or {})
            subject.check_settings()
            yield from (Promise(name, own, check, subject) for check in OF_TASK)


def suite(name: str, task: str | None = None, settings: Mapping[str, object] | None = None) -> Callable[..., None]:
    """A test for pytest with a case for each check; what can't be checked is skipped, with the reason.

    The arguments are those of `promises`. The cases of a task share its trainings, so they belong into one process.
    """
    import pytest

    @pytest.mark.parametrize("promise", list(promises(name, task, settings)), ids=str)
    def test(promise: Promise) -> None:
        try:
            promise()
        except NotChecked as reason:
            pytest.skip(str(reason))

    return test
