"""An empty folder and an environment of its own for each notebook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import notebook_process
import pytest

VISIONLOOP = Path(sys.executable).with_name("visionloop")


@pytest.fixture
def run_notebook(tmp_path: Path, registry_template: Path) -> Iterator[Callable[..., notebook_process.Ran]]:
    """A function that runs a notebook by its name, with further variables; embedded services are down at the end."""
    home = {"VISIONLOOP_HOME": str(tmp_path / "services"), "TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)}
    environment = {**os.environ, **home}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "services").mkdir(mode=0o700)
    for name in ("mlflow.db", "mlflow.version"):
        shutil.copy(registry_template / name, tmp_path / "services" / name)

    def run(
        name: str, variables: Mapping[str, str] | None = None, settings: tuple[str, ...] | None = None
    ) -> notebook_process.Ran:
        return notebook_process.run(name, tmp_path, {**environment, **(variables or {})}, settings=settings)

    yield run
    subprocess.run([str(VISIONLOOP), "down"], capture_output=True, check=False, env=environment, cwd=tmp_path)
