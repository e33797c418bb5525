"""The way to one tracker: a thread tells it in order, and whoever hands something over never waits for it.

A tracker that is down for a while loses nothing: what could not be logged is sent again with the next epoch, or at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visionloop.core import secrets
from visionloop.core.logs import LOGGER, notice
from visionloop.training.tracking.connection import describe
from visionloop.training.tracking.tracker import TrackerRun

#: Epochs whose metrics are kept while the tracker is down; older ones are dropped.
KEPT_EPOCHS = 10_000


class Lane:
    """One training's run in one tracker; no method raises what the tracker raises.

    Attributes:
        name: The tracker's name.
        ended: The state with which the tracker has ended the run; None while it has not.
    """

    def __init__(self, name: str, make: Callable[[], TrackerRun], changed: Callable[[], None]) -> None:
        """Nothing is told yet.

        Args:
            name: The tracker's name.
            make: Makes the run; it and the run's methods may raise any exception.
            changed: Called in the lane's thread once the tracker has the run, and once it has ended it.
        """
        self.name = name
        self.ended: str | None = None
        self._make, self._changed = make, changed
        self._run: TrackerRun | None = None
        self._open = self._failing = self._busy = self._news = self._running = self._closing = False
        self._entry: dict[str, Any] = {"run_id": None, "url": None}
        self._problem = ""
        self._waiting: dict[int, dict[str, float]] = {}
        self._logged: set[int] = set()
        self._files: dict[str, Path | bytes] = {}
        self._status: str | None = None
        self._condition = threading.Condition()

    def start(self) -> None:
        """Opens the run; says ``tracked`` or ``tracking failed``."""
        self._tell(lambda: None)

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Logs epochs, after those that are still waiting; of those that a tracker is behind with the newest are kept."""
        self._tell(lambda: self._add(epochs))

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files beside the run; files that fail are left out, and leave the metrics as they are."""
        self._tell(lambda: self._files.update(files))

    def finish(self, status: str, epochs: Mapping[int, Mapping[str, float]], files: Mapping[str, Path | bytes]) -> None:
        """Logs what is waiting and the epochs that the tracker lacks, puts the files beside the run, and ends it."""

        def end() -> None:
            self._status, self._closing = status, True
            self._add(epochs)
            self._files.update(files)

        self._tell(end)

    def wait(self, until: float) -> bool:
        """Waits for what was handed over. Returns whether the tracker is done with it, well or not.

        Args:
            until: The time by ``time.monotonic`` at which it is waited for no longer.
        """
        with self._condition:
            while (self._news or self._busy) and (left := until - time.monotonic()) > 0:
                self._condition.wait(left)
            return not (self._news or self._busy)

    def entry(self) -> dict[str, Any]:
        """What the receipt says: the run's own entry, and ``problem`` where the tracker did not take all of it."""
        with self._condition:
            unanswered = "it does not answer" if self._news or self._busy else ""
            problem = self._problem or unanswered
            return {**self._entry, "problem": problem} if problem else dict(self._entry)

    @property
    def is_open(self) -> bool:
        """Whether the tracker has the run."""
        return self._entry["run_id"] is not None

    def _add(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Those that were not logged in this attempt."""
        self._waiting |= {epoch: dict(metrics) for epoch, metrics in epochs.items() if epoch not in self._logged}

    def _tell(self, change: Callable[[], object]) -> None:
        with self._condition:
            change()
            self._news = True
            if not self._running:
                try:
                    threading.Thread(target=self._work, name=f"tracking by {self.name}", daemon=True).start()
                except RuntimeError as error:  # no thread is to be had: the next call tries again
                    self._news = False
                    self._fail(error)
                    return
                self._running = True
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._news:
                    if self._closing:
                        self._running = False
                        return
                    self._condition.wait()
                self._news, self._busy = False, True
            try:
                self._offer()
            except BaseException as error:  # noqa: BLE001 - whatever a tracker raises, the training goes on
                self._fail(error)
            with self._condition:
                while len(self._waiting) > KEPT_EPOCHS:
                    del self._waiting[next(iter(self._waiting))]
                self._busy = False
                self._condition.notify_all()

    def _offer(self) -> None:
        """Opens the run if that has not succeeded yet, and tells what is waiting. Raises what the tracker raises."""
        run = self._run = self._run or self._make()
        if not self._open:
            try:
                run.start()
            finally:  # a run whose settings could not be logged is there all the same
                self._look(run)
            self._open = True
            notice(f"tracked: {describe_entry(self.name, self._entry)}")
        while epochs := self._behind():
            run.log_epochs(epochs)
            with self._condition:
                self._logged.update(epochs)
                for epoch in epochs:
                    del self._waiting[epoch]
        with self._condition:
            files, self._files = self._files, {}
            status = self._status
        if files:
            self._attach(run, files)
        if status is not None:
            run.finish(status)
            with self._condition:
                self._status, self.ended = None, status
            self._changed()
        self._failing, self._problem = False, ""

    def _look(self, run: TrackerRun) -> None:
        """Keeps the run's entry, and tells of another one."""
        entry = run.entry()
        before, self._entry = self._entry, {name: _text(entry.get(name)) for name in ("run_id", "url")}
        if self._entry != before:
            self._changed()

    def _behind(self) -> dict[int, dict[str, float]]:
        with self._condition:
            return dict(self._waiting)

    def _attach(self, run: TrackerRun, files: Mapping[str, Path | bytes]) -> None:
        try:
            run.attach(files)
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the training goes on
            notice(f"left out of {self.name}'s page: {', '.join(files)} ({describe(error)})")

    def _fail(self, error: BaseException) -> None:
        self._problem = describe(error)
        if not self._failing:
            LOGGER.warning("tracking failed: %s: %s", self.name, self._problem)
        self._failing = True


def _text(value: Any) -> str | None:
    """A value of an entry as a receipt holds it."""
    return None if value is None else secrets.redact_urls(str(value))


def describe_entry(name: str, entry: Mapping[str, Any]) -> str:
    """A run's entry in a few words."""
    return f"{name} run {entry.get('run_id')}" + (f" at {entry['url']}" if entry.get("url") else "")
