"""The labels that come from convert's archive are what the library's own scan of images and label files finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_datasets import dataset, stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import InvalidReceipt
from visionloop.data import view
from visionloop.data.images import ImageCache
from visionloop.training.trainers.ultralytics.environment import library

TASKS = {"detection": "detect", "segmentation": "segment", "pose": "pose"}


def labels(task: str, count: int) -> list[dict[str, Any]]:
    """Random labels, two of them equal."""
    numbers = random.Random(0)
    made = []
    for number in range(count):
        x, y, width, height = (round(numbers.uniform(*between), 2) for between in ((0, 20), (0, 20), (1, 12), (1, 12)))
        label: dict[str, Any] = {"class_id": number % 3, "bbox": [x, y, width, height]}
        if task == "segmentation":
            corners = [[x, y, x + width, y, x, y + height], [x + 1, y + 1, x + width, y + height, x, y + height]]
            label["segmentation"] = corners[: 1 + number % 2]
        if task == "pose":
            label["keypoints"] = [x, y, 2, x + width, y + height, number % 3]
        made.append(label)
    return [*made, made[0]]


def make_view(tmp_path: Path, task: str, *, label_files: bool) -> Path:
    classes = [{"id": number, "name": f"class {number}"} for number in range(3)]
    more: dict[str, Any] = {"keypoints": ["left", "right"]} if task == "pose" else {}
    classes = [entry | more for entry in classes]
    folder = dataset(tmp_path / "dataset", task, labels(task, 40), classes=classes)
    snapshot = stage("snapshot", tmp_path / "ws", dataset=str(folder))
    report = stage("validate", tmp_path / "ws", snapshot=snapshot.uri, mode="annotations")
    converted = stage("convert", tmp_path / "ws", snapshot=snapshot.uri, report=report.uri)
    made = tmp_path / "view"
    cache = ImageCache(tmp_path / "cache")
    assert Converted(converted).view(Snapshot(snapshot), made, cache, label_files=label_files) == 4
    return made


def read(folder: Path, task: str, split: str = "train", **more: Any) -> Any:
    """The library's dataset of a view."""
    ultralytics = library()
    names = {number: str(number) for number in range(3)}
    data: dict[str, Any] = {"names": names} | ({"kpt_shape": (2, 3)} if task == "pose" else {})
    return ultralytics.data.dataset.YOLODataset(
        img_path=str(folder / "images" / split),
        data=data,
        task=TASKS[task],
        augment=False,
        hyp=ultralytics.cfg.get_cfg(),
        **more,
    )


def flat(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, list | tuple) else [value]:
        yield (part.dtype, part.shape, part.tolist()) if isinstance(part, np.ndarray) else part


@pytest.mark.parametrize("single_cls", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_of_the_librarys_scan(task: str, single_cls: bool, tmp_path: Path) -> None:
    folder = make_view(tmp_path, task, label_files=True)
    ours = read(folder, task, single_cls=single_cls)
    (folder / view.LABELS).unlink()
    of_library = read(folder, task, single_cls=single_cls)
    assert ours.im_files == of_library.im_files
    assert len(ours.labels) == 2
    assert len(ours.labels[0]["cls"]) > 30
    for label, expected in zip(ours.labels, of_library.labels, strict=True):
        assert {name: list(flat(value)) for name, value in label.items()} == {
            name: list(flat(value)) for name, value in expected.items()
        }


def test_no_image_and_no_label_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_view(tmp_path, "detection", label_files=False)
    assert not list(folder.glob("labels/*/*"))
    for image in folder.glob("images/train/*"):
        image.unlink()
        image.write_bytes(b"")
    made = read(folder, "detection")
    assert [label["shape"] for label in made.labels] == [(32, 32)] * 2


def test_an_image_whose_size_is_not_recorded_is_read(tmp_path: Path) -> None:
    folder = make_view(tmp_path, "detection", label_files=False)
    sizes = view.read_sizes(folder, "train").values()
    view.write_sizes(folder, (view.ImageSize(size.path, None, None) for size in sizes))
    assert [label["shape"] for label in read(folder, "detection").labels] == [(32, 32)] * 2


@pytest.mark.parametrize(
    "text", ["0 0.5 0.5 0.1\n", "3 0.5 0.5 0.1 0.1\n", "0 1.5 0.5 0.1 0.1\n", "0.5 0.5 0.5 0.1 0.1\n", "a\n"]
)
def test_labels_that_convert_does_not_write_end_the_training(text: str, tmp_path: Path) -> None:
    folder = make_view(tmp_path, "detection", label_files=False)
    view.write_archive(
        folder / view.LABELS, [("labels/train/0.txt", "0 0.5 0.5 0.1 0.1\n"), ("labels/train/1.txt", text)]
    )
    with pytest.raises(InvalidReceipt, match=r"labels.tar: the labels between .*; run again with --force convert"):
        read(folder, "detection")


def test_an_image_without_a_label_ends_the_training(tmp_path: Path) -> None:
    folder = make_view(tmp_path, "detection", label_files=False)
    view.write_archive(folder / view.LABELS, [("labels/train/0.txt", "")])
    with pytest.raises(InvalidReceipt, match=r"labels.tar: images/train/1.png has no label"):
        read(folder, "detection")
