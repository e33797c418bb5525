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

#: How many images get their entries at once.
_ROWS_AT_ONCE = 50_000

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
        index: The index, as it is written: that of a million images takes a third of the memory of its entries.
        counts: How many entries it has by split.
        repeated: How many entries are of an image that the same split has already.
        labels: The names of the label files in their order.
        rows: The row of the image of each.
        too_small: How many images are left out for their size.
    """

    chosen: npt.NDArray[np.int64]
    index: bytes
    counts: Mapping[str, int]
    repeated: int
    labels: list[str]
    rows: npt.NDArray[np.int64]
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
        if not (lines["train"] or (layout == "imagefolder" and plan.counts["train"])):
            raise InvalidDataset(
                f"{snapshot.dataset}: no label is left for training; correct the annotations or the split, and validate again."
            )
        attempt.upload("labels", "labels.tar", archive, result=True)
        attempt.write("data", "data.yaml", _data_yaml(snapshot, layout), result=True)
        attempt.write("index", "index.jsonl", plan.index, result=True)
        return Computed(
            scalars={
                "format": layout,
                "images": len(plan.chosen),
                "too_small": plan.too_small,
                "objects": lines.total(),
                **plan.counts,
                **({"repeated": plan.repeated} if plan.repeated else {}),
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
    return _placed(table, chosen, folders, snapshot.repeats[chosen], left_out_small)


def _labels(
    snapshot: Snapshot, plan: Plan, own: npt.NDArray[np.int64] | None, context: Context
) -> Iterator[tuple[str, str]]:
    """The label files of some of the images, ``own`` in ascending order, or of all."""
    read, names, rows = snapshot.annotations, plan.labels, plan.rows
    if own is not None:
        read, mine = read.only(own), np.isin(rows, own)
        names, rows = list(itertools.compress(names, mine)), np.searchsorted(own, rows[mine])
    for done, (name, text) in enumerate(zip(names, yolo_labels(read, rows), strict=True), 1):
        yield name, text
        if done % _TOLD_AFTER == 0 or done == len(names):
            context.advanced(done, len(names))


def _merged(parts: Sequence[Result], plan: Plan, attempt: Attempt, context: Context) -> Iterator[tuple[str, str]]:
    """The label files that shards wrote.

    Raises:
        InvalidReceipt: Before the first one, if an output is gone or damaged, or they are not the files of this plan.
    """
    files = [part.fetch(PART, attempt.work / f"part-{number}.tar") for number, part in enumerate(parts)]
    try:
        names = heapq.merge(*([name for name, _ in read_archive(file)] for file in files))
        complete = all(name == planned for name, planned in zip(names, plan.labels, strict=True))
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
    table: pa.Table,
    chosen: npt.NDArray[np.int64],
    folders: Sequence[str] | None,
    repeats: npt.NDArray[np.int64],
    too_small: int,
) -> Plan:
    """Gives each image its entries in the index and its label files.

    Args:
        table: The manifest.
        chosen: The rows of the images that are converted.
        folders: The folder of each one's class; None for a layout with label files.
        repeats: How often each is trained on: each time under another name.
        too_small: How many images are left out for their size.
    """
    names = table["file_name"].take(pa.array(chosen)).to_pylist()
    again = _again(names, repeats)
    views = view_names([*names, *(name for others in again.values() for name in others)])
    index, counts = bytearray(), Counter[str](dict.fromkeys(SPLITS, 0))
    labels: list[str] = []
    rows: list[int] = []
    for first in range(0, len(chosen), _ROWS_AT_ONCE):
        part = table.take(chosen[first : first + _ROWS_AT_ONCE])
        columns = (part[name].to_pylist() for name in ("file_name", "split", "also", "size", "etag"))
        entries: list[IndexEntry] = []
        for row, (name, split, also, size, etag) in enumerate(zip(*columns, strict=True), first):
            places = [(shown, views[name]) for shown in ((split, also) if also else (split,))]
            places += [(split, views[other]) for other in again.get(name, ())]
            for shown, view in places:
                path = f"images/{shown}/{view}" if folders is None else f"{shown}/{folders[row]}/{view}"
                entries.append(IndexEntry(file_name=name, path=path, split=shown, size=size or 0, etag=etag or ""))
                counts[shown] += 1
                if folders is None:
                    labels.append(f"labels/{shown}/{view.rpartition('.')[0]}.txt")
                    rows.append(row)
        index += encode_index(entries)
    order = sorted(range(len(labels)), key=labels.__getitem__)
    return Plan(
        chosen=chosen,
        index=bytes(index),
        counts=counts,
        repeated=sum(map(len, again.values())),
        labels=[labels[position] for position in order],
        rows=chosen[np.array(rows, np.int64)[order]],
        too_small=too_small,
    )


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
