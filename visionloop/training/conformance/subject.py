"""What is checked: a trainer with one of its tasks, its generated datasets, and its trainings, each made once when it is first asked for."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import stat
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from visionloop.core.errors import InvalidConfig, NotFound, VisionloopError
from visionloop.core.folders import process_folder
from visionloop.training import configuration, weights
from visionloop.training.conformance import samples
from visionloop.training.conformance.outcomes import NotChecked
from visionloop.training.environment import child_environment, trainer_variables
from visionloop.training.supervision import channel
from visionloop.training.supervision.child import JobFile
from visionloop.training.supervision.supervisor import START, supervise
from visionloop.training.trainers import Evaluation, Prediction, PredictionSettings, Predictor, Setting, Trainer

#: What a checked training is set to, besides what the trainer sets for the sample dataset (``demos``).
SETTINGS = {"epochs": 2, "batch": 4, "imgsz": 64, "seed": 1, "workers": 0, "device": "cpu"}

#: The settings that the checks themselves decide.
FIXED = ("trainer", "epochs", "batch", "workers")

#: The batch after the memory ran out.
SMALLER = 2

#: The variable that marks the processes of a training.
MARK = "VISIONLOOP_CONFORMANCE"

#: Seconds that processes are given to end after the training that started them.
PATIENCE = 10.0

#: The program of a child in which the memory runs out at the first batch.
MEMORY = (
    "import sys; from visionloop.training.conformance.memory import main; sys.exit(main(sys.argv[1], int(sys.argv[2])))"
)


@dataclass
class Run:
    """A training in a process of its own.

    Attributes:
        folder: Where its files lie.
        epochs: The epochs that it reported, in their order.
        checkpoints: By epoch the copy of its checkpoint; none of one that was not there.
        changed: The epochs whose checkpoint was changed after its report, though not each epoch writes the same file.
        images: By split the images that it reported, below the dataset's folder.
        batches: The number of batches of an epoch, as it was reported with each.
        done: Its result; None where it failed.
        error: What ended it; None where it ended well.
        survivors: Processes that outlived it.
    """

    folder: Path
    epochs: list[channel.Epoch] = field(default_factory=list)
    checkpoints: dict[int, Path] = field(default_factory=dict)
    changed: list[int] = field(default_factory=list)
    images: dict[str, list[str]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    done: channel.Done | None = None
    error: VisionloopError | None = None
    survivors: list[str] = field(default_factory=list)

    @property
    def result(self) -> channel.Done:
        """Its result. Raises NotChecked where it did not end well."""
        if self.done is None:
            raise NotChecked("Not checked: the training did not end well.")
        return self.done

    def digests(self) -> tuple[str, str]:
        """SHA-256 of the files best and last."""
        return _sha256(Path(self.result.best)), _sha256(Path(self.result.last))


class Subject:
    """A trainer and one of its tasks."""

    def __init__(self, name: str, trainer: Trainer, task: str, settings: Mapping[str, object]) -> None:
        """``settings`` are the user's, and come before all others."""
        self.name, self.trainer, self.task = name, trainer, task
        self._settings = dict(settings)
        #: What ``evaluation`` reported after each batch: how many are done, and how many there are.
        self.evaluated: list[tuple[int, int]] = []

    # Configuration

    def check_settings(self) -> None:
        """Checks the user's settings. An error that comes without them as well is the trainer's, and its checks report it.

        Raises:
            InvalidConfig: If one is fixed by the checks, or the trainer does not take it.
        """
        for name in self._settings:
            if name in FIXED:
                raise InvalidConfig(f"--set {name}: a check sets it itself; leave it out.")
        try:
            _ = self.config
        except InvalidConfig:
            try:
                _ = Subject(self.name, self.trainer, self.task, {}).config
            except Exception:  # noqa: BLE001 - the trainer is a stranger's
                return
            raise
        except Exception:  # noqa: BLE001 - the trainer is a stranger's, and its checks report it
            return

    def resolve(self, changes: Mapping[str, object]) -> configuration.Resolved:
        """A configuration of this trainer and task as a run resolves it. Raises InvalidConfig."""
        return configuration.resolve({"trainer": self.name, **changes}, {self.name: self.trainer}, {}, self.task)

    @functools.cached_property
    def settings(self) -> dict[str, Setting]:
        """Every setting."""
        return configuration.settings_of(self.trainer, self.task)

    @functools.cached_property
    def arguments(self) -> dict[str, object]:
        """The settings that a checked training is started with, and not their defaults."""
        demo = dict(getattr(self.trainer, "demos", {}).get(self.task, {}))
        own: dict[str, object] = {} if "model" in {**demo, **self._settings} else {"pretrained": False}
        return {**own, **demo, **SETTINGS, **self._settings}

    @functools.cached_property
    def config(self) -> configuration.Resolved:
        """The configuration of a checked training."""
        return self.resolve(self.arguments)

    # Datasets

    @functools.cached_property
    def folder(self) -> Path:
        """A folder for everything, removed when this process ends."""
        return process_folder("conformance")

    @functools.cached_property
    def dataset(self) -> Path:
        """The dataset as the train stage gives it: with the labels' archive, and files of labels only where they are wanted; they are read-only."""
        wanted = bool(getattr(self.trainer, "label_files", True))
        return _locked(samples.write(self.folder / "dataset", self.task, archive=True, label_files=wanted))

    @functools.cached_property
    def plain(self) -> Path:
        """The same dataset without an archive, as a person makes one; its files are read-only."""
        return _locked(samples.write(self.folder / "plain", self.task, archive=False))

    @functools.cached_property
    def unlabelled(self) -> Path:
        """A dataset whose split test has no object; its files are read-only."""
        wanted = bool(getattr(self.trainer, "label_files", True))
        return _locked(samples.write_unlabelled(self.folder / "unlabelled", label_files=wanted))

    @functools.cached_property
    def contents(self) -> dict[str, dict[str, str]]:
        """The digests of the datasets' files as they were written."""
        return {str(folder): _listing(folder) for folder in (self.dataset, self.plain)}

    def altered(self) -> list[str]:
        """Files that were added to a dataset, removed or changed."""
        files = []
        for folder, before in self.contents.items():
            after = _listing(Path(folder))
            files += sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return files

    # Trainings

    @functools.cached_property
    def whole(self) -> Run:
        """A training from beginning to end."""
        return self.train("whole")

    @functools.cached_property
    def again(self) -> Run:
        """The same training once more."""
        return self.train("again")

    @functools.cached_property
    def killed(self) -> Run:
        """The same training, killed after its first epoch."""
        return self.train("killed", kill_after=1)

    @functools.cached_property
    def resumed(self) -> Run:
        """The killed training, resumed."""
        return self.train("resumed", checkpoint=self.checkpoint_of(self.killed, 1))

    @functools.cached_property
    def finalised(self) -> Run:
        """The whole training, started once more with the checkpoint of its last epoch."""
        last = len(self.trained.epochs)
        return self.train("finalised", checkpoint=self.checkpoint_of(self.trained, last))

    @functools.cached_property
    def smaller(self) -> Run:
        """The killed training, resumed with half the batch, on the dataset without an archive, with a process that loads images."""
        checkpoint = self.checkpoint_of(self.killed, 1)
        return self.train("smaller", checkpoint=checkpoint, batch=SMALLER, dataset=self.plain, workers=1)

    @functools.cached_property
    def starved(self) -> Run:
        """A training whose memory runs out at the first batch."""
        return self.train("starved", program=MEMORY)

    @property
    def trained(self) -> Run:
        """The whole training. Raises NotChecked where it failed, which the check "training" reports."""
        _ = self.whole.result
        return self.whole

    @staticmethod
    def checkpoint_of(run: Run, epoch: int) -> Path:
        """The checkpoint of an epoch. Raises NotChecked without one."""
        if epoch not in run.checkpoints:
            raise NotChecked(f"Not checked: there is no checkpoint of epoch {epoch} to go on from.")
        return run.checkpoints[epoch]

    def train(
        self,
        name: str,
        *,
        checkpoint: Path | None = None,
        batch: int | None = None,
        dataset: Path | None = None,
        workers: int = 0,
        kill_after: int = 0,
        program: str = START,
    ) -> Run:
        """Trains in a process of its own, as the train stage does.

        Args:
            name: The training's folder.
            checkpoint: What it goes on from.
            batch: A smaller batch than the configured one.
            dataset: Another dataset's folder.
            workers: Processes that load images.
            kill_after: The epoch after which it is killed.
            program: What the child runs.
        """
        run = Run(self.folder / name)
        run.folder.mkdir(exist_ok=True)
        _ = self.contents
        config, mark = self.config.values, uuid.uuid4().hex
        located = weights.locate(str(config["model"]), self.trainer, os.environ, _no_store, run.folder)
        local = weights.materialise(located, _no_store, run.folder)
        work = run.folder / "work"
        work.mkdir()
        pose = self.task == "pose"
        job = JobFile(
            trainer=self.name,
            task=self.task,
            dataset=str(dataset or self.dataset),
            classes=list(samples.CLASSES),
            config={**config, "workers": workers},
            weights=str(local) if local else None,
            work=str(work),
            checkpoint=str(checkpoint) if checkpoint else None,
            batch=batch or int(str(config["batch"])),
            keypoints=list(samples.KEYPOINTS) if pose else [],
            flip=list(samples.FLIP) if pose else [],
            run="conformance",
        )

        # By path the epoch and the state of a checkpoint; None for a file that several epochs write.
        reported: dict[Path, tuple[int, tuple[int, int]] | None] = {}

        def look() -> None:
            for file, first_report in reported.items():
                if (
                    first_report
                    and first_report[0] not in run.changed
                    and file.is_file()
                    and _state(file) != first_report[1]
                ):
                    run.changed.append(first_report[0])

        def on_epoch(epoch: channel.Epoch) -> bool:
            run.epochs.append(epoch)
            file = Path(epoch.checkpoint)
            again = file in reported
            if again:
                reported[file] = None
            look()
            if file.is_file():
                if not again:
                    reported[file] = epoch.epoch, _state(file)
                run.checkpoints[epoch.epoch] = Path(shutil.copy(file, run.folder / f"checkpoint_{epoch.epoch}"))
            if epoch.epoch == kill_after:
                for process in _marked(mark):
                    process.send_signal(signal.SIGKILL)
            return True

        variables = child_environment(os.environ, trainer_variables(self.trainer))
        try:
            run.done = supervise(
                job,
                run.folder,
                {**variables, MARK: mark},
                on_batch=lambda batch: run.batches.append(batch.batches),
                on_epoch=on_epoch,
                on_images=lambda images: run.images.setdefault(images.split, []).extend(images.paths),
                program=program,
            )
        except VisionloopError as error:
            run.error = error
        look()
        run.survivors = _end_survivors(mark)
        return run

    # What a model does

    @functools.cached_property
    def best(self) -> Path:
        """The best model of the whole training."""
        return Path(self.whole.result.best)

    def evaluate(self, dataset: Path, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
        """Evaluates the best model on a dataset's split test, in this process as the evaluate stage does."""
        work = self.folder / f"evaluation-{uuid.uuid4().hex}"
        work.mkdir()
        return self.trainer.evaluate(self.best, dataset, "test", self.config.values, work, on_batch)

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation on the dataset."""
        return self.evaluate(self.dataset, lambda done, total: self.evaluated.append((done, total)))

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The best model, loaded."""
        return self.trainer.predictor(self.best)

    @functools.cached_property
    def answers(self) -> list[list[Prediction]]:
        """What it answers to the unusual pictures."""
        return list(self.predictor.predict(iter(samples.unusual()), PredictionSettings(confidence=samples.LEAST)))


def _no_store(uri: str, local: Path) -> None:
    raise NotFound(uri)


def _marked(mark: str) -> list[psutil.Process]:
    """The living processes of a training, whoever their parent is."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.Error, OSError):
            continue
    return processes


def _end_survivors(mark: str) -> list[str]:
    """The names of processes that outlive their training; they are given some time to end, and then killed."""
    deadline = time.monotonic() + PATIENCE
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    names = []
    for process in left:
        try:
            names.append(f"{process.name()} ({process.pid})")
            process.kill()
        except psutil.Error:
            continue
    return names


def _locked(folder: Path) -> Path:
    """Takes the right to write from the files in a folder; the folders keep it, so that what a killed check leaves can be removed."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(stat.S_IRUSR | stat.S_IRGRP)
    return folder


def _state(file: Path) -> tuple[int, int]:
    """What changes whenever a file's bytes do."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _listing(folder: Path) -> dict[str, str]:
    return {
        f"{folder.name}/{path.relative_to(folder)}": _sha256(path) if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
