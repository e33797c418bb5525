"""Pictures with what a model found drawn on them, in a folder that held nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from visionloop.components.predict.predicting import Predicted
from visionloop.core.errors import InvalidConfig
from visionloop.core.files import atomic_write
from visionloop.data import drawing

#: The longest side of a picture, and the one that a smaller image is enlarged to, in pixels.
LONGEST, SHORTEST = 1280, 320

#: The longest name of a picture without its ending, in characters of at most four bytes.
LONGEST_NAME = 50


class Pictures:
    """A folder of pictures. The names of images come from data: they only ever make a file directly in it."""

    def __init__(self, folder: Path, classes: int) -> None:
        """``classes`` is the number of the model's classes.

        Raises:
            InvalidConfig: If the folder holds something, or is not a folder.
            OSError: If it can't be made.
        """
        self._folder, self._classes = folder, classes
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InvalidConfig(f"--save {folder}: this is a file; name a new folder.") from None
        if any(folder.iterdir()):
            raise InvalidConfig(f"--save {folder}: the folder holds files already; name a new or an empty one.")

    def add(self, predicted: Predicted) -> None:
        """Draws an image's predictions, and writes the picture."""
        jpeg = drawn(predicted, self._classes)
        if jpeg is not None:
            with atomic_write(self._folder / self._name(predicted.image)) as partial:
                partial.write_bytes(jpeg)

    def _name(self, image: str) -> str:
        """A file's name that no other picture has: letters, digits, dots, hyphens and underscores of the image's own name."""
        stem = stem_of(image)
        number, name = 1, stem
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return f"{name}.jpg"


def stem_of(image: str) -> str:
    """An image's name without its ending, as far as it is safe in a file's."""
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(image).stem).strip("._-")[:LONGEST_NAME] or "image"


def drawn(predicted: Predicted, classes: int) -> bytes | None:
    """An image with its predictions, as a JPEG; None if it can't be decoded. ``classes`` is the number of the model's."""
    longest = max(predicted.width, predicted.height)
    return drawing.jpeg(predicted.data, list(_marks(predicted, classes)), max(SHORTEST, min(longest, LONGEST)))


def _marks(predicted: Predicted, classes: int) -> Iterator[drawing.Mark]:
    """What is drawn: the least confident first, so that the most confident lies on top."""
    found = predicted.predictions
    if found and "box" not in found[0]:
        found = found[:1]  # of a whole image the likeliest class alone
    colours = drawing.colours((entry["class_index"] for entry in found), classes)
    for entry in reversed(found):
        yield drawing.Mark(
            box=_corner_and_size(entry.get("box") or (0, 0, predicted.width, predicted.height)),
            polygons=entry.get("polygons", ()),
            points=[(x, y) for x, y, _ in entry.get("keypoints", {}).values()],
            colour=colours[entry["class_index"]],
            text=_text(entry),
        )


def _corner_and_size(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left, top, right - left, bottom - top


def _text(entry: Mapping[str, Any]) -> str:
    """Class and confidence; the number of a class whose name the font of the pictures can't write."""
    name = entry["class"] if entry["class"].isascii() else f"class {entry['class_index']}"
    return f"{name[:18]} {entry['confidence']:.2f}"
