"""The stage train against a training with the bare library: the same images, arguments and number of epochs, in turn.

The images are in the cache, the workspace is a store. `bare/` holds what one writes with each library alone; it measures val by less
than the stage does. BENCH_ROUNDS is the number of pairs, BENCH_EPOCHS that of epochs.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import laptop as machine
import psutil
import pytest
from laptop import Laptop, Server

from visionloop.pipelines.cli.demo import IMAGES, write_dataset
from visionloop.training import catalog

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "3"))
BARE = Path(__file__).with_name("bare")

#: By trainer the task that is timed, and the format in which its library's users have such a dataset.
TIMED = {
    "ultralytics": ("detection", "yolo"),
    "timm": ("classification", "folders"),
    "torchvision": ("detection", "coco"),
    "transformers": ("detection", "coco"),
}


@dataclass(frozen=True)
class Taken:
    """What one training took.

    Attributes:
        seconds: In whole.
        first: Seconds until its first batch was done.
        memory: The most memory of its processes at once, in MiB.
        busy: The share of its time in which the GPU computed, from the first sample in which it did; NaN without one.
    """

    seconds: float
    first: float
    memory: float
    busy: float


class Watch(threading.Thread):
    """Samples a process and its descendants until it is stopped."""

    def __init__(self, process: int, gpu: bool) -> None:
        """``gpu`` says whether the first GPU is sampled too."""
        super().__init__()
        self.ended, self.memory, self.gpu = threading.Event(), 0.0, gpu
        self.used: list[float] = []
        self._process = process

    def run(self) -> None:
        """Takes a sample four times a second; a page that several processes share counts once."""
        while not self.ended.wait(0.25):
            with contextlib.suppress(psutil.Error):
                first = psutil.Process(self._process)
                total = sum(each.memory_full_info().pss for each in [first, *first.children(recursive=True)])
                self.memory = max(self.memory, total / 2**20)
            if self.gpu:
                asked = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
                used = float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
                if used or self.used:
                    self.used.append(used)


def taken(
    command: list[str], environment: Mapping[str, str], folder: Path, first: Callable[[float], float], gpu: bool
) -> Taken:
    """Runs a training; ``first``, given the seconds of the whole, is asked after its end when the first batch was done."""
    with (folder / "output").open("wb") as output:
        began = time.time()
        arguments = {**environment, "BENCH_START": repr(began), "BENCH_FIRST": str(folder / "first")}
        process = subprocess.Popen(command, env=arguments, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        watch = Watch(process.pid, gpu)
        watch.start()
        code = process.wait()
        seconds = time.time() - began
    watch.ended.set()
    watch.join()
    assert code == 0, (folder / "output").read_text()[-2000:]
    return Taken(seconds, first(seconds), watch.memory, statistics.mean(watch.used or [float("nan")]))


@pytest.mark.parametrize("device", ["cpu", pytest.param("0", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("trainer", TIMED)
def test_the_stage_against_the_bare_library(
    trainer: str,
    device: str,
    make_laptop: Callable[..., Laptop],
    s3: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prints the medians of both and their ratio."""
    task, form = TIMED[trainer]
    laptop = make_laptop()
    for name, value in laptop.variables.items():
        monkeypatch.setenv(name, value)
    dataset = f"s3://datasets/bench-{task}"
    write_dataset(dataset, task)
    uris = laptop.prepare(dataset)
    (key,) = laptop.keys("snapshot")
    snapshot = str(laptop.receipt("snapshot", key).scalars["snapshot_id"])
    exported = tmp_path / "dataset"
    laptop.run(
        "dataset", "export", snapshot, str(exported), "--format", form, "--workspace", laptop.workspace.uri
    ).expect()
    workers = max(1, (os.cpu_count() or 1) - 1)
    demo: dict[str, str] = getattr(catalog.trainer(trainer), "demos", {})[task]
    demo |= {"epochs": str(EPOCHS), "workers": str(workers), "device": device}
    arguments = {"trainer": trainer, **demo}
    inputs = ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]

    def words(**changes: str) -> list[str]:
        settings = tuple(f"{name}={value}" for name, value in {**arguments, **changes}.items())
        return laptop.stage_command("train", *inputs, settings=settings)

    # The images into the cache, and the machine's files into memory.
    laptop.run(*words(epochs="1", seed="1")).expect()
    environment = {name: value for name, value in laptop.environment.items() if name != "OMP_NUM_THREADS"}
    values = {name: json.loads(value) if value[0] in "-.0123456789" else value for name, value in demo.items()}

    def ours(folder: Path) -> Taken:
        def first(seconds: float) -> float:
            summary = json.loads((folder / "output").read_text().splitlines()[-1])
            timings = laptop.receipt("train", summary["key"]).timings
            # All time outside the epochs and the upload of the result counts as before the first batch: the process's start and end.
            return seconds - timings["epochs_seconds"] - timings["upload_seconds"]

        return taken([str(machine.VISIONLOOP), *words(), "--force"], environment, folder, first, device != "cpu")

    def bare(folder: Path) -> Taken:
        script = str(BARE / f"with_{trainer}.py")
        command = [sys.executable, script, str(exported), task, json.dumps(values), str(folder)]
        return taken(command, environment, folder, lambda _: float((folder / "first").read_text()), device != "cpu")

    rounds: dict[str, list[Taken]] = {"bare": [], "ours": []}
    for number in range(ROUNDS):
        for name, way in (("bare", bare), ("ours", ours)):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            rounds[name].append(way(folder))

    def median(name: str, what: str) -> float:
        return statistics.median(getattr(each, what) for each in rounds[name])

    images = EPOCHS * IMAGES[task][0]
    with capsys.disabled():
        print(
            f"\n{trainer}, {task} on {device}: {EPOCHS} epochs of {IMAGES[task][0]} images, {ROUNDS} rounds, {workers} workers"
        )
        for name, each in rounds.items():
            spread = f"{min(entry.seconds for entry in each):.1f} to {max(entry.seconds for entry in each):.1f}"
            seconds, first = median(name, "seconds"), median(name, "first")
            print(
                f"  {name} {seconds:7.1f} s ({spread}), first batch after {first:.1f} s, then {images / (seconds - first):.0f} images/s",
                end="",
            )
            print(
                f", at most {median(name, 'memory'):,.0f} MiB"
                + (f", GPU busy {median(name, 'busy'):.0f} %" if device != "cpu" else "")
            )
        print(f"  ours / bare = {median('ours', 'seconds') / median('bare', 'seconds'):.2f}")
