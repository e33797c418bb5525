"""Loads a registered model as a machine without Visionloop does: in a fresh process, with the packages of its requirements alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from visionloop.core import texts
from visionloop.core.errors import InvalidConfig, Killed
from visionloop.core.processes import process_group
from visionloop.registry import package
from visionloop.training.tracking.connection import SETTINGS

PROGRAM = Path(__file__).with_name("fresh_program.py")

#: Seconds between two signs of life of the process that waits.
TICK_SECONDS = 5.0

#: The variables that the process gets of this one's: none that a store, a registry or a tracker reads.
PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS", "SSL_CERT_FILE")


def check_loads(folder: Path, trainer: str, work: Path, alive: Callable[[], None] = lambda: None) -> None:
    """Loads a model's folder in a fresh process that can import what its requirements bring, and what it carries; and predicts.

    Args:
        folder: The model's folder, as ``package.build`` wrote it.
        trainer: The name of its trainer, for the sentence.
        work: A folder for what libraries write into a home.
        alive: Called while the process works.

    Raises:
        InvalidConfig: If it does not load or predict so.
        Killed: If a signal ended the process.
    """
    required = (folder / package.REQUIREMENTS_FILE).read_text(encoding="utf-8").splitlines()
    distributions = closure(required)
    asked = {
        "model": str(folder),
        "modules": sorted(modules_of(distributions)),
        "distributions": sorted(distributions),
        "archive": str(folder / "artifacts" / package.ARCHIVE),
    }
    code, said = _run([sys.executable, "-W", "ignore", str(PROGRAM), json.dumps(asked)], variables(work), work, alive)
    if code < 0:
        raise Killed(
            f"The model was loaded in a fresh process, which {signal.Signals(-code).name} ended; give register more memory if it happens again."
        )
    if code:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), f"exit code {code}")
        raise InvalidConfig(
            f"The trainer {trainer}: a fresh process with its requirements alone can't load the model and predict "
            f"({texts.sentence(last.strip()).rstrip('.')}); add what is missing to the trainer's requirements()."
        )


def closure(required: Iterable[str]) -> set[str]:
    """The canonical names of the installed distributions that some requirements bring, directly or not; never Visionloop itself."""
    waiting = deque((Requirement(line), frozenset[str]()) for line in required if line.strip())
    seen: dict[str, set[str]] = {}
    while waiting:
        requirement, extras = waiting.popleft()
        name = canonicalize_name(requirement.name)
        if not _applies(requirement, extras) or name == "visionloop":
            continue
        asked = {"", *requirement.extras}
        new = asked - seen.get(name, set())
        if not new:
            continue
        seen.setdefault(name, set()).update(asked)
        with contextlib.suppress(metadata.PackageNotFoundError):
            waiting += ((Requirement(text), frozenset(new)) for text in metadata.requires(name) or ())
    return set(seen)


def modules_of(distributions: Iterable[str]) -> set[str]:
    """The top-level modules that some distributions bring."""
    wanted = set(distributions)
    brought = metadata.packages_distributions().items()
    return {module for module, owners in brought if wanted & {canonicalize_name(owner) for owner in owners}}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement counts on this machine, for a distribution with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def variables(work: Path) -> dict[str, str]:
    """The variables of the process, with a home below ``work``."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # Not on a GPU: where the model is loaded next there may be none.
    return passed | SETTINGS | {"HOME": str(home), "CUDA_VISIBLE_DEVICES": ""}


def _run(command: list[str], variables: Mapping[str, str], folder: Path, alive: Callable[[], None]) -> tuple[int, str]:
    """The exit code of a process, and what it said on stderr."""
    log = folder / "fresh.log"
    with process_group() as group, log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=said, stderr=said, stdin=subprocess.DEVNULL, process_group=group
        )
        while True:
            try:
                code = process.wait(TICK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                alive()
    return code, log.read_text(encoding="utf-8", errors="replace")
