"""Folders for real services, stopped whatever a test left running."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from visionloop.pipelines import services
from visionloop.pipelines.services.folder import Folder

# Uses the services until its input ends.
HOLDER = """
import sys
from visionloop.pipelines import services
with services.session(sys.argv[1]) as running:
    print(running.endpoint, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def make_home(tmp_path: Path, registry_template: Path) -> Iterator[Callable[[str], Path]]:
    """Makes folders with an MLflow store; their services are stopped at the end."""
    homes: list[Path] = []

    def make(name: str) -> Path:
        homes.append(with_a_registry(tmp_path / name, registry_template))
        return homes[-1]

    yield make
    for home in homes:
        stop(home)


def with_a_registry(path: Path, template: Path) -> Path:
    """A folder with a copy of the template's MLflow store."""
    folder, copied = Folder(path), Folder(template)
    folder.create()
    shutil.copy(copied.tracking_database, folder.tracking_database)
    shutil.copy(copied.tracking_version, folder.tracking_version)
    return folder.path


def stop(home: Path) -> None:
    """Stops a folder's services, whoever uses them."""
    for lease in (home / "leases").glob("*"):
        lease.unlink()
    assert not services.down(home).running


@pytest.fixture
def home(make_home: Callable[[str], Path]) -> Path:
    """A folder with an MLflow store and no services yet. Its name has a space, as people's have."""
    return make_home("a home")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory, registry_template: Path) -> Iterator[Path]:
    """One for the tests of a module that leave its services as they are."""
    home = with_a_registry(tmp_path_factory.mktemp("shared") / "a home", registry_template)
    yield home
    stop(home)


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts other processes that use a folder's services until their input is closed."""
    started: list[subprocess.Popen[str]] = []

    def start(home: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
