"""Describes a dataset folder to the library."""

from __future__ import annotations

import json
from pathlib import Path

from visionloop.core.errors import InvalidDataset

SPLITS = ("train", "val", "test")


def write_data_file(dataset: Path, classes: tuple[str, ...], needed: tuple[str, ...], work: Path) -> Path:
    """Writes the library's data.yaml for a dataset folder and returns its path.

    Class names are not written to it but set on what the library has read from it: a YAML parser, and the library, would
    misread some names. No key of a foreign file is ever copied, because the library executes ``download``.

    Args:
        dataset: Folder with ``images/{split}/…`` and ``labels/{split}/…``.
        classes: Class names by index.
        needed: The splits that must have an image.
        work: Folder for the file.

    Raises:
        InvalidDataset: If a needed split has no image, or the folder layout would hide labels from the library.
    """
    folders = {split: (dataset / "images" / split).absolute() for split in SPLITS}
    for split in needed:
        _check_split(folders[split])
    lines = [f"nc: {len(classes)}"]
    for split, folder in folders.items():
        # The library always requires train and val: a needed split stands in for a missing one.
        present = folder if folder.is_dir() else folders[needed[0]]
        lines.append(f"{split}: {json.dumps(str(present), ensure_ascii=False)}")  # a JSON string is a YAML string
    path = work / "data.yaml"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _check_split(folder: Path) -> None:
    first = next((path for path in folder.rglob("*") if path.is_file()), None) if folder.is_dir() else None
    if first is None:
        raise InvalidDataset(f"{folder} has no image: give the split {folder.name} at least one.")
    # The library finds labels by replacing the last /images/ of a path.
    nested = next((path for path in folder.rglob("images") if path.is_dir()), None)
    if nested is not None:
        raise InvalidDataset(f"{nested} is a folder named images inside a split, which hides its labels: rename it.")
