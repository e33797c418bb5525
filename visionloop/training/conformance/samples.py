"""Generated datasets: 24 images of coloured shapes for each task, in the folders that a trainer is given."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionloop.data import view
from visionloop.data.annotations.labels import class_folder

#: Class names as they come: with letters beyond ASCII, and a blank.
CLASSES = ("red", "blau grün", "노랑")
COLOURS = ((220, 30, 30), (30, 120, 220), (230, 220, 40))

#: The keypoints of a square, and the index of each one's counterpart in a mirrored picture.
KEYPOINTS = ("top left", "top right", "centre")
FLIP = (1, 0, 2)

#: How many images each split has.
COUNTS = {"train": 12, "val": 6, "test": 6}

#: The class that the split test lacks.
ABSENT = 2

#: Widths and heights of the pictures, in turn.
SIZES = ((64, 64), (96, 64), (64, 80))

#: Heights and widths of pictures that no dataset had: of one pixel, tall, broad, odd, and one as usual.
SHAPES = ((1, 1), (301, 7), (5, 199), (67, 45), (64, 96))

#: So little confidence that a model that was hardly trained answers something.
LEAST = 0.001


@dataclass(frozen=True)
class Picture:
    """A picture and what is true of it.

    Attributes:
        name: Its name below the split's folder.
        pixels: Height × width × 3, in RGB.
        lines: Its label, a line for each object.
        index: For classification its class.
    """

    name: str
    pixels: NDArray[np.uint8]
    lines: tuple[str, ...]
    index: int = 0


@functools.cache
def unusual() -> list[NDArray[np.uint8]]:
    """Pictures that no dataset had, of the sizes ``SHAPES``; height × width × 3, in RGB."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    pictures[-1][8:40, 8:40] = COLOURS[0]
    return pictures


def write(folder: Path, task: str, *, archive: bool, label_files: bool = True) -> Path:
    """Writes a dataset.

    Args:
        folder: A folder that is not there yet.
        task: What it is for.
        archive: Whether it also has ``labels.tar`` and ``sizes.jsonl``, as the views of the train stage do.
        label_files: Whether it has a file of labels for each image; one that is an archive's alone has none.

    Returns:
        The folder.
    """
    if task == "classification":
        for split, count in COUNTS.items():
            _write_classes(folder / split, list(_classified(split, count)))
        return folder
    splits = {split: list(_labelled(task, split, count)) for split, count in COUNTS.items()}
    _write_labelled(folder, splits, archive=archive, label_files=label_files)
    return folder


def write_unlabelled(folder: Path, *, label_files: bool = True) -> Path:
    """Writes a split test of three images without an object, and returns its folder."""
    pictures = [Picture(f"{number}.png", _background(number, *SIZES[number]), ()) for number in range(3)]
    _write_labelled(folder, {"train": [], "val": [], "test": pictures}, archive=True, label_files=label_files)
    return folder


def names(task: str, split: str) -> set[str]:
    """The paths of a split's images in a dataset's folder."""
    if task == "classification":
        return {
            f"{split}/{_class_folder(picture.index)}/{picture.name}" for picture in _classified(split, COUNTS[split])
        }
    return {f"images/{split}/{picture.name}" for picture in _labelled(task, split, COUNTS[split])}


def _labelled(task: str, split: str, count: int) -> Iterator[Picture]:
    """Pictures with up to two squares each; the second of train has none."""
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        pixels, lines = _background(_seed_of(split, number), width, height), []
        random = np.random.default_rng(_seed_of(split, number, "objects"))
        present = [index for index in range(len(CLASSES)) if split != "test" or index != ABSENT]
        shown = random.permutation(present)[: 1 + number % 2]
        for index in [] if (split, number) == ("train", 1) else shown:
            side = int(random.integers(16, 28))
            x, y = int(random.integers(0, width - side)), int(random.integers(0, height - side))
            pixels[y : y + side, x : x + side] = COLOURS[index]
            lines.append(_line(task, int(index), x / width, y / height, side / width, side / height))
        yield Picture(_name(number), pixels, tuple(lines))


def _classified(split: str, count: int) -> Iterator[Picture]:
    """Pictures with one large square each."""
    present = [index for index in range(len(CLASSES)) if split != "test" or index != ABSENT]
    for number in range(count):
        index = present[number % len(present)]
        width, height = SIZES[number % len(SIZES)]
        pixels = _background(_seed_of(split, number), width, height)
        x, y = (int(value) for value in np.random.default_rng(_seed_of(split, number, "place")).integers(0, 32, 2))
        pixels[y : y + 32, x : x + 32] = COLOURS[index]
        yield Picture(_name(number).rpartition("/")[2], pixels, (), index)


def _seed_of(*parts: object) -> int:
    """A seed that depends on the parts alone, in every process."""
    return zlib.crc32(repr(parts).encode())


def _name(number: int) -> str:
    """The name of a picture: one with letters beyond ASCII and a blank, one in a folder of its own."""
    return {2: "bild 2 ü.png", 3: "night/003.png"}.get(number, f"{number:03}.png")


def _background(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(90, 130, (height, width, 3), dtype=np.uint8)


def _line(task: str, index: int, x: float, y: float, width: float, height: float) -> str:
    """The label of a square, in shares of the picture: its box, its outline, or its box and keypoints."""
    values: list[Any] = [x + width / 2, y + height / 2, width, height]
    if task == "segmentation":
        values = [x, y, x + width, y, x + width, y + height, x, y + height]
    elif task == "pose":
        values += [x, y, 2, x + width, y, 2, x + width / 2, y + height / 2, 1]
    words = (str(value) if isinstance(value, int) else f"{value:.6f}" for value in values)
    return " ".join([str(index), *words])


def _write_labelled(folder: Path, splits: dict[str, list[Picture]], *, archive: bool, label_files: bool) -> None:
    sizes, texts = [], []
    for split, pictures in splits.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for picture in pictures:
            path = f"images/{split}/{picture.name}"
            label = f"labels/{split}/{picture.name.removesuffix('.png')}.txt"
            text = "".join(f"{line}\n" for line in picture.lines)
            _save(picture, folder / path)
            if label_files:
                (folder / label).parent.mkdir(parents=True, exist_ok=True)
                (folder / label).write_text(text, encoding="utf-8")
            height, width, _ = picture.pixels.shape
            sizes.append(view.ImageSize(path, width, height))
            texts.append((label, text))
    if archive:
        view.write_archive(folder / view.LABELS, texts)
        view.write_sizes(folder, sizes)


def _write_classes(folder: Path, pictures: list[Picture]) -> None:
    for index in range(len(CLASSES)):
        (folder / _class_folder(index)).mkdir(parents=True)
    for picture in pictures:
        _save(picture, folder / _class_folder(picture.index) / picture.name)


def _class_folder(index: int) -> str:
    return class_folder(index, CLASSES[index])


def _save(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.pixels).save(path)
