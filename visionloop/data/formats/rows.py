"""Collects the rows of the canonical tables from a reader that goes through images one after the other and names its classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import rfc8785

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class, wrong_class_name
from visionloop.data.annotations.tables import (
    BOX,
    IMAGES,
    OBJECTS,
    Whole,
    column,
    hundredths,
    images_table,
    objects_table,
)
from visionloop.data.formats.keys import file_name
from visionloop.data.formats.names import checked
from visionloop.data.formats.source import Source
from visionloop.data.sentences import shown

#: How many rows are held as Python objects.
_AT_ONCE = 20_000

#: x, y, width and height in pixels.
Box = tuple[float, float, float, float]


@dataclass
class Rows:
    """Images and objects, in the order in which they are added.

    ``class_id`` counts class names in the order in which they appear until ``number`` gives them the order of their classes;
    ``kind`` is a number of the reader's own for each object.
    """

    _images: list[tuple[Any, ...]] = field(default_factory=list)
    _objects: list[tuple[Any, ...]] = field(default_factory=list)
    _tables: dict[str, list[pa.Table]] = field(default_factory=lambda: {"images": [], "objects": []})
    _kinds: list[Whole] = field(default_factory=list)
    _origins: dict[str, str] = field(default_factory=dict)
    _classes: dict[str, int] = field(default_factory=dict)
    _image_count: int = 0

    def __len__(self) -> int:
        """How many images there are."""
        return self._image_count

    @property
    def class_names(self) -> list[str]:
        """The names of the classes that objects have, in the order in which they appear."""
        return list(self._classes)

    def image(
        self,
        key: str,
        origin: str,
        position: int,
        *,
        size: tuple[int | None, int | None] = (None, None),
        split: str | None = None,
        file: str | None = None,
        group: str | None = None,
        metadata: str | None = None,
    ) -> int:
        """Adds an image and returns its row.

        Args:
            key: Its key below the dataset's URI.
            origin: What names it, for errors (``Annotations/a.xml``).
            position: Its index there.
            size: Width and height in pixels; None where they are not stated.
            split: ``train``, ``val``, ``test`` or None.
            file: The annotation file, where there are several.
            group: The value of the field that keeps images together.
            metadata: Its free values as JSON.

        Raises:
            InvalidDataset: If the key can't be an image's, or its file name is another image's already.
        """
        name = file_name(checked(key, origin))
        if (first := self._origins.setdefault(name, origin)) is not origin:
            raise InvalidDataset(
                f"{origin}: the image {shown(name)} is already that of {first}; remove one of the two."
            )
        width, height = size if all(size) else (None, None)
        self._images.append((name, key, width, height, split, file, position, group, metadata))
        self._image_count += 1
        if len(self._images) >= _AT_ONCE:
            self._flush_images()
        return self._image_count - 1

    def object(
        self,
        image: int,
        position: int,
        name: str,
        origin: str,
        *,
        kind: int = 0,
        box: Box | None = None,
        polygons: Sequence[Sequence[float]] | None = None,
        mask: str | None = None,
        keypoints: Sequence[int] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds an object of the image in a row, or for classification a label.

        Args:
            image: The image's row.
            position: The object's index.
            name: Its class.
            origin: Where it stands, for errors.
            kind: A number of the reader's own.
            box: In pixels.
            polygons: Each x1, y1, x2, y2 … in pixels.
            mask: A run-length mask in COCO's form, as JSON.
            keypoints: x and y in hundredths of a pixel, and visibility, of each.
            attributes: Free values.

        Raises:
            InvalidDataset: If the class has a name that no class may have.
        """
        code = self._classes.get(name)
        if code is None:
            check_class_name(name, origin)
            code = self._classes[name] = len(self._classes)
        outlines = [hundredths(np.asarray(polygon)).tolist() for polygon in polygons] if polygons else None
        text = rfc8785.dumps(dict(attributes)).decode() if attributes else None
        self._objects.append((image, position, code, kind, box, outlines, mask, keypoints, text))
        if len(self._objects) >= _AT_ONCE:
            self._flush_objects()

    def number(self, names: Sequence[str]) -> tuple[tuple[Class, ...], pa.Table, pa.Table, Whole]:
        """The classes with ids from 0 in the order of ``names``, the tables of images and objects, and the objects' kinds."""
        self._flush_images()
        self._flush_objects()
        images = pa.concat_tables([images_table(file_name=[]), *self._tables["images"]]).combine_chunks()
        objects = pa.concat_tables([objects_table(image=[]), *self._tables["objects"]]).combine_chunks()
        kinds: Whole = np.concatenate([np.zeros(0, np.int64), *self._kinds])
        ids = {name: index for index, name in enumerate(names)}
        rank = np.array([ids[name] for name in self._classes], np.int32)
        if len(rank):
            at = OBJECTS.get_field_index("class_id")
            objects = objects.set_column(at, OBJECTS.field(at), pa.array(rank[column(objects, "class_id")]))
        return tuple(Class(id=index, name=name) for name, index in ids.items()), images, objects, kinds

    def _flush_images(self) -> None:
        if self._images:
            names = [entry.name for entry in IMAGES]
            columns = dict(zip(names, map(list, zip(*self._images, strict=True)), strict=True))
            columns["file"] = pa.array(columns["file"], pa.string()).dictionary_encode()
            self._tables["images"].append(images_table(**columns))
            self._images.clear()

    def _flush_objects(self) -> None:
        if not self._objects:
            return
        image, position, code, kinds, box, polygons, mask, keypoints, attributes = zip(*self._objects, strict=True)
        missing = np.array([entry is None for entry in box])
        corners = hundredths(np.array([entry or (0, 0, 0, 0) for entry in box], np.float64))
        boxes = {name: pa.array(corners[:, index], mask=missing) for index, name in enumerate(BOX)}
        table = objects_table(
            image=list(image),
            position=list(position),
            class_id=list(code),
            **boxes,
            polygons=list(polygons),
            mask=list(mask),
            keypoints=list(keypoints),
            attributes=list(attributes),
        )
        self._tables["objects"].append(table)
        self._kinds.append(np.array(kinds, np.int64))
        self._objects.clear()


def only_of(
    classes: Sequence[Class], objects: pa.Table, stated: Sequence[str]
) -> tuple[tuple[Class, ...], pa.Table, list[str]]:
    """The stated classes and behind them, sorted, the others that objects have: with these the objects, and these others' names."""
    names = {entry.id: entry.name for entry in classes}
    codes = column(objects, "class_id")
    unlisted = sorted({names[code] for code in np.unique(codes).tolist()} - set(stated))
    ids = {name: index for index, name in enumerate([*stated, *unlisted])}
    rank = np.array([ids.get(names[code], -1) for code in range(len(names))], np.int32)
    if len(codes):
        at = OBJECTS.get_field_index("class_id")
        objects = objects.set_column(at, OBJECTS.field(at), pa.array(rank[codes]))
    return tuple(Class(id=index, name=name) for name, index in ids.items()), objects, unlisted


def check_class_name(name: str, origin: str) -> None:
    """Raises InvalidDataset for a name that no class may have."""
    if reason := wrong_class_name(name):
        raise InvalidDataset(f"{origin}: the class name {reason}; rename it.")


def with_sizes(images: pa.Table, source: Source, existing: Iterable[str]) -> pa.Table:
    """The images with the sizes of those that state none, read from the pictures that exist."""
    unknown = np.asarray(images["width"].is_null())
    if not unknown.any():
        return images
    exists = existing if isinstance(existing, Set) else set(existing)
    keys = images["key"].to_pylist()
    rows = np.array([row for row in np.flatnonzero(unknown).tolist() if keys[row] in exists], np.int64)
    sides = source.sizes(pa.array([keys[row] for row in rows.tolist()], pa.string()))
    for name, values in zip(("width", "height"), sides, strict=True):
        whole = column(images, name)
        whole[rows] = values
        at = IMAGES.get_field_index(name)
        images = images.set_column(at, IMAGES.field(at), pa.array(whole.astype(np.int32), mask=whole == 0))
    return images


def free_values(values: Mapping[str, Any]) -> str | None:
    """Free values of an image as a JSON object with sorted keys; None where there are none."""
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True, separators=(",", ":")) if values else None
