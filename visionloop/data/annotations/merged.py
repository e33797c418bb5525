"""Several datasets read as one: classes of one name are one class, and no two images have one file name."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import structs

from visionloop.core.errors import InvalidDataset
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.content import class_form
from visionloop.data.annotations.labels import keypoint_shape
from visionloop.data.annotations.tables import IMAGES, OBJECTS, Annotations, Part, column
from visionloop.data.datasets import RunDataset, listed
from visionloop.data.formats.names import LONGEST_FILE_NAME, repeated
from visionloop.data.sentences import printable, shown

#: How many of the names that clash, and of the classes that look alike, a notice lists.
_LISTED = 3


def merge(parts: Sequence[tuple[RunDataset, Annotations]]) -> Annotations:
    """One dataset of several.

    Classes are ordered by their first appearance over the datasets; of equal names the first one's colour counts. Where two
    datasets have one file name, both images get the dataset's name and a slash before it. The key of each image has both
    before it in any case (``Annotations.parts``).

    Args:
        parts: The datasets and their annotations, in the order in which they are named; names are unique.

    Raises:
        InvalidDataset: If their tasks differ, or the keypoints of one class, or a file name still clashes.
    """
    first = parts[0][1]
    _refuse_other_tasks(parts)
    classes = _merged_classes(parts)
    names, notices = _file_names(parts)
    images, objects, findings, shared, rows = [], [], [], [], 0
    for (dataset, read), own in zip(parts, names, strict=True):
        images.append(_images(dataset, read, own))
        objects.append(_objects(read, classes, rows))
        before = read.images["file_name"].to_pylist() if read.findings or read.shared else []
        renamed = dict(zip(before, own.to_pylist() if before else [], strict=True))
        findings += [
            replace(
                finding,
                file_name=renamed.get(finding.file_name, finding.file_name) if finding.file_name else None,
                sentence=f"{dataset.name}/{finding.sentence}",
            )
            for finding in read.findings
        ]
        shared += [renamed[name] for name in read.shared]
        rows += len(read.images)
    formats = list(dict.fromkeys(read.format for _, read in parts))
    return Annotations(
        format=", ".join(formats),
        task=first.task,
        file=_file([dataset.name for dataset, _ in parts]),
        classes=tuple(classes.values()),
        images=pa.concat_tables(images).combine_chunks(),
        objects=pa.concat_tables(objects).combine_chunks(),
        shared=tuple(shared),
        findings=tuple(findings),
        notices=(*_told(parts), *notices, *_alike(parts)),
        licences=tuple(dict.fromkeys(licence for _, read in parts for licence in read.licences)),
        parts=tuple(_part(dataset, read) for dataset, read in parts),
    ).sorted()


def names_alone(read: Annotations) -> list[str]:
    """The file name of each image as its own dataset has it: by it the split is decided, whatever other datasets there are."""
    if not read.parts:
        names: list[str] = read.images["file_name"].to_pylist()
        return names
    return [key.partition("/")[2].removeprefix("images/") for key in read.images["key"].to_pylist()]


def datasets_of(keys: pa.ChunkedArray | pa.Array) -> Any:
    """The name of the dataset of each key of several datasets."""
    return pc.replace_substring_regex(keys, "/.*", "")


def _file(names: Sequence[str]) -> str:
    """What stands for the annotation files of several datasets in sentences."""
    return "+".join(names) if len(names) <= _LISTED else f"{len(names)} datasets"


def _part(dataset: RunDataset, read: Annotations) -> Part:
    return Part(
        name=dataset.name,
        format=read.format,
        file=f"{dataset.name}/{read.file}",
        below=read.below,
        image_field=read.image_field,
        object_field=read.object_field,
        class_field=read.class_field,
        label_files=read.label_files,
    )


def _images(dataset: RunDataset, read: Annotations, names: pa.Array) -> pa.Table:
    """The images of one of the datasets, under their names in the whole."""
    table, before = read.images, pa.scalar(f"{dataset.name}/")
    files = pc.fill_null(table["file"].cast(pa.string()), read.file)
    changed = {
        "file_name": names,
        "key": pc.binary_join_element_wise(before, table["key"], ""),
        "file": pc.binary_join_element_wise(before, files, "").combine_chunks().dictionary_encode(),
    }
    return pa.table([_as(changed.get(entry.name, table[entry.name]), entry.type) for entry in IMAGES], schema=IMAGES)


def _as(values: Any, kind: pa.DataType) -> Any:
    return values if values.type == kind else values.cast(kind)


def _objects(read: Annotations, classes: Mapping[str, Class], rows: int) -> pa.Table:
    """The objects of one of the datasets: their images' rows follow those of the datasets before, their classes are the whole's."""
    class_id = column(read.objects, "class_id")
    new = class_id.copy()
    for entry in read.classes:
        new[class_id == entry.id] = classes[entry.name].id
    table = read.objects
    for name, values in (("image", column(table, "image") + rows), ("class_id", new)):
        at = OBJECTS.get_field_index(name)
        table = table.set_column(at, OBJECTS.field(at), pa.array(values.astype(np.int32)))
    return table


def _merged_classes(parts: Sequence[tuple[RunDataset, Annotations]]) -> dict[str, Class]:
    """The classes by name, with new ids, none of which an object of an unknown class has."""
    unknown: set[int] = set()
    for _, read in parts:
        unknown |= set(np.unique(column(read.objects, "class_id")).tolist()) - {entry.id for entry in read.classes}
    classes: dict[str, Class] = {}
    owners: dict[str, tuple[RunDataset, Class]] = {}
    next_id = 0
    for dataset, read in parts:
        for entry in sorted(read.classes, key=lambda entry: entry.id):
            if entry.name in classes:
                _refuse_other_keypoints(owners[entry.name], (dataset, entry), read.task)
                continue
            while next_id in unknown:
                next_id += 1
            classes[entry.name] = structs.replace(entry, id=next_id)
            owners[entry.name] = dataset, entry
            next_id += 1
    _refuse_other_numbers(parts)
    return classes


def _refuse_other_tasks(parts: Sequence[tuple[RunDataset, Annotations]]) -> None:
    (dataset, first), *others = parts
    for other, read in others:
        if read.task != first.task:
            raise InvalidDataset(
                f"{dataset.uri} is for {first.task} and {other.uri} for {read.task}; name datasets of one task, or choose one that "
                "both have with --task."
            )


def _refuse_other_keypoints(first: tuple[RunDataset, Class], other: tuple[RunDataset, Class], task: str) -> None:
    """Refuses a class whose keypoints are not those of the class of the same name in an earlier dataset."""
    (dataset, entry), (others, same) = first, other
    if task != "pose" or class_form(entry, task) == class_form(same, task):
        return
    ours, theirs = entry.keypoints or (), same.keypoints or ()
    if len(ours) != len(theirs):
        differs = f"{len(ours)} keypoints in one and {len(theirs)} in the other"
    elif ours != theirs:
        at = next(index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        differs = f"keypoint {at} is {shown(ours[at])} in one and {shown(theirs[at])} in the other"
    else:
        pairs = [_pairs(owner.flip_pairs) for owner in (entry, same)]
        differs = f"the flip pairs are {pairs[0]} in one and {pairs[1]} in the other"
    raise InvalidDataset(
        printable(
            f"{dataset.uri} and {others.uri}: the class {shown(entry.name)} has other keypoints: {differs}; give both the same ones "
            "in the same order, or rename one of the classes."
        )
    )


def _pairs(pairs: Sequence[tuple[int, int]] | None) -> str:
    return str([list(pair) for pair in pairs or ()])


def _refuse_other_numbers(parts: Sequence[tuple[RunDataset, Annotations]]) -> None:
    """Refuses datasets for pose whose objects have other numbers of keypoints: a model has one."""
    if parts[0][1].task != "pose":
        return
    numbers = [(dataset, shape[0]) for dataset, read in parts if (shape := keypoint_shape(read)) is not None]
    for dataset, number in numbers[1:]:
        if number != numbers[0][1]:
            raise InvalidDataset(
                f"{numbers[0][0].uri} has {numbers[0][1]} keypoints and {dataset.uri} {number}, but a model has one number of "
                "them; name datasets with the same keypoints."
            )


def _file_names(parts: Sequence[tuple[RunDataset, Annotations]]) -> tuple[list[pa.Array], list[str]]:
    """The file names of each dataset's images in the whole, and a notice where some had to be told apart."""
    columns = [read.images["file_name"].combine_chunks() for _, read in parts]
    counted = pa.chunked_array(columns).value_counts()
    clashing = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    if not len(clashing):
        return columns, []
    names = []
    for (dataset, _), own in zip(parts, columns, strict=True):
        prefixed = pc.binary_join_element_wise(pa.scalar(f"{dataset.name}/"), own, "")
        names.append(pc.if_else(pc.is_in(own, value_set=clashing), prefixed, own))
    _refuse_clashes(parts, names)
    examples = sorted(clashing.to_pylist())[:_LISTED]
    more = f" and {len(clashing) - len(examples):,} more" if len(clashing) > len(examples) else ""
    owner = next(
        dataset for (dataset, _), own in zip(parts, columns, strict=True) if pc.index(own, examples[0]).as_py() >= 0
    )
    what, they = ("file name is", "it begins") if len(clashing) == 1 else ("file names are", "they begin")
    return names, [
        printable(
            f"{len(clashing):,} {what} in several datasets ({', '.join(examples)}{more}); there {they} with the dataset's name, "
            f"such as {owner.name}/{examples[0]}."
        )
    ]


def _refuse_clashes(parts: Sequence[tuple[RunDataset, Annotations]], names: Sequence[pa.Array]) -> None:
    together = pa.chunked_array(names)
    owners = np.repeat(np.arange(len(names)), [len(own) for own in names])
    if pair := repeated(together):
        uris = [parts[owners[row]][0].uri for row in pair]
        raise InvalidDataset(
            printable(
                f"{listed(list(dict.fromkeys(uris)))}: two images are {shown(together[pair[1]].as_py())}, even with the name of a "
                'dataset before the file name; give one of the datasets another name, as in {"uri": …, "name": …}.'
            )
        )
    too_long = pc.indices_nonzero(pc.greater(pc.binary_length(together), LONGEST_FILE_NAME)).to_pylist()
    if too_long:
        dataset = parts[owners[too_long[0]]][0]
        raise InvalidDataset(
            f"{dataset.uri}: with the dataset's name before it a file name is longer than {LONGEST_FILE_NAME} bytes; give the "
            "dataset a shorter name."
        )


def _told(parts: Sequence[tuple[RunDataset, Annotations]]) -> list[str]:
    """What reading each of the datasets assumed."""
    return [f"{dataset.name}: {notice}" for dataset, read in parts for notice in read.notices]


def _alike(parts: Sequence[tuple[RunDataset, Annotations]]) -> list[str]:
    """A notice for classes of two datasets whose names differ in case, white space or Unicode's form alone."""
    owners: dict[str, dict[str, str]] = {}
    for dataset, read in parts:
        for entry in read.classes:
            folded = " ".join(unicodedata.normalize("NFKC", entry.name).casefold().split())
            owners.setdefault(folded, {}).setdefault(entry.name, dataset.name)
    pairs = [list(names.items()) for names in owners.values() if len(names) > 1 and len(set(names.values())) > 1]
    texts = [" and ".join(f"{shown(name)} of {owner}" for name, owner in pair) for pair in pairs]
    if not texts:
        return []
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return [
        printable(
            f"{'; '.join(texts[:_LISTED])}{more} are classes of their own; rename one with --classes if they are the same."
        )
    ]
