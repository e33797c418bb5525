"""What makes two datasets equal: their content in canonical bytes, and its hash.

The content holds, for each image, its file name, size in bytes, ETag, width, height and split field; for each annotation, its
class id, geometry, ``iscrowd`` and attributes; for each class, its id and name, and for pose also its keypoints' names and
flip pairs (they decide the labels). The order of images, classes and annotations, dates, people, statistics, colours and
versions are left out.

The canonical form is one line of RFC 8785 JSON for the classes, then one for each image in the order of file names, so
that hashing never holds all images in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import rfc8785

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.dice.format import DEEPEST, REMEDY, Annotation, Dataset, Image, RunLength, depth

#: Size in bytes and ETag of each image as the store declares them, by file name.
Objects = Mapping[str, tuple[int | None, str | None]]

#: Whole numbers below this are exact in JSON (RFC 8785 §3.2.2.3).
_EXACT = 2**53


def content(dataset: Dataset, objects: Objects) -> bytes:
    """The dataset's content in canonical bytes.

    Args:
        dataset: The decoded annotations.
        objects: Size and ETag of each image; one that is absent counts as having neither.

    Raises:
        InvalidDataset: If an attribute holds a whole number that JSON can't hold exactly.
    """
    return b"".join(_lines(dataset, objects))


def content_hash(dataset: Dataset, objects: Objects) -> str:
    """SHA-256 of ``content``, 64 hex digits; holds one image in memory at a time."""
    return _hash(_lines(dataset, objects))


def annotations_hash(dataset: Dataset) -> str:
    """SHA-256 of the content without sizes and ETags, 64 hex digits: equal as long as no label changed."""
    return _hash(_lines(dataset, None))


def annotation_lines(image: Image, file: str, index: int) -> list[str]:
    """An image's annotations, each in canonical form, sorted.

    Raises:
        InvalidDataset: If an attribute holds a whole number that JSON can't hold exactly.
    """
    lines = []
    for position, annotation in enumerate(image.annotations):
        if annotation.attributes and depth(annotation.attributes) > DEEPEST:
            raise InvalidDataset(
                f"{file}: images[{index}].annotations[{position}].attributes: nested deeper than {DEEPEST} levels; {REMEDY}"
            )
        try:
            lines.append(_annotation(annotation))
        except rfc8785.CanonicalizationError as error:
            raise InvalidDataset(
                f"{file}: images[{index}].annotations[{position}].attributes: {error}; {REMEDY}"
            ) from None
    lines.sort()
    return lines


def class_line(class_: Class) -> str:
    """A class in canonical form."""
    value: dict[str, Any] = {"id": class_.id, "name": class_.name}
    if class_.keypoints:
        value["keypoints"] = list(class_.keypoints)
    if class_.flip_pairs:
        # The order within a pair, and of the pairs, has no meaning.
        value["flip_pairs"] = sorted(sorted(pair) for pair in class_.flip_pairs)
    return str(rfc8785.dumps(value), "utf-8")


def _hash(lines: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


def _lines(dataset: Dataset, objects: Objects | None) -> Iterator[bytes]:
    """One line for the classes, then one for each image by file name."""
    classes = ",".join(class_line(class_) for class_ in sorted(dataset.classes, key=lambda class_: class_.id))
    yield f"[{classes}]\n".encode()
    for index in sorted(range(len(dataset.images)), key=lambda index: dataset.images[index].file_name):
        image = dataset.images[index]
        annotations = ",".join(annotation_lines(image, dataset.file, index))
        etag = size = ""
        if objects is not None:
            declared_size, declared_etag = objects.get(image.file_name, (None, None))
            etag = f'"etag":{_text(declared_etag)},'
            size = f'"size":{"null" if declared_size is None else declared_size},'
        yield (
            f'{{"annotations":[{annotations}],{etag}"file_name":{_text(image.file_name)},"height":{image.height},'
            f'{size}"split":{_text(image.split)},"width":{image.width}}}\n'
        ).encode()


def _annotation(annotation: Annotation) -> str:
    """An annotation in canonical form; what is absent or empty is left out."""
    parts = []
    if annotation.attributes:
        parts.append(f'"attributes":{rfc8785.dumps(annotation.attributes).decode()}')
    if annotation.bbox is not None:
        parts.append(f'"bbox":{_numbers(annotation.bbox)}')
    parts.append(f'"class_id":{annotation.class_id}')
    parts.append(f'"iscrowd":{annotation.iscrowd or 0}')
    if annotation.keypoints:
        parts.append(f'"keypoints":{_numbers(annotation.keypoints)}')
    if isinstance(annotation.segmentation, RunLength):
        mask = annotation.segmentation
        counts = mask.counts if isinstance(mask.counts, str) else list(mask.counts)
        parts.append(f'"segmentation":{rfc8785.dumps({"counts": counts, "size": list(mask.size)}).decode()}')
    elif annotation.segmentation:
        parts.append(f'"segmentation":[{",".join(map(_numbers, annotation.segmentation))}]')
    return f"{{{','.join(parts)}}}"


def _text(text: str | None) -> str:
    """A text as RFC 8785 writes it, which is how the standard library escapes it."""
    return "null" if text is None else json.dumps(text, ensure_ascii=False)


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{','.join(map(_number, values))}]"


def _number(value: float) -> str:
    """A number as RFC 8785 writes it; Python's shortest form is the same except for exponents and a final ``.0``."""
    if -_EXACT < value < _EXACT and value == (whole := int(value)):
        return str(whole)
    text = repr(value)
    return str(rfc8785.dumps(value), "utf-8") if "e" in text or abs(value) >= _EXACT else text
