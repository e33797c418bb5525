"""A real MLflow on SQLite, created once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, made as the embedded one is."""
    folder = tmp_path_factory.mktemp("tracking")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "visionloop.pipelines.services.schema",
            f"{folder}/mlflow.db",
            (folder / "none").as_uri(),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder / "mlflow.db"


@pytest.fixture
def environment(tracking_database: Path) -> dict[str, str]:
    """The variables of a stage that tracks."""
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{tracking_database}"}
