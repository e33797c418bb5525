"""Paired timings of an epoch's loading: photographs of 12 megapixels whole, and kept reduced (``resize``).

BENCH_PHOTOGRAPHS is their number, BENCH_ROUNDS the number of pairs.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_datasets import stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.data.images import ImageCache
from visionloop.data.reduced import Reduction
from visionloop.training.configuration.settings import settings_of
from visionloop.training.trainers import EpochReport, TrainingJob
from visionloop.training.trainers.ultralytics import TRAINER
from visionloop.training.trainers.ultralytics.environment import library

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PHOTOGRAPHS = int(os.environ.get("BENCH_PHOTOGRAPHS", "32"))
WIDTH, HEIGHT, IMGSZ = 4032, 3024, 640


def photographs(folder: Path) -> Path:
    """Pictures with as much in them as a camera's, each of its own."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(PHOTOGRAPHS):
        small = Image.effect_noise((WIDTH // 4, HEIGHT // 4), 60 + number)
        small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).convert("RGB").save(
            folder / "images" / f"{number}.jpg", quality=90
        )
        labels = [{"class_id": 0, "bbox": [100, 100, 900, 700]}]
        split = "train" if number else "val"
        image = {"file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT, "split": split}
        images.append(image | {"annotations": labels})
    document = {"format_version": "1.0", "task_type": "detection", "dataset_id": "1", "dataset_name": "n"}
    more = {"classes": [{"id": 0, "name": "thing"}], "images": images}
    (folder / "annotations_detection.json").write_text(json.dumps(document | more))
    return folder


def epoch(folder: Path) -> float:
    """Seconds in which the library's loader makes every train image ready for the model, with its default augmentations."""
    ultralytics = library()
    dataset: Any = ultralytics.data.dataset.YOLODataset(
        img_path=str(folder / "images" / "train"),
        imgsz=IMGSZ,
        data={"names": {0: "thing"}},
        augment=True,
        batch_size=16,
        hyp=ultralytics.cfg.get_cfg(overrides={"mosaic": 0.0}),
    )
    began = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return time.perf_counter() - began


def viewed(tmp_path: Path) -> dict[str, tuple[Path, float]]:
    """The photographs as a training's folder, whole and reduced, and the seconds that making each took."""
    folder = photographs(tmp_path / "dataset")
    snapshot = stage("snapshot", tmp_path / "ws", dataset=str(folder))
    report = stage("validate", tmp_path / "ws", snapshot=snapshot.uri, mode="annotations")
    converted = Converted(stage("convert", tmp_path / "ws", snapshot=snapshot.uri, report=report.uri))
    cache = ImageCache(tmp_path / "cache")
    made = {}
    for name, reduction in (("whole", None), ("reduced", Reduction(IMGSZ, "linear"))):
        began = time.perf_counter()
        converted.view(Snapshot(snapshot), tmp_path / name, cache, ("train", "val"), reduction=reduction)
        made[name] = tmp_path / name, time.perf_counter() - began
    return made


class Clock:
    """Hears when each epoch ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def batch(self, *_: object) -> None:
        """Forgets."""

    def images(self, *_: object) -> None:
        """Forgets."""

    def epoch(self, _: EpochReport) -> bool:
        """Notes the time."""
        self.ends.append(time.perf_counter())
        return True


def trained_epoch(folder: Path, work: Path) -> float:
    """Seconds of the last of three epochs on the first GPU."""
    work.mkdir()
    defaults = {name: setting.default for name, setting in settings_of(TRAINER, "detection").items()}
    config = {**defaults, "model": "yolo11n.yaml", "imgsz": IMGSZ, "epochs": 3, "device": "0"}
    clock = Clock()
    TRAINER.train(TrainingJob("detection", folder, ("thing",), config, None, work, None, 16), clock)
    return clock.ends[-1] - clock.ends[-2]


@pytest.mark.gpu
def test_an_epoch_of_photographs_on_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints what an epoch of the training itself takes, whole and reduced."""
    import torch

    made = viewed(tmp_path)
    whole, reduced = (trained_epoch(made[name][0], tmp_path / f"train {name}") for name in ("whole", "reduced"))
    with capsys.disabled():
        print(
            f"\n{PHOTOGRAPHS} photographs of {WIDTH} x {HEIGHT}, an epoch at {IMGSZ} on {torch.cuda.get_device_name(0)}"
        )
        print(f"  whole {whole:.2f} s, reduced {reduced:.2f} s: {whole / reduced:.1f} times as fast")


def test_loading_an_epoch_of_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the medians, and what reducing them once takes."""
    made = viewed(tmp_path)
    pairs = [(epoch(made["whole"][0]), epoch(made["reduced"][0])) for _ in range(ROUNDS)]
    whole, reduced = (statistics.median(pair[way] for pair in pairs) for way in (0, 1))
    with capsys.disabled():
        print(f"\n{PHOTOGRAPHS} photographs of {WIDTH} x {HEIGHT}, an epoch's loading at {IMGSZ}")
        print(f"  whole {whole:.2f} s, reduced {reduced:.2f} s: {whole / reduced:.1f} times as fast")
        print(f"  into the cache, once: whole {made['whole'][1]:.2f} s, reduced {made['reduced'][1]:.2f} s")
