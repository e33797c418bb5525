"""One machine as a test needs it: the command line in processes of its own, a real store, a real MLflow, tiny datasets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil
from obstore.store import LocalStore, S3Store

from visionloop.components import progress, receipts
from visionloop.components.receipts import Found, Receipt
from visionloop.components.runs import RunRecord
from visionloop.components.storage import Prefix
from visionloop.pipelines import sample

TESTS = Path(__file__).parent
THIRD_PARTY = TESTS / "third_party" / "distribution"
CLOSED_NETWORK = TESTS / "local" / "closed_network"
VISIONLOOP = Path(sys.executable).with_name("visionloop")

#: Settings of a training of the real trainer and of the toy's, as small as they get.
TINY = ("model=yolo11n.yaml", "imgsz=32", "epochs=2", "batch=8", "nbs=8", "mosaic=0", "workers=0")
TOY = ("trainer=toy", "epochs=4", "batch=8", "lr0=1")

#: Seconds after which a command that should have ended is given up.
PATIENCE = 240


class Server(Protocol):
    """An S3 server as ``tests/conftest.py`` starts it."""

    endpoint: str
    keys: Any

    def variables(self, role_prefix: str, keys: Any = None) -> dict[str, str]: ...


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and all that it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object that is stdout's last line."""
        value = json.loads(self.stdout.splitlines()[-1])
        assert isinstance(value, dict)
        return value

    @property
    def sentence(self) -> str:
        """stderr's last line."""
        return (self.stderr.splitlines() or [""])[-1]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON log lines on stderr."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    def expect(self, code: int = 0) -> Ended:
        """This, if the exit code is the expected one."""
        assert self.code == code, f"exit code {self.code}\n{self.stdout}\n{self.stderr}"
        return self

    def refused(self, code: int) -> str:
        """The sentence of a command that must end with ``code``, no JSON and no traceback."""
        self.expect(code)
        assert "Traceback" not in self.stdout + self.stderr
        assert not [line for line in self.stdout.splitlines() if line.startswith("{")]
        assert self.sentence.endswith("."), self.sentence
        return self.sentence


@dataclass
class Command:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    folder: Path

    def end(self, timeout: float = PATIENCE) -> Ended:
        """Waits for it."""
        code = self.process.wait(timeout)
        return Ended(code, (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text())

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return (self.folder / "stderr").read_text()

    def tree(self) -> list[psutil.Process]:
        """It and all that it started, but the embedded services: they are everybody's."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *(child for child in root.children(recursive=True) if child.name() != "weed")]
        except psutil.NoSuchProcess:
            return []

    def descendant(self, text: str) -> psutil.Process:
        """The process below it whose command line holds ``text``."""

        def find() -> psutil.Process | None:
            for process in self.tree():
                with contextlib.suppress(psutil.Error):
                    if text in " ".join(process.cmdline()):
                        return process
            return None

        return wait_for(find, self)

    def kill(self) -> None:
        """SIGKILL to all of it at once, as a machine that loses its power."""
        members = self.tree()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in members:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        psutil.wait_procs(members, 30)
        self.process.wait()


def wait_for[Result](look: Callable[[], Result | None], command: Command | None = None) -> Result:
    """The first true result; a command that ends before is a failure."""
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        if command is not None and command.process.poll() is not None:
            # It may have ended right after what was waited for.
            found = look()
            assert found, f"ended too early: {command.end()}"
            break
        assert time.monotonic() < until, f"waited in vain{f': {command.stderr}' if command else ''}"
        time.sleep(0.02)
    return found
