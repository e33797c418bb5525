"""Describes a dataset folder to the library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InvalidDataset

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Description:
    """What the library must know of a dataset: our task, class names by index, and for pose the keypoints' number and mirror.

    ``flip`` has the index of each keypoint's counterpart in a mirrored image; empty where it is not known.
    """

    task: str
    classes: tuple[str, ...]
    keypoints: int = 0
    flip: tuple[int, ...] = ()


def data_argument(dataset: Path, description: Description, needed: tuple[str, ...], work: Path) -> Path:
    """Returns what the library takes as ``data``: a written data.yaml, or for classification the dataset's folder itself.

    Class names are not written to the file but set on what the library has read from it: a YAML parser, and the library, would
    misread some names. No key of a foreign file is ever copied, because the library executes ``download``.

    Args:
        dataset: Folder with ``images/{split}/…`` and ``labels/{split}/…``, or for classification with ``{split}/{class}/…``.
        description: What the library must know of it.
        needed: The splits that must have an image.
        work: Folder for the file.

    Raises:
        InvalidDataset: If a needed split has no image, or the folder layout would hide labels from the library.
    """
    if description.task == "classification":
        for split in needed:
            _first_image(dataset / split, split)
        return dataset.absolute()
    folders = {split: (dataset / "images" / split).absolute() for split in SPLITS}
    for split in needed:
        _check_split(folders[split])
    lines = [f"nc: {len(description.classes)}"]
    if description.keypoints:
        lines.append(f"kpt_shape: [{description.keypoints}, 3]")
    if description.flip:
        lines.append(f"flip_idx: {list(description.flip)}")
    for split, folder in folders.items():
        # The library always requires train and val: a needed split stands in for a missing one.
        present = folder if folder.is_dir() else folders[needed[0]]
        lines.append(f"{split}: {json.dumps(str(present), ensure_ascii=False)}")  # a JSON string is a YAML string
    path = work / "data.yaml"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _first_image(folder: Path, split: str) -> None:
    if not folder.is_dir() or next((path for path in folder.rglob("*") if path.is_file()), None) is None:
        raise InvalidDataset(f"{folder} has no image: give the split {split} at least one.")


def _check_split(folder: Path) -> None:
    _first_image(folder, folder.name)
    # The library finds labels by replacing the last /images/ of a path.
    nested = next((path for path in folder.rglob("images") if path.is_dir()), None)
    if nested is not None:
        raise InvalidDataset(f"{nested} is a folder named images inside a split, which hides its labels: rename it.")
