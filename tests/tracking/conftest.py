"""What a stage that tracks is told."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def environment(mlflow_database: Path) -> dict[str, str]:
    """The variables of a stage that tracks."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"}
