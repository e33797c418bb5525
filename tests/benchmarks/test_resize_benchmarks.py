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


def test_loading_an_epoch_of_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the medians, and what reducing them once takes."""
    folder = photographs(tmp_path / "dataset")
    snapshot = stage("snapshot", tmp_path / "ws", dataset=str(folder))
    report = stage("validate", tmp_path / "ws", snapshot=snapshot.uri, mode="annotations")
    converted = Converted(stage("convert", tmp_path / "ws", snapshot=snapshot.uri, report=report.uri))
    cache = ImageCache(tmp_path / "cache")
    seconds: dict[str, float] = {}
    for name, reduction in (("whole", None), ("reduced", Reduction(IMGSZ, "linear"))):
        began = time.perf_counter()
        converted.view(Snapshot(snapshot), tmp_path / name, cache, ("train", "val"), reduction=reduction)
        seconds[name] = time.perf_counter() - began
    pairs = [(epoch(tmp_path / "whole"), epoch(tmp_path / "reduced")) for _ in range(ROUNDS)]
    whole, reduced = (statistics.median(pair[way] for pair in pairs) for way in (0, 1))
    with capsys.disabled():
        print(f"\n{PHOTOGRAPHS} photographs of {WIDTH} x {HEIGHT}, an epoch's loading at {IMGSZ}")
        print(f"  whole {whole:.2f} s, reduced {reduced:.2f} s: {whole / reduced:.1f} times as fast")
        print(f"  into the cache, once: whole {seconds['whole']:.2f} s, reduced {seconds['reduced']:.2f} s")
