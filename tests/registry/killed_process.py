"""A registration, a promotion or a rollback in a process of its own, which is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from toy_detector import Prepared

from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.core import receipts
from visionloop.registry import Registry
from visionloop.registry.versions import EVALUATION, PROMOTED_BY

#: Seconds within which a step must be seen.
PATIENCE = 120


class Working:
    """A process that works on a model, started from one that has imported everything already."""

    def __init__(
        self, context: ForkServerContext, work: Callable[..., None], arguments: tuple[object, ...], errors: Path
    ):
        variables = {key: os.environ[key] for key in ("MLFLOW_TRACKING_URI", "VISIONLOOP_CACHE", "VISIONLOOP_HOME")}
        self.errors = errors
        self.process: ForkServerProcess = context.Process(target=work, args=(variables, *arguments, str(errors)))
        self.process.start()

    def kill_when(self, seen: Callable[[], bool]) -> bool:
        """Kills the process once something is seen. False if it had ended by then."""
        until = time.monotonic() + PATIENCE
        while self.process.is_alive() and not seen():
            assert time.monotonic() < until
            time.sleep(0.002)
        self.process.kill()
        return self.killed()

    def killed(self) -> bool:
        """Waits for its end; whether it was killed."""
        self.process.join(PATIENCE)
        return self.process.exitcode == -9

    def succeed(self) -> None:
        """Waits for its end."""
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0, self.errors.read_text()


def registration(context: ForkServerContext, prepared: Prepared, evaluation: str, name: str, errors: Path) -> Working:
    """A registration of an evaluated model."""
    from killed_register import work

    return Working(context, work, (prepared.workspace, evaluation, name), errors)


def decision(
    context: ForkServerContext, command: str, model: str, errors: Path, *, after: int | None = None
) -> Working:
    """A promotion of ``NAME/VERSION``, or a rollback of ``NAME``; killed before its write number ``after``."""
    from killed_register import decide

    return Working(context, decide, (command, model, after), errors)


def check_champion(registry: Registry, name: str) -> None:
    """The champion was promoted by the gate, or by a person where the gate kept it."""
    champion = registry.champion(name)
    assert champion is not None
    evaluation = read_evaluation(receipts.load(champion.tags[EVALUATION], "evaluate"))
    assert evaluation.training == champion.training_digest
    assert evaluation.verdict == "promote" or (evaluation.verdict == "keep" and champion.tags[PROMOTED_BY] == "ada")
