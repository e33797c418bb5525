"""TensorBoard's tracker: a training's event file is put to ``runs/{run}/tensorboard/`` of the workspace at each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.files import atomic_write
from visionloop.core.storage import open_prefix
from visionloop.core.stores import local_path
from visionloop.training.tracking.choice import switched_off
from visionloop.training.tracking.tensorboard.event_file import EventFile, measured_once
from visionloop.training.tracking.tracker import Tracker, TrackerRun, TrainingDescription

#: The variable with the folder that takes the place of the workspace's.
FOLDER = "TENSORBOARD_LOG_DIR"

#: The files of a run. TensorBoard reads what has ``tfevents`` in its name, in the order of the names.
TRAINING_FILE = "events.out.tfevents.0.training"
TEST_FILE = "events.out.tfevents.1.test"


class TensorBoardTracker:
    """The tracker."""

    name = "tensorboard"

    def why_off(self, environment: Mapping[str, str]) -> str | None:
        """Off with TENSORBOARD_ENABLED=false."""
        return switched_off(environment, "TENSORBOARD_ENABLED")

    def check(self, environment: Mapping[str, str]) -> None:
        """Raises InvalidConfig for a folder that is none."""
        folder = environment.get(FOLDER, "")
        if "://" in folder or (folder and Path(folder).expanduser().is_file()):
            raise InvalidConfig(
                f"{FOLDER} {folder}: not a folder; give the path of one, or unset it: the files then lie in the workspace."
            )

    def requirements(self, environment: Mapping[str, str]) -> Sequence[str]:
        """What writes event files."""
        return ("tensorboardX",)

    def open(self, environment: Mapping[str, str], training: TrainingDescription) -> TrackerRun:
        """The run; nothing is written yet."""
        folder = environment.get(FOLDER, "")
        return TensorBoardRun(training, _Place(_uri(folder, training)))

    def end(self, environment: Mapping[str, str], entry: Mapping[str, Any], status: str) -> None:
        """A file that was left open is a whole one."""

    def add(
        self,
        environment: Mapping[str, str],
        entry: Mapping[str, Any],
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
    ) -> None:
        """Writes the metrics into a file of their own beside the training's; TensorBoard takes no files besides."""
        if metrics:
            place = _Place(str(entry["url"]))
            if not place.read(TRAINING_FILE):
                raise NotFound(f"{entry['url']}: the training's event file is not there.")
            place.write(TEST_FILE, measured_once(metrics))


class TensorBoardRun:
    """The event file of one training."""

    def __init__(self, training: TrainingDescription, place: _Place) -> None:
        """Nothing is written yet."""
        self._training, self._place = training, place
        self._file: EventFile | None = None
        self._written = b""

    def start(self) -> None:
        """Begins the file, or goes on with what an earlier attempt wrote, also one of another run."""
        training = self._training
        file = EventFile(training.params, {"name": training.name, "description": training.description, **training.tags})
        earlier = self._place.read(TRAINING_FILE)
        if not earlier and (elsewhere := training.earlier.get("url")):
            earlier = _Place(str(elsewhere)).read(TRAINING_FILE)
        file.go_on(earlier, training.resumed_after)
        self._put(file)
        self._file = file

    def log_epochs(self, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Adds those that the file lacks."""
        file = self._begun()
        for epoch, metrics in epochs.items():
            if not file.has(epoch):
                file.log(epoch, metrics)
        self._put(file)

    def attach(self, files: Mapping[str, Path | bytes]) -> None:
        """TensorBoard takes no files."""

    def finish(self, status: str) -> None:
        """Says that the training is complete; one that failed may go on, in the same file."""
        file = self._begun()
        if status == "succeeded":
            file.end()
        self._put(file)

    def entry(self) -> dict[str, Any]:
        """The run's name, and the folder of its files."""
        return {"run_id": self._training.run, "url": self._place.uri} if self._file else {"run_id": None, "url": None}

    def _put(self, file: EventFile) -> None:
        """Writes the file, if it is another one than was written last."""
        content = file.content()
        if content != self._written:
            self._place.write(TRAINING_FILE, content)
            self._written = content

    def _begun(self) -> EventFile:
        if self._file is None:
            raise RuntimeError("the file has not been begun")
        return self._file


class _Place:
    """The folder or prefix of a run's files."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._folder = local_path(uri)

    def read(self, name: str) -> bytes:
        """A file's content; empty if there is none."""
        try:
            if self._folder is not None:
                return (self._folder / name).read_bytes()
            return open_prefix(self.uri, "results").read(name)
        except (FileNotFoundError, NotFound):
            return b""

    def write(self, name: str, content: bytes) -> None:
        """Makes a file's content this.

        In a folder a file grows where it lies: whoever reads it has it open. A beginning that is another one is written anew.
        """
        if self._folder is None:
            open_prefix(self.uri, "results").write(name, content)
            return
        path = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        before = self.read(name)
        if before and content.startswith(before):
            with path.open("ab") as file:
                file.write(content[len(before) :])
        elif before != content:
            with atomic_write(path) as partial:
                partial.write_bytes(content)


def _uri(folder: str, training: TrainingDescription) -> str:
    """Where the files of a run lie."""
    if folder:
        return (Path(folder).expanduser().absolute() / training.run).as_uri()
    return f"{training.workspace}/runs/{training.run}/tensorboard"


TRACKER: Tracker = TensorBoardTracker()
