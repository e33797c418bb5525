"""What a stage that tracks is told, and trainings to track."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql import postgresql
from published_training import converted, training

from visionloop.core.logs import LOGGER

__all__ = ["converted", "postgresql", "training"]


@pytest.fixture
def environment(mlflow_database: Path) -> dict[str, str]:
    """The variables of a stage that tracks."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What Visionloop's own log says."""
    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        yield caplog
