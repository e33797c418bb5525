"""YOLO: a text file of labels for each image, and a data.yaml that names classes and splits."""

from __future__ import annotations

import re

from visionloop.core.encodings import without_mark
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.listing import Listing, suffix
from visionloop.data.formats.source import Source

#: The two keys that the YAML file has, at the begin of a line.
_NAMES, _TRAIN = (
    re.compile(rb"^['\"]?names['\"]?\s*:", re.MULTILINE),
    re.compile(rb"^['\"]?train['\"]?\s*:", re.MULTILINE),
)


def is_yolo(start: bytes) -> bool:
    """Whether a YAML file is of this format, by its first bytes."""
    text = without_mark(start)
    return bool(_NAMES.search(text) and _TRAIN.search(text))


def recognise(listing: Listing) -> str | None:
    """The YAML file at the root, else what lies there of labels beside images; None if neither does."""
    for key in listing.files(".yaml", ".yml"):
        if "/" not in key and is_yolo(listing.ends(key)[0]):
            return key
    labelled = {key.rpartition(".")[0].replace("labels", "images") for key in listing.keys if _is_label(key)}
    images = any(listing.is_image(key) and key.rpartition(".")[0] in labelled for key in listing.keys)
    if images:
        return "classes.txt" if "classes.txt" in listing.keys else "labels/"
    return None


def read(source: Source) -> Annotations:
    """Reads a dataset.

    Raises:
        DatasetNotFound: If there is neither a YAML file with names and train nor a classes.txt.
        InvalidConfig: If it is not of the task that was asked for.
        InvalidDataset: If a file is wrong, or points outside the dataset; the sentence says which line.
    """
    from visionloop.data.formats.yolo.reader import read_yolo

    return read_yolo(source)


def _is_label(key: str) -> bool:
    return suffix(key) == ".txt" and "labels" in key.split("/")[:-1]
