"""Images that the cache keeps reduced are, pixel by pixel, what the library's loader makes of the whole ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from small_datasets import stage
from test_ultralytics_images import PICTURES

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import DatasetChanged
from visionloop.core.receipts import Result
from visionloop.data import view
from visionloop.data.decoding import decode
from visionloop.data.images import ImageCache
from visionloop.data.reduced import Reduction
from visionloop.training.trainers.ultralytics.environment import library

#: Width and height of the images, larger and smaller than SIDE, and no multiples of it.
SIZES = {
    "wide.jpg": (301, 200),
    "high.jpg": (97, 333),
    "square.png": (250, 250),
    "small.png": (96, 64),
    "thin.jpg": (400, 20),
}
SIDE = 96


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    """A dataset of noise, its snapshot and what was converted of it."""
    folder = tmp_path_factory.mktemp("resize")
    (folder / "dataset" / "images").mkdir(parents=True)
    noise = np.random.default_rng(0)
    images = []
    for split in ("train", "val", "test"):
        for name, (width, height) in SIZES.items():
            file = f"{split}-{name}"
            pixels = noise.integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "dataset" / "images" / file)
            box = [1, 1, width / 2, height / 2]
            labels = [{"class_id": 0, "bbox": box}]
            images.append({"file_name": file, "width": width, "height": height, "split": split, "annotations": labels})
    document = {"format_version": "1.0", "task_type": "detection", "dataset_id": "1", "dataset_name": "n"}
    more = {"classes": [{"id": 0, "name": "thing"}], "images": images}
    (folder / "dataset" / "annotations_detection.json").write_text(json.dumps(document | more))
    snapshot = stage("snapshot", folder / "ws", dataset=str(folder / "dataset"))
    report = stage("validate", folder / "ws", snapshot=snapshot.uri)
    return folder / "dataset", snapshot, stage("convert", folder / "ws", snapshot=snapshot.uri, report=report.uri)


def make_view(frozen: tuple[Path, Result, Result], folder: Path, side: int, cache: ImageCache) -> Path:
    _, snapshot, converted = frozen
    reduction = Reduction(side, "linear") if side else None
    splits = ("train", "val")
    Converted(converted).view(Snapshot(snapshot), folder, cache, splits, checked=("test",), reduction=reduction)
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def loaded(folder: Path, split: str) -> Any:
    ultralytics = library()
    return ultralytics.data.dataset.YOLODataset(
        img_path=str(folder / "images" / split),
        imgsz=SIDE,
        data={"names": {0: "thing"}},
        augment=split == "train",
        rect=split == "val",
        batch_size=2,
        hyp=ultralytics.cfg.get_cfg(),
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_training_sees_the_same_pixels(split: str, frozen: tuple[Path, Result, Result], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache")
    whole, reduced = (loaded(make_view(frozen, tmp_path / str(side), side, cache), split) for side in (0, SIDE))
    assert len(whole) == len(reduced) == len(SIZES)
    assert whole.im_files == [file.replace(f"/{SIDE}/", "/0/") for file in reduced.im_files]
    for index in range(len(SIZES)):
        pixels, _, shape = whole.load_image(index)
        assert (reduced.load_image(index)[0] == pixels).all()
        assert reduced.load_image(index)[2] == shape
    if split == "val":
        assert (whole.batch_shapes == reduced.batch_shapes).all()


def test_only_what_is_larger_is_reduced_and_test_stays_whole(
    frozen: tuple[Path, Result, Result], tmp_path: Path
) -> None:
    cache = ImageCache(tmp_path / "cache")
    folder = make_view(frozen, tmp_path / "view", SIDE, cache)
    sizes = view.read_sizes(folder, "train") | view.read_sizes(folder, "val")
    assert {(size.width, size.height) for size in sizes.values()} == set(SIZES.values())
    seen = {path: size_of(folder / path) for path in sizes}
    assert max(max(size) for size in seen.values()) == SIDE
    assert size_of(folder / "images" / "train" / "train-small.png") == SIZES["small.png"]
    in_cache = sorted(size_of(entry.path) for entry in cache.entries())
    assert in_cache == sorted([*seen.values(), *SIZES.values()])


def test_a_reduced_image_is_made_once_and_again_when_it_is_damaged(
    frozen: tuple[Path, Result, Result], tmp_path: Path
) -> None:
    make_view(frozen, tmp_path / "first", SIDE, ImageCache(tmp_path / "cache"))
    again = ImageCache(tmp_path / "cache")
    second = make_view(frozen, tmp_path / "second", SIDE, again)
    assert again.fetched == 0
    name = "images/train/train-wide.jpg"
    before = (second / name).read_bytes()
    (second / name).write_bytes(b"x")  # a link to the cache's own file
    third = make_view(frozen, tmp_path / "third", SIDE, again)
    assert again.fetched == 1
    assert (third / name).read_bytes() == before


def test_a_whole_image_that_lies_here_is_not_fetched_again(
    frozen: tuple[Path, Result, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(tmp_path / "cache")
    make_view(frozen, tmp_path / "whole", 0, cache)
    monkeypatch.setattr("visionloop.data.images.read_frozen", lambda *_: pytest.fail("read"))
    folder = make_view(frozen, tmp_path / "reduced", SIDE, cache)
    assert max(size_of(folder / "images" / "train" / "train-wide.jpg")) == SIDE


def test_an_image_that_changed_is_refused_reduced_too(frozen: tuple[Path, Result, Result], tmp_path: Path) -> None:
    image = frozen[0] / "images" / "train-wide.jpg"
    before = image.read_bytes()
    try:
        image.write_bytes(before + b"x")
        with pytest.raises(DatasetChanged, match=r"train-wide\.jpg: the image changed since its snapshot"):
            make_view(frozen, tmp_path / "view", SIDE, ImageCache(tmp_path / "cache"))
    finally:
        image.write_bytes(before)


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_is_reduced_as_the_library_would(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PICTURES[name])
    expected = library().utils.patches.imread(str(tmp_path / name))
    reduction = Reduction(32, "linear")
    size = reduction.size(expected.shape[1], expected.shape[0])
    expected = cv2.resize(expected, size, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(decode(reduction.picture(PICTURES[name]), "BGR"), expected)
