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

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
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
        view = memoryview(form)
        limits = bounds.tolist()
        digest += b"".join([hashlib.sha256(view[a:b]).digest() for a, b in itertools.pairwise(limits)])
        alive()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(read.images), [None, pa.py_buffer(bytes(digest))])


def dataset_hash(read: Annotations, content: pa.FixedSizeBinaryArray) -> str:
    """SHA-256 over the classes and the images' digests, 64 hex digits; the images are in the order of their file names."""
    digest = hashlib.sha256(_classes(read.classes, read.task))
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


def _forms(read: Annotations, objects: pa.Table | None) -> Iterator[tuple[pa.Buffer | bytes, Whole]]:
    """The forms of some images at a time: one after the other in a buffer, and where each begins and the last ends."""
    bounds = offsets(read)
    ids = np.array(sorted(entry.id for entry in read.classes), np.int64)
    for first in range(0, len(read.images), _IMAGES_AT_ONCE):
        images = read.images.slice(first, _IMAGES_AT_ONCE)
        begin, end = bounds[first], bounds[first + len(images)]
        labels = read.objects.slice(begin, end - begin).combine_chunks()
        counts = np.diff(bounds[first : first + len(images) + 1])
        declared = None if objects is None else objects.slice(first, len(images))
        head = _join(
            _text(images["file_name"]),
            *_declared(declared, len(images)),
            _numbers(column(images, "width"), column(images, "height")),
            _text(images["split"]),
            _numbers(counts),
        )
        records = _records(labels, read.task, ids)
        records = records.take(pa.array(_order(records, np.repeat(np.arange(len(images)), counts))))
        ends = np.frombuffer(records.buffers()[1], np.int32)[records.offset : records.offset + len(records) + 1]
        limits = ends[bounds[first : first + len(images) + 1] - begin].astype(np.int32)
        tails = pa.BinaryArray.from_buffers(
            pa.binary(), len(images), [None, pa.py_buffer(limits), records.buffers()[2] or pa.py_buffer(b"")]
        )
        whole = _join(head, tails)
        starts = np.frombuffer(whole.buffers()[1], np.int32)[whole.offset : whole.offset + len(whole) + 1]
        yield whole.buffers()[2] or b"", starts.astype(np.int64)


def _declared(objects: pa.Table | None, length: int) -> list[pa.Array]:
    """Sizes and ETags."""
    if objects is None:
        return []
    present = np.asarray(objects["size"].combine_chunks().is_valid())
    sizes = np.where(present, column(objects, "size").astype(np.uint64), np.uint64(_NO_SIZE))
    return [_fixed(sizes.astype(">u8").view(np.uint8).reshape(length, 8)), _text(objects["etag"])]


def _records(labels: pa.Table, task: str, ids: Whole) -> pa.Array:
    """Each object's form."""
    class_id = column(labels, "class_id")
    rank = np.searchsorted(ids, class_id)
    known_class = np.append(ids, -1)[rank] == class_id
    rank = np.where(known_class, rank, _NO_CLASS | (class_id & (_NO_CLASS - 1)))
    box = [column(labels, name, _NO_BOX) for name in BOX]
    crowd = np.asarray(labels["iscrowd"].combine_chunks()).astype(np.uint8).reshape(-1, 1)
    parts = {
        "detection": lambda: [_numbers(rank, *box)],
        "segmentation": lambda: [_numbers(rank), _polygons(labels["polygons"]), _text(labels["mask"])],
        "pose": lambda: [_numbers(rank, *box), _counted(_combined(labels["keypoints"]))],
        "classification": lambda: [_numbers(rank)],
    }[task]()
    return _join(*parts, _fixed(crowd), _text(labels["attributes"]))


def _order(records: pa.Array, image: npt.NDArray[Any]) -> Whole:
    """The order of objects by image, then as bytes."""
    if not len(records):
        return np.zeros(0, np.int64)
    ends = np.frombuffer(records.buffers()[1], np.int32)[records.offset : records.offset + len(records) + 1]
    data = np.frombuffer(records.buffers()[2], np.uint8)
    at = ends[:-1, None].astype(np.int64) + np.arange(_COMPARED)
    compared = np.where(at < ends[1:, None], data[np.minimum(at, len(data) - 1)], 0).astype(np.uint8)
    keys = compared.view(">u8").astype(np.uint64)
    order = np.lexsort((*keys.T[::-1], image))
    ranked, owner = keys[order], image[order]
    equal = (ranked[1:] == ranked[:-1]).all(axis=1) & (owner[1:] == owner[:-1])
    start = 0
    # Runs of objects that are equal so far.
    while start < len(equal):
        if not equal[start]:
            step = np.flatnonzero(equal[start:])
            if not len(step):
                break
            start += int(step[0])
        stop = start
        while stop < len(equal) and equal[stop]:
            stop += 1
        run = order[start : stop + 1]
        order[start : stop + 1] = sorted(run.tolist(), key=lambda index: records[index].as_py())
        start = stop + 1
    return order.astype(np.int64)


def _polygons(lists: pa.ChunkedArray) -> pa.Array:
    """The number of polygons, and each one's values with their number before them."""
    combined = _combined(lists)
    inner = _counted(combined.flatten())
    ends = np.frombuffer(inner.buffers()[1], np.int32)[inner.offset : inner.offset + len(inner) + 1]
    counts = np.asarray(pc.fill_null(pc.list_value_length(combined), 0), np.int64)
    limits = ends[np.concatenate([[0], np.cumsum(counts)])].astype(np.int32)
    joined = pa.BinaryArray.from_buffers(
        pa.binary(), len(combined), [None, pa.py_buffer(limits), inner.buffers()[2] or pa.py_buffer(b"")]
    )
    return _join(_numbers(counts), joined)


def _counted(lists: pa.Array) -> pa.Array:
    """The values of each list of whole numbers, with their number before them."""
    counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    values = np.asarray(lists.flatten(), np.int64).astype(">i4").tobytes()
    limits = (np.concatenate([[0], np.cumsum(counts)]) * 4).astype(np.int32)
    joined = pa.BinaryArray.from_buffers(pa.binary(), len(lists), [None, pa.py_buffer(limits), pa.py_buffer(values)])
    return _join(_numbers(counts), joined)


def _numbers(*columns: npt.NDArray[Any]) -> pa.Array:
    """Whole numbers side by side, four bytes each."""
    # Stacked, they have the machine's own order of bytes.
    matrix = np.stack([values & 0xFFFFFFFF for values in columns], axis=1).astype(">u4")
    return _fixed(matrix.view(np.uint8).reshape(len(matrix), 4 * len(columns)))


def _fixed(matrix: npt.NDArray[np.uint8]) -> pa.Array:
    """The rows of a matrix of bytes."""
    length, width = matrix.shape
    limits = (np.arange(length + 1) * width).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), length, [None, pa.py_buffer(limits), pa.py_buffer(np.ascontiguousarray(matrix).tobytes())]
    )


def _text(texts: pa.ChunkedArray) -> pa.Array:
    """Texts with their lengths in bytes before them; null is an empty one."""
    combined = pc.fill_null(_combined(texts), "")
    return _join(_numbers(np.asarray(pc.binary_length(combined), np.int64)), combined.cast(pa.binary()))


def _join(*parts: pa.Array) -> pa.Array:
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def _combined(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], values.type)
    return combined
