"""The convert stage: the canonical annotations to YOLO labels, or to the layout of an image folder."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from visionloop.components.convert.converted import IndexEntry, encode_index
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts, shards
from visionloop.core.errors import InvalidDataset, InvalidReceipt
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.shards import SHARD, SHARDS, Wanted
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument
from visionloop.data.annotations.checks import too_small
from visionloop.data.annotations.images import images
from visionloop.data.annotations.labels import (
    class_folders,
    class_order,
    flip_index,
    image_folder_class,
    keypoint_shape,
    view_names,
    yolo_labels,
)
from visionloop.data.annotations.tables import SPLITS, Annotations, column, named
from visionloop.data.archive import read_archive, write_archive
from visionloop.data.sharding import rows_of_shard

#: After how many images progress is reported.
_TOLD_AFTER = 500

#: The name of a shard's only output: nobody takes it for a converted dataset.
PART = "part"

#: The layout that each task is converted to.
FORMATS = {"detection": "yolo", "segmentation": "yolo", "pose": "yolo", "classification": "imagefolder"}


@dataclass(frozen=True)
class Arguments:
    """The arguments of convert."""

    snapshot: str = argument("URI of the snapshot's receipt.")
    report: str = argument("URI of the validate receipt.")
    shards: str | None = argument(SHARDS, default=None)
    shard: str | None = argument(SHARD, default=None)


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` read, and what of it is wanted."""

    snapshot: Snapshot
    report: Result
    wanted: Wanted


@dataclass(frozen=True)
class Plan:
    """What is converted, and to which files.

    Attributes:
        chosen: The rows of the images that are converted.
        entries: The index.
        labels: The label files in the order of their names, each with the row of its image.
        too_small: How many images are left out for their size.
    """

    chosen: npt.NDArray[np.int64]
    entries: list[IndexEntry]
    labels: list[tuple[str, int]]
    too_small: int


class ConvertStage:
    """Writes labels as one archive, ``data.yaml`` and an index of image keys."""

    name = "convert"
    logic_version = 4
    policy = POLICIES["convert"]
    arguments = Arguments
    description = "Converts a snapshot's annotations to YOLO labels or an image folder's layout."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Reads both receipts."""
        wanted = shards.wanted(arguments.shards, arguments.shard)
        snapshot_result = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        report = receipts.load(arguments.report, "validate", context.workspace)
        if report.receipt.inputs["snapshot"].digest != snapshot_result.receipt.digest:
            raise InvalidReceipt(
                f"{report.uri}: the report is of another snapshot than {snapshot_result.uri}; give the one of this snapshot."
            )
        if shards.is_shard(report):
            raise InvalidReceipt(f"{report.uri}: a shard's part of a report; give the receipt of the whole.")
        snapshot = Snapshot(snapshot_result)
        resolution = Resolution(
            inputs={"snapshot": snapshot_result.reference, "report": report.reference},
            parameters={"format": Parameter(FORMATS[snapshot.task], "task")},
            loaded=Loaded(snapshot, report, wanted),
        )
        if wanted.shard is None:
            return resolution
        return shards.resolved(self, context, resolution, wanted.shard)

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Writes the outputs, in the order of file names so that equal inputs give equal bytes.

        A shard writes the label files of its images alone.
        """
        snapshot = resolution.loaded.snapshot
        layout = str(resolution.parameters["format"].value)
        plan = _planned(snapshot, set(validation.read(resolution.loaded.report).quarantined), layout)
        archive = attempt.work / "labels.tar"
        if (shard := resolution.loaded.wanted.shard) is not None:
            rows = rows_of_shard(snapshot.table["file_name"], shard.number, shard.count)
            write_archive(archive, _labels(snapshot, plan, rows, context), context.alive)
            attempt.upload(PART, "part.tar", archive, result=True)
            return Computed()
        lines: Counter[str] = Counter()

        def written() -> Iterator[tuple[str, str]]:
            for stem, text in self._all_labels(context, resolution, plan, attempt):
                lines[stem.split("/", 2)[1]] += text.count("\n")
                yield stem, text

        write_archive(archive, written(), context.alive)
        if not (lines["train"] or any(entry.split == "train" for entry in plan.entries if layout == "imagefolder")):
            raise InvalidDataset(
                f"{snapshot.dataset}: no label is left for training; correct the annotations or the split, and validate again."
            )
        attempt.upload("labels", "labels.tar", archive, result=True)
        attempt.write("data", "data.yaml", _data_yaml(snapshot, layout), result=True)
        attempt.write("index", "index.jsonl", encode_index(plan.entries), result=True)
        counts: dict[str, Any] = {split: sum(entry.split == split for entry in plan.entries) for split in SPLITS}
        return Computed(
            scalars={
                "format": layout,
                "images": len(plan.chosen),
                "too_small": plan.too_small,
                "objects": lines.total(),
                **counts,
                **({"repeated": repeated} if (repeated := _repeated(plan.entries)) else {}),
            }
        )

    def of_shard(self, whole: Resolution[Loaded]) -> Mapping[str, Parameter]:
        """All parameters of the whole."""
        return whole.parameters

    def _all_labels(
        self, context: Context, resolution: Resolution[Loaded], plan: Plan, attempt: Attempt
    ) -> Iterator[tuple[str, str]]:
        """All label files in the order of their names: what their shards wrote, where they are all there."""
        snapshot, count = resolution.loaded.snapshot, resolution.loaded.wanted.count
        parts = shards.results(self, context, resolution, count)
        if parts is not None:
            try:
                return _merged(parts, plan, attempt, context)
            except InvalidReceipt as error:
                notice(f"{self.name}: {error.sentence} All labels are written here.")
        return _labels(snapshot, plan, None, context)


def _planned(snapshot: Snapshot, left_out: set[str], layout: str) -> Plan:
    """What is converted: all images but those that are left out, or too small for the trainers."""
    read, table = snapshot.annotations, snapshot.table
    kept = ~named(table["file_name"], left_out)
    small = too_small(read)
    left_out_small = int((kept & small).sum())
    kept &= ~small
    if layout == "imagefolder":
        # An image folder has no place for an image without a class.
        kept &= np.bincount(column(read.objects, "image"), minlength=len(kept)) > 0
    chosen = np.flatnonzero(kept)
    folders = _class_folders(read, chosen) if layout == "imagefolder" else None
    entries, labels = _placed(table.take(chosen), folders, snapshot.repeats[chosen])
    return Plan(chosen, entries, [(stem, int(chosen[row])) for stem, row in labels], left_out_small)


def _labels(
    snapshot: Snapshot, plan: Plan, own: npt.NDArray[np.int64] | None, context: Context
) -> Iterator[tuple[str, str]]:
    """The label files of some of the images, ``own`` in ascending order, or of all."""
    read, labels = snapshot.annotations, plan.labels
    if own is not None:
        read, mine = read.only(own), set(own.tolist())
        labels = [(stem, row) for stem, row in labels if row in mine]
    rows = np.array([row for _, row in labels], np.int64)
    at = rows if own is None else np.searchsorted(own, rows)
    for done, ((stem, _), text) in enumerate(zip(labels, yolo_labels(read, at), strict=True), 1):
        yield stem, text
        if done % _TOLD_AFTER == 0 or done == len(labels):
            context.advanced(done, len(labels))


def _merged(parts: Sequence[Result], plan: Plan, attempt: Attempt, context: Context) -> Iterator[tuple[str, str]]:
    """The label files that shards wrote.

    Raises:
        InvalidReceipt: Before the first one, if an output is gone or damaged, or they are not the files of this plan.
    """
    files = [part.fetch(PART, attempt.work / f"part-{number}.tar") for number, part in enumerate(parts)]
    try:
        names = heapq.merge(*([name for name, _ in read_archive(file)] for file in files))
        complete = all(name == stem for name, (stem, _) in zip(names, plan.labels, strict=True))
    except ValueError as error:
        raise InvalidReceipt(
            f"{parts[0].uri}: the shards' label files are not those of the whole ({error})."
        ) from error
    if not complete:
        raise InvalidReceipt(f"{parts[0].uri}: the shards' label files are not those of the whole.")
    return _read(files, len(plan.labels), context)


def _read(files: Sequence[Path], total: int, context: Context) -> Iterator[tuple[str, str]]:
    for done, (stem, data) in enumerate(heapq.merge(*map(read_archive, files)), 1):
        yield stem, data.decode()
        if done % _TOLD_AFTER == 0 or done == total:
            context.advanced(done, total)


def _placed(
    rows: pa.Table, folders: Sequence[str] | None, repeats: npt.NDArray[np.int64]
) -> tuple[list[IndexEntry], list[tuple[str, int]]]:
    """The index's entries, and the label files with the rows of their images, both in the order of names.

    Args:
        rows: The images of the manifest that are converted.
        folders: The folder of each one's class; None for a layout with label files.
        repeats: How often each is trained on: each time under another name.
    """
    names = rows["file_name"].to_pylist()
    again = _again(names, repeats)
    views = view_names([*names, *(name for others in again.values() for name in others)])
    entries: list[IndexEntry] = []
    labels: list[tuple[str, int]] = []
    columns = (rows[name].to_pylist() for name in ("split", "also", "size", "etag"))
    for row, (name, split, also, size, etag) in enumerate(zip(names, *columns, strict=True)):
        places = [(shown, views[name]) for shown in ((split, also) if also else (split,))]
        places += [(split, views[other]) for other in again.get(name, ())]
        for shown, view in places:
            path = f"images/{shown}/{view}" if folders is None else f"{shown}/{folders[row]}/{view}"
            entries.append(IndexEntry(file_name=name, path=path, split=shown, size=size or 0, etag=etag or ""))
            if folders is None:
                labels.append((f"labels/{shown}/{view.rpartition('.')[0]}.txt", row))
    labels.sort()
    return entries, labels


def _again(names: Sequence[str], repeats: npt.NDArray[np.int64]) -> dict[str, list[str]]:
    """By file name, the other names under which a repeated image is seen again: in a folder that no image's name begins with."""
    rows = np.flatnonzero(repeats > 1).tolist()
    if not rows:
        return {}
    folders = {name.partition("/")[0].casefold() for name in names}
    folder = next(folder for mark in itertools.count() if (folder := f"again{'-' * mark}") not in folders)
    return {
        names[row]: [f"{folder}/{number}/{names[row]}" for number in range(2, int(repeats[row]) + 1)] for row in rows
    }


def _repeated(entries: Sequence[IndexEntry]) -> int:
    """How many entries are of an image that the same split has already."""
    return len(entries) - len({(entry.split, entry.file_name) for entry in entries})


def _class_folders(read: Annotations, rows: npt.NDArray[np.int64]) -> list[str]:
    """The folder of each image's class."""
    folders = class_folders(read)
    return [folders[image_folder_class(image)] for image in images(read, rows)]


def _data_yaml(snapshot: Snapshot, layout: str) -> bytes:
    """What a person or another tool needs to read the labels; training writes its own with absolute paths."""
    dataset = snapshot.annotations
    value: dict[str, Any] = {
        "task": snapshot.task,
        "format": layout,
        "nc": len(dataset.classes),
        "names": list(class_order(dataset)),
    }
    prefix = "images/" if layout == "yolo" else ""
    value |= {split: f"{prefix}{split}" for split in SPLITS}
    if snapshot.task == "pose":
        value |= {
            "kpt_shape": list(keypoint_shape(dataset) or ()),
            "flip_idx": list(flip_index(dataset) or ()),
        }
    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, allow_unicode=True).encode()


STAGE: Stage[Arguments, Loaded] = ConvertStage()
