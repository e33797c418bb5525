"""What processes that may be killed run: a registration, or a person's decision."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path
from typing import Any

# Imported once, before the processes are forked.
import mlflow.pyfunc
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import pytest
import toy_detector

from visionloop.components import register
from visionloop.core.runs import RunRecord
from visionloop.pipelines.models import decisions
from visionloop.registry import Registry

#: What a decision writes, by the class that does it.
WRITES = {
    Registry: ("tag", "untag", "set_alias", "remove_alias", "tag_model", "untag_model"),
    RunRecord: ("write_decision",),
}


def work(variables: dict[str, str], workspace: str, evaluation: str, name: str, errors: str) -> None:
    """Registers, and writes down what went wrong if something did."""
    os.environ.update(variables)
    toy_detector.install(pytest.MonkeyPatch())
    try:
        toy_detector.run(
            register.STAGE, {"evaluation": evaluation, "model_name": name}, workspace, run=f"killed-{os.getpid()}"
        )
    except BaseException:
        Path(errors).write_text(traceback.format_exc())
        raise


def decide(variables: dict[str, str], command: str, model: str, after: int | None, errors: str) -> None:
    """Promotes or rolls back, and kills itself before its write number ``after``, counted from 0."""
    os.environ.update(variables)
    left = after

    def counted(write: Any) -> Any:
        def counting(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left = None if left is None else left - 1
            return write(*arguments)

        return counting

    for kind, names in WRITES.items():
        for name in names:
            setattr(kind, name, counted(getattr(kind, name)))
    registry = Registry(os.environ)
    try:
        if command == decisions.PROMOTE:
            decisions.promote(registry, model, "ada", "better at night")
        else:
            decisions.rollback(registry, model, None, "ada", "worse by day")
    except BaseException:
        Path(errors).write_text(traceback.format_exc())
        raise
