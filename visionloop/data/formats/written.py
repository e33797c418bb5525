"""What a format's writer makes of a dataset: keys, files and what the format can't say. It touches no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import IMAGES, SPLITS, Annotations, Whole, column, offsets
from visionloop.data.formats.keys import counted, extension
from visionloop.data.formats.listing import IMAGES as EXTENSIONS
from visionloop.data.sentences import printable, shown

#: How many images are put into files at once.
AT_ONCE = 5_000

Chosen = npt.NDArray[np.bool_]


@dataclass
class Losses:
    """Counts what a format can't say, for one notice a kind."""

    _counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _sentences: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        """Adds a notice that counts nothing."""
        self._sentences.append(sentence)

    def add(self, number: int, singular: str, plural: str, what: str) -> None:
        """Counts things: ``1 crowd region is`` or ``2 crowd regions are``, and what becomes of them (``left out``)."""
        if number:
            self._counts[singular, plural, what] += int(number)

    def notices(self) -> Iterator[str]:
        """A sentence for each kind, in the order in which they were first counted, and then what was said."""
        for (singular, plural, what), number in self._counts.items():
            yield printable(f"{counted(number, singular, plural)} {what}.")
        yield from map(printable, self._sentences)


@dataclass(frozen=True)
class Written:
    """A dataset in a format.

    Attributes:
        images: The row of each image that is written, and its key at the destination.
        files: Each file's key and its parts, in the order in which they are written: what shows the format comes last.
        losses: What the format can't say; complete when all files were taken.
    """

    images: Sequence[tuple[int, str]]
    files: Iterable[tuple[str, Iterable[bytes]]]
    losses: Losses


@dataclass(frozen=True)
class Piece:
    """Some images and their objects.

    Attributes:
        first: The row of its first image.
        images: As IMAGES.
        objects: As OBJECTS.
        image: The row of each object's image, counted from ``first``.
    """

    first: int
    images: pa.Table
    objects: pa.Table
    image: Whole


def pieces(read: Annotations) -> Iterator[Piece]:
    """The annotations in pieces of AT_ONCE images."""
    bounds = offsets(read)
    for first in range(0, len(read.images), AT_ONCE):
        images = read.images.slice(first, AT_ONCE)
        begin, end = int(bounds[first]), int(bounds[first + len(images)])
        objects = read.objects.slice(begin, end - begin)
        yield Piece(first, images, objects, column(objects, "image") - first)


def with_splits(read: Annotations, splits: Mapping[str, str]) -> Annotations:
    """The annotations with the splits that their images were assigned to.

    Args:
        read: The annotations.
        splits: Split by file name; an image that is not in it keeps what it states.
    """
    names, stated = read.images["file_name"].to_pylist(), read.images["split"].to_pylist()
    assigned = [splits.get(name, split) for name, split in zip(names, stated, strict=True)]
    at = IMAGES.get_field_index("split")
    return replace(read, images=read.images.set_column(at, IMAGES.field(at), pa.array(assigned, pa.string())))


def ranked(read: Annotations) -> list[Class]:
    """The classes in the order of their numbers in training: that of their ids."""
    return sorted(read.classes, key=lambda entry: entry.id)


def ranks(classes: Sequence[Class], objects: pa.Table) -> Whole:
    """The number of each object's class in training; -1 for an id that is not a class's."""
    ids = np.array([entry.id for entry in classes], np.int64)
    class_id = column(objects, "class_id")
    rank = np.searchsorted(ids, class_id)
    return np.where(np.append(ids, -1)[rank] == class_id, rank, -1).astype(np.int64)


def rows_of_splits(read: Annotations, losses: Losses, title: str) -> dict[str, list[int]]:
    """The rows of the images of each split that has any; those without a split count as train, with a notice.

    An image of val that test has as well is in both.
    """
    splits = read.images["split"].to_pylist()
    losses.add(splits.count(None), "image states", "images state", f"no split: train is taken, as {title} needs one")
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, split in enumerate(splits):
        rows[split or "train"].append(row)
    if read.shared:
        shared = set(read.shared)
        names = read.images["file_name"].to_pylist()
        rows["test"] += [row for row in rows["val"] if names[row] in shared]
    return {split: listed for split, listed in rows.items() if listed}


def readable(read: Annotations, losses: Losses) -> Chosen:
    """Which images have a name by which readers find images; those without are counted with their objects."""
    names = read.images["file_name"].to_pylist()
    kept = np.array([extension(name) in EXTENSIONS for name in names], np.bool_)
    if not kept.all():
        name = names[int(np.flatnonzero(~kept)[0])]
        objects = int((~kept[column(read.objects, "image")]).sum())
        losses.add(
            int((~kept).sum()),
            "image has",
            "images have",
            f"no image's extension ({shown(name)}): left out, with {counted(objects, 'object', 'objects')}",
        )
    return kept


def crowds(objects: pa.Table) -> Chosen:
    """Which objects are regions with many objects."""
    return np.asarray(_whole(objects["iscrowd"]).to_numpy(zero_copy_only=False), np.bool_)


def valid(table: pa.Table, *names: str) -> Chosen:
    """In which rows all of these columns hold a value."""
    every = np.ones(len(table), np.bool_)
    for name in names:
        every &= np.asarray(_whole(table[name]).is_valid())
    return every


def boxed(objects: pa.Table) -> Chosen:
    """Which objects have a box."""
    return valid(objects, "x", "y", "width", "height")


def renamed(losses: Losses, names: Sequence[str], views: Mapping[str, str], why: str) -> None:
    """Counts the images that are written under other names than their own."""
    changed = [name for name in names if views[name] != name]
    if changed:
        first = f"{shown(changed[0])} is {shown(views[changed[0]])}"
        losses.add(len(changed), "image is", "images are", f"written under another name, {why} ({first})")


def unsaid(read: Annotations, losses: Losses, title: str, *names: str) -> None:
    """Counts objects with attributes, areas or the like, and images with free values, that a format has no field for."""
    words = {
        "attributes": ("object has", "objects have", "attributes"),
        "area": ("object states", "objects state", "an area of its own"),
        "polygons": ("object has", "objects have", "polygons"),
        "mask": ("object has", "objects have", "a run-length mask"),
        "keypoints": ("object has", "objects have", "keypoints"),
    }
    for name in names:
        if name == "metadata":
            number = len(read.images) - read.images["metadata"].null_count
            losses.add(number, "image has", "images have", f"free values, which {title} does not hold: left out")
        else:
            singular, plural, what = words[name]
            number = len(read.objects) - read.objects[name].null_count
            losses.add(number, singular, plural, f"{what}, which {title} does not hold: left out")


def _whole(values: pa.ChunkedArray) -> pa.Array:
    whole = values.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def side(images: pa.Table) -> int:
    """The longest side of all images, in pixels; 0 where none is stated."""
    return max((pc.max(images[name]).as_py() or 0 for name in ("width", "height")), default=0)
