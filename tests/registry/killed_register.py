"""What the processes of test_register_kills.py run: one registration, in a process of its own that may be killed."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

# Imported once, before the processes are forked.
import mlflow.pyfunc
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import pytest
import toy_detector

from visionloop.components import register


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
