"""A tiny dataset of each task and a training on it, run in a process of its own by the tests."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from visionloop.training.configuration.settings import PRIMARY_METRICS
from visionloop.training.trainers import EpochReport, TrainingJob

CLASSES = ("red", "blau grün", "노랑")
COLOURS = ((220, 30, 30), (30, 120, 220), (230, 220, 40))


#: What the build of OpenCV with windows is linked to, and a slim image lacks.
SCREEN = ("libGL.so.1", "libxcb.so.1")


@dataclass
class SilentListener:
    """Hears and forgets; counts what it heard."""

    epochs: list[EpochReport] = field(default_factory=list)
    used: dict[str, list[str]] = field(default_factory=dict)

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Forgets."""

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Keeps the names."""
        self.used[split] = sorted(Path(path).name for path in paths)

    def epoch(self, report: EpochReport) -> bool:
        """Keeps the report and lets the training go on."""
        self.epochs.append(report)
        return True


#: The architecture of each task that is trained from scratch.
ARCHITECTURES = {
    "detection": "yolo11n.yaml",
    "segmentation": "yolo11n-seg.yaml",
    "pose": "yolo11n-pose.yaml",
    "classification": "yolo11n-cls.yaml",
}

#: The keypoints of a square, and the index of each one's counterpart in a mirrored picture.
KEYPOINTS = ("top left", "top right", "centre")
FLIP = (1, 0, 2)


def label(task: str, index: int, x: float, y: float, size: float) -> str:
    """The line of a square, in shares of the image: its box, its outline, or its box and keypoints."""
    values = [x + size / 2, y + size / 2, size, size]
    if task == "segmentation":
        values = [x, y, x + size, y, x + size, y + size, x, y + size]
    elif task == "pose":
        values += [x, y, 2, x + size, y, 2, x + size / 2, y + size / 2, 1]
    return " ".join([str(index), *(f"{value:.6f}" for value in values)])


def write_images_of_classes(folder: Path, counts: dict[str, int], side: int = 64) -> Path:
    """Images with one coloured square each, in a folder for each class; val has none of the first class."""
    generator = numpy.random.default_rng(7)
    for split, count in counts.items():
        folders = [folder / split / f"{index:05}_{name}" for index, name in enumerate(CLASSES)]
        for entry in folders:
            entry.mkdir(parents=True)
        for number in range(count):
            index = number % len(CLASSES) if split != "val" else 1 + number % (len(CLASSES) - 1)
            pixels = generator.integers(90, 130, (side, side, 3), dtype=numpy.uint8)
            x, y = (int(generator.integers(0, side // 2)) for _ in range(2))
            pixels[y : y + side // 2, x : x + side // 2] = COLOURS[index]
            Image.fromarray(pixels).save(folders[index] / f"{number:03}.png")
    return folder


def write_dataset(folder: Path, counts: dict[str, int], side: int = 64, task: str = "detection") -> Path:
    """Images with one or two coloured squares each, and their labels."""
    if task == "classification":
        return write_images_of_classes(folder, counts, side)
    generator = numpy.random.default_rng(7)
    for split, count in counts.items():
        for number in range(count):
            pixels = generator.integers(90, 130, (side, side, 3), dtype=numpy.uint8)
            lines = []
            for index in generator.permutation(len(CLASSES))[: 1 + number % 2]:
                size = int(generator.integers(14, 26))
                x, y = (int(generator.integers(0, side - size)) for _ in range(2))
                pixels[y : y + size, x : x + size] = COLOURS[index]
                lines.append(label(task, int(index), x / side, y / side, size / side))
            image = folder / "images" / split / f"{number:03}.png"
            labels = folder / "labels" / split / f"{number:03}.txt"
            for path in (image, labels):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            labels.write_text("\n".join(lines) + "\n")
    return folder


def configuration(task: str = "detection", **changes: Any) -> dict[str, Any]:
    """The configuration of a training of a task."""
    return {
        "model": ARCHITECTURES[task],
        "imgsz": 64,
        "epochs": 3,
        "batch": 4,
        "lr0": 0.01,
        "optimizer": "SGD",
        "seed": 3,
        "patience": 100,
        "primary_metric": PRIMARY_METRICS[task],
        "primary_metric_mode": "max",
        "device": "cpu",
        "workers": 0,
        "cache": False,
        "nbs": 4,
        **({} if task == "classification" else {"mosaic": 0.0, "close_mosaic": 0}),
        **changes,
    }


def job(dataset: Path, work: Path, **changes: Any) -> TrainingJob:
    """A job on the tiny dataset; ``checkpoint``, ``weights`` and ``batch`` are the job's, all else is configuration."""
    own = {name: changes.pop(name, None) for name in ("checkpoint", "weights")}
    batch = changes.pop("job_batch", None)
    task = changes.pop("task", "detection")
    config = configuration(task, **changes)
    work.mkdir(parents=True, exist_ok=True)
    return TrainingJob(
        task=task,
        dataset=dataset,
        classes=CLASSES,
        config=config,
        work=work,
        batch=batch or config["batch"],
        keypoints=KEYPOINTS if task == "pose" else (),
        flip=FLIP if task == "pose" else (),
        **own,
    )


class Keeping:
    """Keeps what is reported, and each checkpoint next to the work folder as the stage does; stops, or ends its own process."""

    def __init__(self, store: Path, kill_after: int = 0, stop_after: int = 0) -> None:
        self.store, self.kill_after, self.stop_after = store, kill_after, stop_after
        self.reports: list[EpochReport] = []
        self.batches: list[tuple[int, int, int]] = []
        self.used: dict[str, list[str]] = {}
        store.mkdir(parents=True, exist_ok=True)

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        self.batches.append((epoch, batch, batches))

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Keeps the names."""
        self.used[split] = sorted(Path(path).name for path in paths)

    def epoch(self, report: EpochReport) -> bool:
        self.reports.append(report)
        (self.store / f"epoch_{report.epoch}.pt").write_bytes(report.checkpoint.read_bytes())
        if report.epoch == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return report.epoch != self.stop_after


@dataclass(frozen=True)
class Finished:
    """A training in a process of its own: what it printed, what it kept, and where it ran."""

    output: dict[str, Any]
    store: Path
    here: Path
    home: Path


def no_screen(folder: Path) -> Path:
    """A folder on the loader's path in which the libraries of a screen are empty files: none of them can be loaded."""
    hidden = folder / "hidden"
    hidden.mkdir()
    for name in SCREEN:
        (hidden / name).touch()
    return hidden


def train_in_process(folder: Path, dataset: Path, expect: int = 0, **wanted: Any) -> Finished:
    """Trains in a process whose working directory and HOME are empty, with another hash seed each time."""
    here, home = folder / "here", folder / "home"
    for path in (here, home):
        path.mkdir(parents=True)
    arguments = {"dataset": str(dataset), "work": str(folder / "work"), "store": str(folder / "store"), **wanted}
    environment = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "YOLO_CONFIG_DIR")}
    environment |= {
        "HOME": str(home),
        "PYTHONHASHSEED": str(len(str(folder))),
        "LD_LIBRARY_PATH": str(no_screen(folder)),
    }
    process = subprocess.run(
        [sys.executable, __file__, json.dumps(arguments)],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == expect, process.stderr
    return Finished(json.loads(process.stdout) if expect == 0 else {}, folder / "store", here, home)


def _close_the_network() -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        traceback.print_stack()
        raise SystemExit("the network was used")  # no library swallows this one

    class Closed(socket.socket):
        connect = connect_ex = sendto = refuse  # type: ignore[assignment]

    socket.socket = Closed  # type: ignore[misc]
    socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse  # type: ignore[assignment]


def _loadable(names: tuple[str, ...]) -> list[str]:
    """Those of the libraries that this process can load."""
    results = []
    for name in names:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            results.append(name)
    return results


def main() -> None:
    """Trains as the JSON on the command line says, and prints the result as JSON."""
    from visionloop.training.trainers.ultralytics import TRAINER

    wanted = json.loads(sys.argv[1])
    if wanted.pop("offline", False):
        _close_the_network()
    listener = Keeping(Path(wanted.pop("store")), wanted.pop("kill_after", 0))
    paths = {name: Path(wanted.pop(name)) for name in ("dataset", "work")}
    if wanted.get("checkpoint"):
        wanted["checkpoint"] = Path(wanted["checkpoint"])
    result = TRAINER.train(job(**paths, **wanted), listener)
    print(
        json.dumps(
            {
                "best": str(result.best),
                "last": str(result.last),
                "best_epoch": result.best_epoch,
                "epochs": result.epochs,
                "history": result.history,
                "screen": _loadable(SCREEN),
                "reported": [report.epoch for report in listener.reports],
            }
        )
    )


if __name__ == "__main__":
    main()
