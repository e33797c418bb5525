"""The toys' distribution, and runs with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy_pipeline
from laptop import file_laptop
from toy_runs import ToyRuns, write_distribution

from visionloop.core import catalog

__all__ = ["file_laptop"]


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the toys' distribution."""
    folder = tmp_path_factory.mktemp("toys")
    stages = {name: f"toy_pipeline:{name.upper()}" for name in toy_pipeline.ARGUMENTS}
    write_distribution(folder / "toys", {catalog.STAGES: stages})
    return folder


@pytest.fixture
def toy_runs(toys: Path, tmp_path: Path) -> ToyRuns:
    """Runs in an empty workspace."""
    (tmp_path / "toys").symlink_to(toys / "toys")
    return ToyRuns(tmp_path)
