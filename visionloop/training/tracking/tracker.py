"""The protocol of a tracker: what it is asked, and what it is told of a training.

A tracker is a module or folder here and an entry point of the group ``visionloop.trackers``; a third party's is the same in a
distribution of its own (CONTRIBUTING.md). It may raise whatever it likes: ``trackers`` keeps that from the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class TrainingDescription:
    """What a tracker is told of a training when its run is opened.

    Attributes:
        run: The run's name, ``runs/{run}`` of the workspace.
        workspace: The results' URI.
        experiment: The name under which trainings of one model stand together.
        name: The run's name for people.
        description: What a person wrote about it; may be empty.
        params: The resolved settings by name.
        tags: Trace id, snapshot id …, by name.
        dataset_hash: The SHA-256 of what is trained on, 64 hex digits.
        dataset_uris: The dataset's URI; of several each one's.
        resumed_after: The epoch whose checkpoint the training goes on from; 0 at the beginning.
        earlier: What `TrackerRun.entry` was in an earlier attempt at this training; empty if there is none.
    """

    run: str
    workspace: str
    experiment: str
    name: str
    description: str = ""
    params: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset_hash: str = ""
    dataset_uris: Sequence[str] = ()
    resumed_after: int = 0
    earlier: Mapping[str, Any] = field(default_factory=dict)


class TrackerRun(Protocol):
    """A training's run in a tracker. Its methods are called from one thread that is not the stage's own; each may raise."""

    def start(self) -> None:
        """Opens the run, or the one that an earlier attempt opened. It is called again if it raised."""

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs finished epochs (from 1), their metrics as ``train/…`` and ``val/…``; one that was logged before stays unchanged.

        Epochs come in order, but for those that an attempt of another run made: these come at the end. They come again if it raised.
        """

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files beside the run, by their paths there (``plots/results.png``); a tracker without files does nothing."""

    def finish(self, status: str) -> None:
        """Ends the run. ``status`` is a state of ``runs``: succeeded, failed or cancelled."""

    def entry(self) -> dict[str, Any]:
        """What the receipt says of the run once it is open: its ``run_id``, and the ``url`` of its page or place, or None."""


class Tracker(Protocol):
    """A tracker."""

    name: str

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """Why nothing is tracked although the tracker is named, as a sentence; None if it is on."""

    def check(self, environment: Mapping[str, str]) -> None:
        """Raises InvalidConfig for variables that can't be used. It asks no server, and imports no library."""

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """The distributions that it needs with these variables."""

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """A training's run; it connects to nothing before ``start``."""

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """Ends a run that was left open, by its entry; one that has ended or is gone stays as it is."""

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """Adds what a later stage found (``test/…``, files) to a run, by its entry; a value that it has stays one value."""
