"""What makes two datasets equal, whatever format they came in: a digest of each image, and of all with the classes.

In the form whole numbers are big-endian, of four bytes unless stated; a text is its length in
bytes and its UTF-8. An image is its file name, size (8 bytes, all ones where it is missing), ETag, width, height, split (an empty text
for none), the number of its objects and the objects, sorted as bytes. An object is the rank of its class id among the classes' (with the
highest bit set: an id that none of them has), its geometry, a byte that is 1 for a crowd, and its attributes as RFC 8785 JSON or an empty text.
The geometry is what the task trains on, in hundredths of a pixel: for detection x, y, width and height (each 80 00 00 00 without
a box); for segmentation the number of polygons, each with the number of its values and these, and the run-length mask as a text;
for pose the box, the number of values of the keypoints and these; for classification nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import BOX, Annotations, Whole, column, offsets

#: How many images are put into their form at once.
_IMAGES_AT_ONCE = 10_000

#: How many bytes of an object are compared as numbers; the few that are equal so far are compared whole.
_COMPARED = 24

#: The tasks in whose form the box follows the rank.
_BOXED = ("detection", "pose")

_NO_BOX = -(2**31)
_NO_SIZE = 2**64 - 1
_NO_CLASS = 2**31


def digests(
    read: Annotations, objects: pa.Table | None = None, alive: Callable[[], None] = lambda: None
) -> pa.FixedSizeBinaryArray:
    """The SHA-256 of each image, 32 bytes, in the order of the images.

    Args:
        read: The annotations.
        objects: ``size`` and ``etag`` of each image as its store declares them, null for one that is missing; None leaves both
            out of all images: then the digests are equal as long as no label changed.
        alive: Called now and then, as a sign of life.
    """
    digest = bytearray()
    for form, bounds in _forms(read, objects):
        digest += b"".join([sha256(form[begin:end]).digest() for begin, end in itertools.pairwise(bounds.tolist())])
        alive()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(read.images), [None, pa.py_buffer(bytes(digest))])


def dataset_hash(read: Annotations, content: pa.FixedSizeBinaryArray) -> str:
    """SHA-256 over the classes and the images' digests, 64 hex digits; the images are in the order of their file names."""
    digest = sha256(_classes(read.classes, read.task))
    if len(content):
        digest.update(memoryview(content.buffers()[1])[content.offset * 32 : (content.offset + len(content)) * 32])
    return digest.hexdigest()


def annotations_hash(read: Annotations) -> str:
    """As ``dataset_hash``, without the images' sizes and ETags: equal as long as no label changed."""
    return dataset_hash(read, digests(read))


def class_form(entry: Class, task: str) -> bytes:
    """What of a class counts: its name, and for pose the names of its keypoints and the pairs that a mirror swaps."""
    form = _text_bytes(entry.name)
    if task == "pose":
        names = entry.keypoints or ()
        # The order within a pair, and of the pairs, has no meaning.
        pairs = sorted(sorted(pair) for pair in entry.flip_pairs or ())
        form += _number(len(names)) + b"".join(map(_text_bytes, names))
        form += _number(len(pairs)) + b"".join(_number(index) for pair in pairs for index in pair)
    return form


def _classes(classes: Sequence[Class], task: str) -> bytes:
    ranked = sorted(classes, key=lambda entry: entry.id)
    return _number(len(ranked)) + b"".join(class_form(entry, task) for entry in ranked)


def _number(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def _text_bytes(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


def _forms(read: Annotations, objects: pa.Table | None) -> Iterator[tuple[bytes, Whole]]:
    """The forms of some images at a time: one after the other, and where each begins and the last ends."""
    bounds = offsets(read)
    ids = np.array(sorted(entry.id for entry in read.classes), np.int64)
    for first in range(0, len(read.images), _IMAGES_AT_ONCE):
        images = read.images.slice(first, _IMAGES_AT_ONCE)
        begin, end = bounds[first], bounds[first + len(images)]
        labels = read.objects.slice(begin, end - begin).combine_chunks()
        counts = np.diff(bounds[first : first + len(images) + 1])
        declared = None if objects is None else objects.slice(first, len(images))
        records, ends = _sorted(_records(labels, read.task, ids), np.repeat(np.arange(len(images)), counts), read.task)
        limits = ends[bounds[first : first + len(images) + 1] - begin].astype(np.int32)
        whole = _join(
            *_text(images["file_name"]),
            *_declared(declared, len(images)),
            _numbers(column(images, "width"), column(images, "height")),
            *_text(images["split"]),
            _numbers(counts),
            pa.BinaryArray.from_buffers(pa.binary(), len(images), [None, pa.py_buffer(limits), records]),
        )
        yield bytes(whole.buffers()[2] or b""), _ends(whole).astype(np.int64)


def _declared(objects: pa.Table | None, length: int) -> list[pa.Array]:
    """Sizes and ETags."""
    if objects is None:
        return []
    present = np.asarray(objects["size"].combine_chunks().is_valid())
    sizes = np.where(present, column(objects, "size").astype(np.uint64), np.uint64(_NO_SIZE))
    return [_fixed(sizes.astype(">u8").view(np.uint8).reshape(length, 8)), *_text(objects["etag"])]


def _records(labels: pa.Table, task: str, ids: Whole) -> pa.Array | npt.NDArray[np.uint8]:
    """Each object's form; the rows of a matrix where all are equally long."""
    class_id = column(labels, "class_id")
    rank = np.searchsorted(ids, class_id)
    known_class = np.append(ids, -1)[rank] == class_id
    rank = np.where(known_class, rank, _NO_CLASS | (class_id & (_NO_CLASS - 1)))
    box = [column(labels, name, _NO_BOX) for name in BOX] if task in _BOXED else []
    numbers = _bytes(rank, *box)
    crowd = np.asarray(labels["iscrowd"].combine_chunks()).astype(np.uint8).reshape(-1, 1)
    shapes = {
        "segmentation": lambda: [_polygons(labels["polygons"]), *_text(labels["mask"])],
        "pose": lambda: _counted(_combined(labels["keypoints"])),
    }.get(task, list)()
    if not shapes and labels["attributes"].null_count == len(labels):
        return np.concatenate([numbers, crowd, np.zeros((len(labels), 4), np.uint8)], axis=1)
    return _join(_fixed(numbers), *shapes, _fixed(crowd), *_text(labels["attributes"]))


def _sorted(
    records: pa.Array | npt.NDArray[np.uint8], image: npt.NDArray[Any], task: str
) -> tuple[pa.Buffer, npt.NDArray[Any]]:
    """The objects' forms by image, then as bytes: one after the other, and where each begins and the last ends."""
    if isinstance(records, np.ndarray):
        length, width = records.shape
        padded = np.zeros((length, _COMPARED), np.uint8)
        padded[:, :width] = records[:, :_COMPARED]
        order = _order(padded, image, task, lambda row: records[row].tobytes())
        return pa.py_buffer(records[order].tobytes()), np.arange(length + 1) * width
    ends, data = _ends(records), np.frombuffer(records.buffers()[2] or b"\0", np.uint8)
    at = ends[:-1, None].astype(np.int64) + np.arange(_COMPARED)
    padded = np.where(at < ends[1:, None], data[np.minimum(at, len(data) - 1)], np.uint8(0))
    records = records.take(pa.array(_order(padded, image, task, lambda row: records[row].as_py())))
    return records.buffers()[2] or pa.py_buffer(b""), _ends(records)


def _order(
    padded: npt.NDArray[np.uint8], image: npt.NDArray[Any], task: str, whole: Callable[[int], bytes]
) -> npt.NDArray[Any]:
    """The order of objects by image, then as bytes.

    Args:
        padded: The first bytes of each, padded with zeros.
        image: The row of each one's image, at most _IMAGES_AT_ONCE.
        task: The task that the forms are of.
        whole: Gives all bytes of one.
    """
    keys = padded.view(">u8").astype(np.uint64)
    rank = keys[:, 0] >> np.uint64(32)
    if task in _BOXED and len(keys) and rank.max() < 2**18:
        # Image, rank and x, by which nearly all objects differ, are one number.
        first = image.astype(np.uint64) << np.uint64(50) | keys[:, 0]
        order = np.argsort(first)
        ranked = first[order]
        equal = ranked[1:] == ranked[:-1]
    else:
        order = np.lexsort((*keys.T[::-1], image))
        ranked, owner = keys[order], image[order]
        equal = (ranked[1:] == ranked[:-1]).all(axis=1) & (owner[1:] == owner[:-1])
    edges = np.flatnonzero(np.diff(equal.astype(np.int8), prepend=0, append=0)).tolist()
    # Runs of objects that are equal so far.
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        order[start : stop + 1] = sorted(order[start : stop + 1].tolist(), key=whole)
    return order


def _polygons(lists: pa.ChunkedArray) -> pa.Array:
    """The number of polygons, and each one's values with their number before them."""
    combined = _combined(lists)
    inner = _join(*_counted(combined.flatten()))
    counts = np.asarray(pc.fill_null(pc.list_value_length(combined), 0), np.int64)
    limits = _ends(inner)[np.concatenate([[0], np.cumsum(counts)])].astype(np.int32)
    joined = pa.BinaryArray.from_buffers(
        pa.binary(), len(combined), [None, pa.py_buffer(limits), inner.buffers()[2] or pa.py_buffer(b"")]
    )
    return _join(_numbers(counts), joined)


def _counted(lists: pa.Array) -> list[pa.Array]:
    """The values of each list of whole numbers, and before them their number."""
    counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    values = np.asarray(lists.flatten(), np.int32).astype(">i4").tobytes()
    limits = (np.concatenate([[0], np.cumsum(counts)]) * 4).astype(np.int32)
    joined = pa.BinaryArray.from_buffers(pa.binary(), len(lists), [None, pa.py_buffer(limits), pa.py_buffer(values)])
    return [_numbers(counts), joined]


def _numbers(*columns: npt.NDArray[Any]) -> pa.Array:
    """Whole numbers side by side, four bytes each."""
    return _fixed(_bytes(*columns))


def _bytes(*columns: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of whole numbers side by side, four each."""
    matrix = np.empty((len(columns[0]), len(columns)), ">u4")
    for index, values in enumerate(columns):
        matrix[:, index] = values
    return matrix.view(np.uint8)


def _fixed(matrix: npt.NDArray[np.uint8]) -> pa.Array:
    """The rows of a matrix of bytes."""
    length, width = matrix.shape
    limits = (np.arange(length + 1) * width).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), length, [None, pa.py_buffer(limits), pa.py_buffer(np.ascontiguousarray(matrix).tobytes())]
    )


def _text(texts: pa.ChunkedArray) -> list[pa.Array]:
    """Texts, and before them their lengths in bytes; null is an empty one."""
    combined = pc.fill_null(_combined(texts), "")
    return [_numbers(np.asarray(pc.binary_length(combined), np.int64)), combined.cast(pa.binary())]


def _ends(records: pa.Array) -> npt.NDArray[np.int32]:
    """Where each text of bytes begins, and the last ends."""
    return np.frombuffer(records.buffers()[1], np.int32)[records.offset : records.offset + len(records) + 1]


def _join(*parts: pa.Array) -> pa.Array:
    """Texts of bytes side by side."""
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def _combined(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], values.type)
    return combined
