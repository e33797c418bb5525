"""ClearML's tracker: one task there for a training, however many attempts it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.folders import temporary_folder
from visionloop.training.tracking.choice import VARIABLE
from visionloop.training.tracking.clearml.process import HOST, KEYS, OFFLINE_MODE, TOKEN, SdkProcess, is_offline
from visionloop.training.tracking.clearml.sdk import OFFLINE
from visionloop.training.tracking.tracker import Tracker, TrackerRun, TrainingDescription


class ClearmlTracker:
    """The tracker."""

    name = "clearml"

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """It is on wherever it is named."""
        return None

    def check(self, environment: Mapping[str, str]) -> None:
        """Raises InvalidConfig where neither a server with its keys is named, nor that there is none."""
        if is_offline(environment):
            return
        keys = () if environment.get(TOKEN, "").strip() else KEYS
        if missing := [needed for needed in (HOST, *keys) if not environment.get(needed, "").strip()]:
            raise InvalidConfig(
                f"{VARIABLE}: the tracker clearml needs {', '.join(missing)}: set them, in pods the keys in the Secret visionloop-registry, "
                f"or {OFFLINE_MODE}=1 for a file that is imported later."
            )

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """Its SDK."""
        return ("clearml",)

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """The run; it connects to nothing yet."""
        return ClearmlRun(environment, training)

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """Ends a task that was left open; of one that is kept in a file nothing is open.

        Raises:
            Transient: If ClearML is down or refuses.
        """
        run_id = str(entry["run_id"])
        if not run_id.startswith(OFFLINE):
            with contextlib.closing(SdkProcess(environment)) as sdk:
                sdk.ask("end", run_id=run_id, status=status)

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """Adds metrics without an epoch and files to a task that may have ended.

        Raises:
            NotFound: If the task is kept in a file, which is whole already.
            Transient: If ClearML is down or refuses.
        """
        run_id = str(entry["run_id"])
        if run_id.startswith(OFFLINE):
            raise NotFound("a session that is kept in a file takes nothing more")
        with contextlib.closing(SdkProcess(environment)) as sdk, _paths(files) as paths:
            sdk.ask("add", run_id=run_id, metrics=metrics, files=paths)


class ClearmlRun:
    """A task in ClearML, or in a file that it imports later."""

    def __init__(self, environment: Mapping[str, str], training: TrainingDescription) -> None:
        """Connects to nothing."""
        self._training = training
        self._offline = is_offline(environment)
        self._sdk = SdkProcess(environment)
        self._epochs: dict[int, Mapping[str, float]] = {}
        self._entry: dict[str, Any] = {"run_id": None, "url": None}

    def start(self) -> None:
        """Opens the task, or goes on in the one that an earlier attempt opened.

        Raises:
            Transient: If ClearML is down or refuses.
        """
        training = self._training
        earlier = self._entry["run_id"] or training.earlier.get("run_id")
        # Epochs of a task that is kept in a file can't be added to: the next attempt has a file of its own.
        kept = self._offline or str(earlier).startswith(OFFLINE)
        self._entry = self._sdk.ask(
            "start",
            project=training.experiment,
            name=training.name,
            description=training.description,
            params=training.params,
            properties={**training.tags, "visionloop.dataset_hash": training.dataset_hash},
            earlier=None if kept else earlier,
        )
        self._sdk.ask("log", epochs=_named(self._epochs))

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Reports epochs; one that comes again replaces itself."""
        self._epochs |= epochs
        if self._sdk.runs:
            self._sdk.ask("log", epochs=_named(epochs))
        else:
            self.start()

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """Puts files beside the task, as its artifacts."""
        self._begin()
        with _paths(files) as paths:
            self._sdk.ask("attach", files=paths)

    def finish(self, status: str) -> None:
        """Ends the task, once everything is sent."""
        self._begin()
        self._entry = self._sdk.ask("finish", status=status)
        self._sdk.close()

    def entry(self) -> dict[str, Any]:
        """The task's id and page, or the file."""
        return self._entry

    def _begin(self) -> None:
        """Begins again where the SDK's process has gone."""
        if not self._sdk.runs:
            self.start()


@contextlib.contextmanager
def _paths(files: Mapping[str, Path | bytes]) -> Iterator[dict[str, str]]:
    """Files by their names, as paths; contents lie in a folder as long as they are needed."""
    with temporary_folder("clearml") as folder:
        paths = {name: content for name, content in files.items() if isinstance(content, Path)}
        for name, content in files.items():
            if isinstance(content, bytes):
                paths[name] = folder / name.replace("/", "_")
                paths[name].write_bytes(content)
        yield {name: str(path) for name, path in paths.items()}


def _named(epochs: Mapping[int, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Epochs as JSON has them."""
    return {str(epoch): metrics for epoch, metrics in epochs.items()}


TRACKER: Tracker = ClearmlTracker()
