"""Writes canonical annotations as DICE 1.0: one JSON file, and the images below ``images/`` under their own names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.tables import Annotations, column
from visionloop.data.dice.tasks import annotation_file
from visionloop.data.formats.json_objects import box, free, keypoints, segmentation, without_none
from visionloop.data.formats.keys import counted
from visionloop.data.formats.written import Losses, Piece, Written, pieces, valid

_ENCODER = msgspec.json.Encoder()

#: What stands behind the images.
END = b"\n]}\n"


def write(read: Annotations) -> Written:
    """The annotations as DICE 1.0.

    What it can't say: images of unknown size, which are left out, and images that val and test share.
    """
    losses = Losses()
    kept = valid(read.images, "width", "height")
    objects = int((~kept[column(read.objects, "image")]).sum())
    losses.add(
        int((~kept).sum()),
        "image is",
        "images are",
        f"of unknown size, which DICE must state: left out, with {counted(objects, 'object', 'objects')}",
    )
    losses.add(
        len(read.shared),
        "image is",
        "images are",
        "of val and of test, and DICE gives an image to one split: it is of val; --split test=val gives them to both",
    )
    names = read.images["file_name"].to_pylist()
    images = [(int(row), f"images/{names[row]}") for row in np.flatnonzero(kept)]
    return Written(images, [(annotation_file(read.task), _file(read))], losses)


def _file(read: Annotations) -> Iterator[bytes]:
    """The parts of the file: what stands before the images, these, an image a line, and the end."""
    content = annotations_hash(read)
    # The same labels have the same id.
    identity = read.metadata.get("dataset_id") or identity_of(content)
    yield head(identity, read.metadata.get("dataset_name") or read.file, read.task, read.classes)
    names = {entry.id: entry.name for entry in read.classes}
    number, separator = 0, b"\n"
    for piece in pieces(read):
        lines = [_ENCODER.encode(image) for image in images_of(piece, names, number)]
        if lines:
            yield separator + b",\n".join(lines)
            separator = b",\n"
        number += len(piece.objects)
    yield END


def identity_of(content: str) -> str:
    """A dataset's id by the SHA-256 of what it holds, in hex."""
    return str(UUID(content[:32], version=5))


def head(identity: str, name: str, task: str, classes: Sequence[Class]) -> bytes:
    """What stands before the images: an image a line follows, with a comma between two, and then ``END``."""
    values: dict[str, Any] = {
        "format_version": "1.0",
        "dataset_id": identity,
        "dataset_name": name,
        "task_type": task,
        "classes": classes,
    }
    return _ENCODER.encode(values)[:-1] + b',"images":['


def images_of(piece: Piece, names: dict[int, str], number: int) -> Iterator[dict[str, Any]]:
    """The images of a piece that have a size; objects are numbered from ``number`` + 1."""
    labels: list[list[dict[str, Any]]] = [[] for _ in range(len(piece.images))]
    for index, (image, row) in enumerate(zip(piece.image.tolist(), piece.objects.to_pylist(), strict=True), number + 1):
        label = without_none(
            id=index,
            class_id=row["class_id"],
            class_name=names.get(row["class_id"]),
            bbox=box(row),
            area=row["area"],
            iscrowd=1 if row["iscrowd"] else None,
            segmentation=segmentation(row),
            keypoints=keypoints(row),
            attributes=free(row["attributes"]),
        )
        labels[image].append(label)
    for row, (image, own) in enumerate(zip(piece.images.to_pylist(), labels, strict=True), piece.first):
        if image["width"] is not None and image["height"] is not None:
            yield without_none(
                id=row + 1,
                file_name=image["file_name"],
                width=image["width"],
                height=image["height"],
                split=image["split"],
                metadata=free(image["metadata"]),
                annotations=own,
            )
