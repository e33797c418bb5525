"""YOLO: a text file of labels for each image, and a data.yaml that names classes and splits."""

from __future__ import annotations

import re

from visionloop.data.formats.listing import Listing

#: The two keys that the YAML file has, at the begin of a line.
_NAMES, _TRAIN = (
    re.compile(rb"^['\"]?names['\"]?\s*:", re.MULTILINE),
    re.compile(rb"^['\"]?train['\"]?\s*:", re.MULTILINE),
)


def recognise(listing: Listing) -> str | None:
    """The YAML file at the root, else what lies there of labels beside images; None if neither does."""
    for key in listing.files(".yaml", ".yml"):
        start, _ = listing.ends(key)
        if "/" not in key and _NAMES.search(start) and _TRAIN.search(start):
            return key
    labelled = {key.rpartition(".")[0].replace("labels", "images") for key in listing.keys if _is_label(key)}
    images = any(listing.is_image(key) and key.rpartition(".")[0] in labelled for key in listing.keys)
    if images:
        return "classes.txt" if "classes.txt" in listing.keys else "labels/"
    return None


def _is_label(key: str) -> bool:
    return key.endswith(".txt") and "labels" in key.split("/")[:-1]
