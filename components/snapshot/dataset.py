"""Reads a DICE dataset from its store: the objects in it, the annotation file, and what the store declares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.snapshot.recognise import no_dataset
from visionloop.core.encodings import without_mark
from visionloop.core.errors import DatasetNotFound, InvalidDataset, NotFound
from visionloop.core.listings import PassedOver
from visionloop.core.storage import ObjectInfo, Prefix
from visionloop.core.stores import local_path
from visionloop.data import dice
from visionloop.data.dice.format import printable

METADATA = "metadata.json"
IMAGES = "images"

#: The largest metadata.json that is read, in bytes.
LARGEST_METADATA = 16 * 2**20

#: Called with the number of images done and the total, as a sign of life.
Advanced = Callable[[int, int], None]


@dataclass(frozen=True)
class SourceDataset:
    """A dataset as it is now: its decoded annotations and the objects below ``images/`` by file name.

    ``passed_over`` holds the keys there that can't be read, each with what it is.
    """

    task: str
    annotations: dice.Dataset
    annotation_bytes: bytes
    annotation_file: str
    metadata: dict[str, Any]
    objects: dict[str, ObjectInfo]
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def identities(self) -> dict[str, tuple[int | None, str | None]]:
        """Size and ETag of each image that the annotations name; None for both if an image is missing."""
        identities: dict[str, tuple[int | None, str | None]] = {}
        for image in self.annotations.images:
            info = self.objects.get(image.file_name)
            identities[image.file_name] = (info.size, info.etag) if info else (None, None)
        return identities

    def notices(self) -> list[str]:
        """What is passed over below ``images/``, in one sentence that names the first ones; empty where nothing is."""
        if not self.passed_over:
            return []
        names = [printable(f"{IMAGES}/{key} ({kind})") for key, kind in sorted(self.passed_over.items())]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return [f"passed over: {', '.join(names[:3])}{more}."]


def read_annotations(prefix: Prefix, task: str | None) -> tuple[str, str, bytes, dice.Dataset]:
    """Returns the task, the annotation file's name, its bytes and the decoded annotations.

    Raises:
        DatasetNotFound: If the prefix holds nothing, or no annotation file; the sentence says what it holds instead.
        InvalidConfig: If the dataset has several tasks and none was chosen.
        InvalidDataset: If the file is not DICE.
    """
    try:
        _, objects = prefix.children()
    except NotFound:
        raise DatasetNotFound(f"{prefix.uri}: there is no such bucket; correct --dataset.") from None
    names = [info.key for info in objects]
    try:
        chosen, file = dice.choose_task(names, task, prefix.uri)
    except DatasetNotFound:
        raise no_dataset(prefix) from None
    try:
        data = prefix.read(file)
    except NotFound:
        raise DatasetNotFound(f"{prefix.uri}/{file}: the file is gone; export the dataset again.") from None
    annotations = dice.decode(data, file, chosen)
    return annotations.task, file, data, annotations


def read_source(prefix: Prefix, task: str | None, advanced: Advanced = lambda done, total: None) -> SourceDataset:
    """Lists and reads a dataset; image bytes are read only where the store is a folder, which declares no ETag."""
    chosen, file, data, annotations = read_annotations(prefix, task)
    names = {image.file_name for image in annotations.images}
    passed_over: dict[str, str] = {}
    objects = list_images(prefix, names, advanced, passed_over.__setitem__)
    return SourceDataset(chosen, annotations, data, file, _metadata(prefix), objects, passed_over)


def list_images(
    prefix: Prefix,
    names: Collection[str],
    advanced: Advanced = lambda done, total: None,
    passed_over: PassedOver = lambda key, kind: None,
) -> dict[str, ObjectInfo]:
    """Returns the named images that exist, by file name, as the store declares them. On files the ETag is the bytes' SHA-256.

    ``advanced`` is called with the number of images done, listed or on files hashed, and that of ``names``.
    """
    images = prefix.child(IMAGES)
    objects: dict[str, ObjectInfo] = {}
    for info in images.objects(passed_over=passed_over):
        if info.key in names:
            objects[info.key] = info
            advanced(0 if prefix.on_files else len(objects), len(names))
    if prefix.on_files:
        for done, (name, info) in enumerate(objects.items(), 1):
            objects[name] = ObjectInfo(name, info.size, file_etag(images, name), None)
            advanced(done, len(names))
    return objects


def file_etag(images: Prefix, name: str) -> str:
    """SHA-256 of an image in a folder, which serves as its ETag."""
    folder = local_path(images.uri)
    if folder is None:
        raise InvalidDataset(f"{images.uri} is no folder.")
    with Path(folder, name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metadata(prefix: Prefix) -> dict[str, Any]:
    """Reads ``metadata.json`` if it exists; any object is accepted, because its content was never specified."""
    try:
        size = prefix.head(METADATA).size
        if size > LARGEST_METADATA:
            raise InvalidDataset(
                f"{METADATA}: {size:,} bytes are more than the {LARGEST_METADATA:,} that are read; export the dataset again."
            )
        value = msgspec.json.decode(without_mark(prefix.read(METADATA)))
    except NotFound:
        return {}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{METADATA}: not JSON ({error}); export the dataset again.") from error
    except RecursionError:
        value = None
    if value is None or dice.depth(value) > dice.DEEPEST:
        raise InvalidDataset(f"{METADATA}: nested deeper than {dice.DEEPEST} levels; export the dataset again.")
    if not isinstance(value, dict):
        raise InvalidDataset(f"{METADATA}: not a JSON object; export the dataset again.")
    return value
