"""Small datasets of objects, and a listener, for trainings on the loop of `visionloop.training.pytorch`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from visionloop.training.trainers import EpochReport, StepReport


class Silent:
    """Keeps the reports and the last checkpoint; stops after an epoch if it is told to."""

    def __init__(self, last: int = 0) -> None:
        self.last, self.checkpoint, self.reports = last, b"", list[EpochReport]()

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        assert 1 <= batch <= batches

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        pass

    def epoch(self, report: EpochReport) -> bool:
        self.reports.append(report)
        self.checkpoint = report.checkpoint.read_bytes()
        return report.epoch != self.last


class Gone(Exception):
    """The training's process has gone."""


class WithinEpochs(Silent):
    """Keeps each checkpoint within an epoch in a folder, and is gone after one of them."""

    def __init__(self, folder: Path, gone_after: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.folder, self.gone_after, self.kept = folder, gone_after, dict[tuple[int, int], Path]()
        folder.mkdir(parents=True)

    def step(self, report: StepReport) -> None:
        at = report.epoch, report.step
        self.kept[at] = Path(shutil.copy(report.checkpoint, self.folder))
        if at == self.gone_after:
            raise Gone


def write(root: Path, task: str) -> Path:
    """A red or a blue rectangle in each image; one of val and one of train have no label."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for number in range(count):
            pixels = np.full((48, 80, 3), 250, np.uint8)
            x, y, kind = int(random.integers(2, 40)), int(random.integers(2, 20)), number % 2
            pixels[y : y + 24, x : x + 30] = (220, 20, 20) if kind else (20, 20, 220)
            # The first image of val and the last of train show nothing.
            text = "" if (split, number) in (("val", 0), ("train", 5)) else _line(task, kind, x, y)
            for folder, name, content in (("images", f"{number}.png", None), ("labels", f"{number}.txt", text)):
                path = root / folder / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if content is None:
                    Image.fromarray(pixels).save(path)
                else:
                    path.write_text(content)
    return root


def _line(task: str, kind: int, x: int, y: int) -> str:
    left, top, right, bottom = x / 80, y / 48, (x + 30) / 80, (y + 24) / 48
    if task == "segmentation":
        return f"{kind} {left} {top} {right} {top} {right} {bottom} {left} {bottom}\n"
    box = f"{kind} {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}"
    return f"{box} {left} {top} 2 {right} {bottom} 1\n" if task == "pose" else f"{box}\n"
