"""Reads a YOLO dataset into the canonical annotations: the images that data.yaml names, and the label file of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.encodings import decoded
from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset, NotFound
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.outlined import boxes_alone
from visionloop.data.annotations.tables import Annotations, Whole, images_table, objects_table
from visionloop.data.formats.keys import counted, named
from visionloop.data.formats.names import check_names, repeated
from visionloop.data.formats.source import Source
from visionloop.data.formats.splits import stated_split
from visionloop.data.formats.yolo.description import Description, checked_names
from visionloop.data.formats.yolo.description import parse as parse_description
from visionloop.data.formats.yolo.labels import objects as objects_of
from visionloop.data.formats.yolo.labels import parse as parse_labels
from visionloop.data.formats.yolo.places import Places
from visionloop.data.sentences import printable, shown

#: How many label files are on their way at once, and how many labels without an image are named one by one.
_AT_ONCE, _NAMED = 5_000, 100

#: The longest label file, in bytes.
_LONGEST = 64 * 2**20

_CLASSES = "classes.txt"


@dataclass
class _Chosen:
    """The images of all splits: their keys, and the split of each; the names of those that val and test share."""

    keys: pa.Array
    splits: pa.Array
    shared: tuple[str, ...] = ()
    notices: list[str] = field(default_factory=list)


def read_yolo(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.yolo.read``."""
    if source.group is not None:
        raise InvalidConfig(
            f"{source.grouping}: YOLO states no fields of images; leave it out of --split, or give group=folder or group=regex:PATTERN."
        )
    description = _description(source)
    places = Places(source, description.file)
    chosen = _chosen(description, places) if description.places else _by_folder(places)
    keys = chosen.keys
    names = pc.replace_substring_regex(keys, "^images/", "")
    check_names(pa.chunked_array([names]), description.file, 0, "rename the image.")
    _check_distinct(names, keys)
    exists = np.asarray(pc.is_in(keys, value_set=places.images))
    label_keys = _as_written(label_of(keys), places.keys)
    labelled = pc.is_in(label_keys, value_set=places.keys)
    places.refuse_links(keys.filter(pa.array(exists)))
    widths, heights = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    if exists.any():
        widths[exists], heights[exists] = source.sizes(keys.filter(pa.array(exists)))
    tables, outlined = [objects_table(image=[])], 0
    shape = description.keypoint_shape
    for files in _label_files(source, places, label_keys):
        lines = parse_labels(files, shape)
        tables.append(objects_of(lines, widths[lines.image], heights[lines.image], shape))
        outlined += 0 if shape else int((lines.counts > 5).sum())
        source.alive()
    unread = widths == 0
    task, objects = _task(source, description, outlined), pa.concat_tables(tables).combine_chunks()
    return Annotations(
        format="yolo",
        task=task,
        file=description.file,
        classes=description.classes,
        images=images_table(
            file_name=names,
            key=keys,
            width=pa.array(widths.astype(np.int32), mask=unread),
            height=pa.array(heights.astype(np.int32), mask=unread),
            split=chosen.splits,
            file=pc.if_else(labelled, label_keys, None).dictionary_encode(),
            position=np.arange(len(keys), dtype=np.int32),
        ),
        objects=objects,
        image_field="image",
        object_field="line {object}",
        label_files=True,
        shared=chosen.shared,
        findings=tuple(_without_image(places, description.file)),
        notices=(
            *places.notices,
            *chosen.notices,
            *_passed_over(places, keys),
            *_other_files(places),
            *boxes_alone(objects, task, description.file),
        ),
        metadata={"dataset_id": None, "dataset_name": None},
        licences=description.licences,
    )


def label_of(keys: pa.Array) -> pa.Array:
    """The label files of images: the last folder ``images`` is ``labels``, and the extension ``.txt``."""
    folders = pc.replace_substring_regex(keys, r"^((?:.*/)?)images/(.*)$", r"\1labels/\2")
    return pc.replace_substring_regex(folders, r"\.[^.]*$", ".txt")


def _as_written(label_keys: pa.Array, keys: pa.ChunkedArray) -> pa.Array:
    """Label files as they are called where only the extension has capitals: ``a.TXT`` for ``a.txt``."""
    others = keys.filter(pc.invert(pc.ends_with(keys, ".txt")))
    capitals = others.filter(pc.match_substring_regex(others, r"\.(?i:txt)$")).combine_chunks()
    if not len(capitals):
        return label_keys
    rows = pc.index_in(label_keys, value_set=pc.replace_substring_regex(capitals, r"\.[^.]*$", ".txt"))
    written = pc.and_(pc.is_valid(rows), pc.invert(pc.is_in(label_keys, value_set=keys)))
    return pc.if_else(written, capitals.take(rows), label_keys)


def _description(source: Source) -> Description:
    """What data.yaml says, or another YAML file at the root with names and train; else classes.txt."""
    from visionloop.data.formats.yolo import is_yolo

    listed = source.objects()
    keys = listed["key"].filter(pc.match_substring_regex(listed["key"], r"(?i)^[^/]+\.ya?ml$")).to_pylist()
    try:
        descriptions = [
            key for key in sorted(keys) if is_yolo(source.prefix.read_start(key, 2**16)) or key == "data.yaml"
        ]
        if len(descriptions) > 1 and "data.yaml" not in descriptions:
            raise InvalidDataset(
                f"{descriptions[0]}: {descriptions[1]} names classes and splits too; call the one that counts data.yaml."
            )
        if descriptions:
            file = "data.yaml" if "data.yaml" in descriptions else descriptions[0]
            return parse_description(source.read(file), file)
        text = decoded(source.read(_CLASSES))
    except NotFound:
        raise DatasetNotFound(
            f"{source.prefix.uri}: no YAML file with names and train and no {_CLASSES} lies there; write a data.yaml."
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{_CLASSES}: the file is not UTF-8 text (byte {error.start}); write it again.") from None
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise InvalidDataset(f"{_CLASSES}: the file is empty; write the class names, a line for each.")
    classes = checked_names(dict(enumerate(lines)), None, _CLASSES)
    return Description(_CLASSES, tuple(Class(id=index, name=name) for index, name in classes.items()), "", {})


def _chosen(description: Description, places: Places) -> _Chosen:
    """The images of each split that data.yaml names.

    Raises:
        InvalidDataset: If train and another split name one image.
    """
    root = places.root(description.path)
    of_split: dict[str, pa.Array] = {}
    for split, entries in description.places.items():
        every = pa.chunked_array([places.of(root, entry, split) for entry in entries], pa.string())
        of_split[split] = pc.unique(every)
    names = list(of_split)
    shared: tuple[str, ...] = ()
    notices = []
    for index, split in enumerate(names):
        for other in names[:index]:
            both = of_split[split].filter(pc.is_in(of_split[split], value_set=of_split[other]))
            if not len(both):
                continue
            first = shown(both[0].as_py())
            if other == "train":
                raise InvalidDataset(
                    f"{description.file}: {first} is named by train and by {split} ({len(both):,} images are); "
                    "leave each image in one of them."
                )
            shared = tuple(pc.replace_substring_regex(both, "^images/", "").to_pylist())
            notices.append(f"{description.file}: val and test both name {len(both):,} images ({first}): both get them.")
            of_split[split] = of_split[split].filter(pc.invert(pc.is_in(of_split[split], value_set=both)))
    keys = pa.concat_arrays(list(of_split.values()))
    splits = pa.concat_arrays([pa.repeat(split, len(listed)) for split, listed in of_split.items()])
    return _Chosen(keys, splits, shared, notices)


def _by_folder(places: Places) -> _Chosen:
    """All images below a folder ``images``, with the splits that their folders say."""
    some = places.images.filter(pc.match_substring_regex(places.images, "(^|/)images/"))
    if not len(some):
        raise InvalidDataset(f"{places.file}: no image lies below images/; put the images there, or write a data.yaml.")
    keys = some.take(pc.sort_indices(some)).combine_chunks()
    folders = [key.rpartition("/")[0] for key in keys.to_pylist()]
    stated = {folder: stated_split(folder) for folder in set(folders)}
    splits = [stated_splits[0] if (stated_splits := stated[folder]) else None for folder in folders]
    return _Chosen(keys, pa.array(splits, pa.string()))


def _check_distinct(names: pa.Array, keys: pa.Array) -> None:
    """Raises InvalidDataset if two keys give one file name: ``images/a.jpg`` and ``a.jpg``."""
    if pair := repeated(names):
        first, other = (keys[row].as_py() for row in pair)
        name = shown(names[pair[1]].as_py())
        raise InvalidDataset(f"{first} and {other} both have the file name {name}; rename one.")


def _label_files(source: Source, places: Places, label_keys: pa.Array) -> Iterator[list[tuple[int, str, bytes]]]:
    """The label files that exist, some at a time: each its image's row, its key and its bytes."""
    rows: Whole = np.flatnonzero(np.asarray(pc.is_in(label_keys, value_set=places.keys)))
    places.refuse_links(label_keys.take(pa.array(rows)))
    listed = source.objects()
    large = listed.filter(pc.and_(pc.greater(listed["size"], _LONGEST), pc.is_in(listed["key"], value_set=label_keys)))
    if len(large):
        key, size = large["key"][0].as_py(), large["size"][0].as_py()
        raise InvalidDataset(f"{key}: {size:,} bytes are more than the labels of one image have; export it again.")

    def read(key: str) -> bytes:
        try:
            return source.read(key)
        except NotFound:
            raise DatasetNotFound(f"{key}: the file is gone; export the dataset again.") from None

    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        keys = label_keys.take(pa.array(some)).to_pylist()
        yield list(zip(some.tolist(), keys, source.prefix.map(read, keys), strict=True))


def _task(source: Source, description: Description, outlined: int) -> str:
    """The task of the dataset, which must have what is asked for."""
    own = "pose" if description.keypoint_shape else "segmentation" if outlined else "detection"
    asked = source.task or own
    if asked in (own, "detection"):
        return asked
    raise InvalidConfig(f"{description.file}: the labels are of {own}, not of {asked}; choose --task {own}.")


def _without_image(places: Places, file: str) -> Iterator[Finding]:
    """The label files below ``labels`` of which no image is there."""
    labels = places.keys.filter(pc.match_substring_regex(places.keys, r"(^|/)labels/.*\.(?i:txt)$"))
    if not len(labels):
        return
    of_images = _as_written(label_of(places.images), places.keys)
    others = labels.filter(pc.invert(pc.is_in(labels, value_set=of_images)))
    # A list of classes lies beside the labels of some tools.
    others = others.filter(
        pc.invert(pc.match_substring_regex(others, r"/(?i:(classes|train|val|test)\.txt)$"))
    ).to_pylist()
    for key in others[:_NAMED]:
        sentence = printable(f"{key}: the label has no image; add the image, or remove the label.")
        yield Finding("warning", "label_without_image", None, key, sentence)
    if len(others) > _NAMED:
        sentence = f"{file}: {len(others) - _NAMED:,} more labels have no image; add the images, or remove the labels."
        yield Finding("warning", "label_without_image", None, "labels", sentence)


def _other_files(places: Places) -> Iterator[str]:
    """The files that look like descriptions or labels, and are none."""
    described = places.keys.filter(pc.match_substring_regex(places.keys, r"(?i)^[^/]+\.ya?ml$")).to_pylist()
    if others := [key for key in described if key != places.file]:
        words = counted(len(others), f"YAML file beside {places.file} is", f"YAML files beside {places.file} are")
        yield printable(f"{words} passed over ({named(others)}).")
    below = places.keys.filter(pc.match_substring_regex(places.keys, "(^|/)labels/"))
    others = below.filter(pc.invert(pc.match_substring_regex(below, r"\.(?i:txt|cache)$"))).to_pylist()
    if others:
        words = counted(len(others), "file below labels is no label", "files below labels are no labels")
        yield printable(f"{words} and passed over ({named(others)}).")


def _passed_over(places: Places, keys: pa.Array) -> Iterator[str]:
    """The images that no split names."""
    others = places.images.filter(pc.invert(pc.is_in(places.images, value_set=keys)))
    if len(others):
        yield f"{len(others):,} images are in no split of {places.file} and left out ({others[0].as_py()})."
