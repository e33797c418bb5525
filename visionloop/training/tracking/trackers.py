"""A training's runs in all trackers that are named; each fails alone, and none ever fails or slows the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from visionloop.core import secrets, texts
from visionloop.core.logs import notice
from visionloop.core.receipts import NOT_TRACKED
from visionloop.training.tracking import choice
from visionloop.training.tracking.lane import Lane
from visionloop.training.tracking.tracker import TrainingDescription


class Trackers:
    """The lanes to the trackers of one training. No method raises, and none but ``wait`` waits."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Nothing is told yet."""
        self._lanes = lanes

    @property
    def names(self) -> list[str]:
        """The trackers that are on."""
        return [lane.name for lane in self._lanes]

    def start(self) -> None:
        """Opens the run in each tracker."""
        for lane in self._lanes:
            lane.start()

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs finished epochs by the metric names of docs/contract.md; a tracker leaves one that it has as it is."""
        for lane in self._lanes:
            lane.log_epochs(epochs)

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files beside the runs, by their paths there (``plots/results.png``)."""
        for lane in self._lanes:
            lane.attach(files)

    def finish(
        self,
        status: str,
        epochs: Mapping[int, Mapping[str, float]] | None = None,
        files: Mapping[str, Path | bytes] | None = None,
    ) -> None:
        """Ends the runs.

        Args:
            status: A state of ``runs``: succeeded, failed or cancelled.
            epochs: Epochs of which a tracker logs those that it lacks.
            files: What is put beside the runs before.
        """
        for lane in self._lanes:
            lane.finish(status, epochs or {}, files or {})

    def wait(self, seconds: float) -> bool:
        """Waits this long at most for what was handed over. Returns whether every tracker is done with it, well or not."""
        until = time.monotonic() + seconds
        return all(lane.wait(until) for lane in self._lanes)

    def entries(self) -> dict[str, dict[str, Any]]:
        """The entries of the runs that are open, by tracker, with the state of those that were ended as ``ended``."""
        return {
            lane.name: lane.entry() | ({"ended": lane.ended} if lane.ended else {})
            for lane in self._lanes
            if lane.is_open
        }

    def record(self) -> dict[str, Any] | str:
        """A receipt's record: by tracker ``run_id``, ``url`` and any ``problem``; ``not tracked`` where no tracker is on."""
        return {lane.name: lane.entry() for lane in self._lanes} or NOT_TRACKED


def open_trackers(
    environment: Mapping[str, str],
    training: TrainingDescription,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    changed: Callable[[Trackers], None] = lambda trackers: None,
) -> Trackers:
    """The trackers of this environment; they connect to nothing before ``start``.

    Args:
        environment: The process's variables.
        training: What they are told of the training; passwords in its texts are taken out here.
        earlier: The entries of an earlier attempt, by tracker.
        changed: Called in a thread once a run is open, and once it has ended.

    Raises:
        InvalidConfig: If OBSERVABILITY_BACKENDS names what is not there, or a named tracker's variables can't be used.
    """
    lanes: list[Lane] = []
    trackers = Trackers(lanes)
    named = choice.chosen(environment)
    if not named:
        notice(f"not tracked: {choice.VARIABLE} names no tracker.")
    training = _visible(training)
    for name, tracker in named.items():
        if why := tracker.why_off(environment):
            notice(f"not tracked: {why}")
            continue
        told = replace(training, earlier=dict((earlier or {}).get(name, {})))
        lanes.append(Lane(name, partial(tracker.open, environment, told), lambda: changed(trackers)))
    return trackers


def _visible(training: TrainingDescription) -> TrainingDescription:
    """The same without passwords of addresses, and without characters that act on a tracker's page."""
    return replace(
        training,
        name=_text(training.name),
        description=_text(training.description),
        params={name: _text(value) if isinstance(value, str) else value for name, value in training.params.items()},
        tags={name: _text(value) for name, value in training.tags.items()},
        dataset_uris=[secrets.redact_urls(uri) for uri in training.dataset_uris],
    )


def _text(value: str) -> str:
    return texts.visible(secrets.redact_urls(value))
