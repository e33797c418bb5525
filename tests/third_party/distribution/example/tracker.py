"""A tracker from outside the package: a line of JSON for each thing that it is told, in the file that EXAMPLE_JOURNAL names.

``EXAMPLE_JOURNAL_FAULT`` makes it go wrong: ``raises`` and ``exits`` at each call, ``hangs`` for good, ``half`` in the middle third of the
epochs, ``odd`` answers with what no receipt can hold.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.tracking import TrackerRun, TrainingDescription


class JournalTracker:
    """The protocol is `visionloop.training.tracking.Tracker`."""

    name = "journal"

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """It is never off."""
        return None

    def check(self, environment: Mapping[str, str]) -> None:
        """It needs a file."""
        if not environment.get("EXAMPLE_JOURNAL"):
            raise InvalidConfig("EXAMPLE_JOURNAL is not set; give the file that the journal is written to.")

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """Nothing besides."""
        return ()

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """The run of a training."""
        return JournalRun(Path(environment["EXAMPLE_JOURNAL"]), training)

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """Ends a run that was left open."""
        write(Path(environment["EXAMPLE_JOURNAL"]), end=entry["run_id"], status=status)

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """What a later stage found."""
        write(Path(environment["EXAMPLE_JOURNAL"]), add=entry["run_id"], metrics=dict(metrics), files=sorted(files))


class JournalRun:
    """The run of one training."""

    def __init__(self, file: Path, training: TrainingDescription) -> None:
        """Nothing is written."""
        self._file, self._training = file, training
        self._open = False

    def start(self) -> None:
        """Writes what the training is."""
        self._go_wrong()
        training = self._training
        write(self._file, start=training.run, params=dict(training.params), earlier=training.earlier.get("run_id"))
        self._open = True

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Writes each epoch."""
        self._go_wrong()
        if os.environ.get("EXAMPLE_JOURNAL_FAULT") == "half" and max(epochs) in (2, 3):
            raise ConnectionError("the journal is out")
        for epoch, metrics in epochs.items():
            write(self._file, epoch=epoch, metrics=dict(metrics))

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Writes their names."""
        write(self._file, files=sorted(files))

    def finish(self, status: str) -> None:
        """Writes the end."""
        self._go_wrong()
        write(self._file, finish=status)

    def entry(self) -> dict[str, Any]:
        """The run's id."""
        if os.environ.get("EXAMPLE_JOURNAL_FAULT") == "odd":
            return {"run_id": object(), "url": threading.Lock(), "else": {1, 2}}
        return {"run_id": f"journal-{self._training.run}" if self._open else None, "url": None}

    def _go_wrong(self) -> None:
        match os.environ.get("EXAMPLE_JOURNAL_FAULT"):
            case "raises":
                raise ValueError("no journal today")
            case "exits":
                sys.exit(3)
            case "hangs":
                threading.Event().wait()


def write(file: Path, **line: Any) -> None:
    """Adds a line."""
    with file.open("a") as journal:
        journal.write(json.dumps(line) + "\n")


TRACKER = JournalTracker()
