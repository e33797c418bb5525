"""The convert stage: DICE to YOLO labels, or to the layout of an image folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from visionloop.components.convert.archive import write_archive
from visionloop.components.convert.converted import IndexEntry, encode_index
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts
from visionloop.core.errors import InvalidDataset, InvalidReceipt
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument
from visionloop.data import dice

#: The layout that each task is converted to.
FORMATS = {"detection": "yolo", "segmentation": "yolo", "pose": "yolo", "classification": "imagefolder"}


@dataclass(frozen=True)
class Arguments:
    """The arguments of convert."""

    snapshot: str = argument("URI of the snapshot's receipt.")
    report: str = argument("URI of the validate receipt.")


class ConvertStage:
    """Writes labels as one archive, ``data.yaml`` and an index of image keys."""

    name = "convert"
    logic_version = 2
    policy = POLICIES["convert"]
    arguments = Arguments
    description = "Converts a snapshot's annotations to YOLO labels or an image folder's layout."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[tuple[Snapshot, Result]]:
        """Reads both receipts."""
        snapshot_result = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        report = receipts.load(arguments.report, "validate", context.workspace)
        if report.receipt.inputs["snapshot"].digest != snapshot_result.receipt.digest:
            raise InvalidReceipt(
                f"{report.uri}: the report is of another snapshot than {snapshot_result.uri}; give the one of this snapshot."
            )
        snapshot = Snapshot(snapshot_result)
        return Resolution(
            inputs={"snapshot": snapshot_result.reference, "report": report.reference},
            parameters={"format": Parameter(FORMATS[snapshot.task], "task")},
            loaded=(snapshot, report),
        )

    def compute(self, context: Context, resolution: Resolution[tuple[Snapshot, Result]], attempt: Attempt) -> Computed:
        """Writes the outputs, in the order of file names so that equal inputs give equal bytes."""
        snapshot, report = resolution.loaded
        left_out = set(validation.read(report).quarantined)
        layout = str(resolution.parameters["format"].value)
        rows, splits_of = {row.file_name: row for row in snapshot.rows}, snapshot.identity.splits_of
        dataset = snapshot.annotations
        kept = [
            image
            for image in sorted(dataset.images, key=lambda image: image.file_name)
            if image.file_name not in left_out
        ]
        too_small = sum(map(dice.is_too_small, kept))
        kept = [image for image in kept if not dice.is_too_small(image)]
        if layout == "imagefolder":
            # An image folder has no place for an image without a class.
            kept = [image for image in kept if image.annotations]
        views = dice.view_names([image.file_name for image in kept])
        folders = dice.class_folders(dataset) if layout == "imagefolder" else {}
        entries: list[IndexEntry] = []
        labels: dict[str, str] = {}
        index = dice.class_index(dataset)
        placed = [(image, split) for image in kept for split in splits_of(rows[image.file_name])]
        for image, split in placed:
            row, view = rows[image.file_name], views[image.file_name]
            if layout == "yolo":
                path = f"images/{split}/{view}"
                stem = f"labels/{split}/{view.rsplit('.', 1)[0]}.txt"
                labels[stem] = dice.yolo_label(image, snapshot.task, index)
            else:
                path = f"{split}/{folders[dice.image_folder_class(image)]}/{view}"
            entries.append(
                IndexEntry(
                    file_name=image.file_name,
                    key=row.key,
                    path=path,
                    split=split,
                    size=row.size or 0,
                    etag=row.etag or "",
                )
            )
            context.advanced(len(entries), len(placed))
        in_train = sum(entry.split == "train" for entry in entries if layout == "imagefolder")
        in_train += sum(text.count("\n") for name, text in labels.items() if name.startswith("labels/train/"))
        if not in_train:
            raise InvalidDataset(
                f"{snapshot.dataset}: no label is left for training; correct the annotations or the split, and validate again."
            )
        archive = attempt.work / "labels.tar"
        write_archive(archive, labels, context.alive)
        attempt.upload("labels", "labels.tar", archive, result=True)
        attempt.write("data", "data.yaml", _data_yaml(snapshot, layout), result=True)
        attempt.write("index", "index.jsonl", encode_index(entries), result=True)
        counts: dict[str, Any] = {split: sum(entry.split == split for entry in entries) for split in dice.SPLITS}
        objects = sum(text.count("\n") for text in labels.values())
        return Computed(
            scalars={"format": layout, "images": len(kept), "too_small": too_small, "objects": objects, **counts}
        )


def _data_yaml(snapshot: Snapshot, layout: str) -> bytes:
    """What a person or another tool needs to read the labels; training writes its own with absolute paths."""
    dataset = snapshot.annotations
    value: dict[str, Any] = {
        "task": snapshot.task,
        "format": layout,
        "nc": len(dataset.classes),
        "names": list(dice.class_order(dataset)),
        "class_ids": {str(key): position for key, position in sorted(dice.class_index(dataset).items())},
    }
    prefix = "images/" if layout == "yolo" else ""
    value |= {split: f"{prefix}{split}" for split in dice.SPLITS}
    if snapshot.task == "pose":
        value |= {
            "kpt_shape": list(dice.keypoint_shape(dataset) or ()),
            "flip_idx": list(dice.flip_index(dataset) or ()),
        }
    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, allow_unicode=True).encode()


STAGE: Stage[Arguments, tuple[Snapshot, Result]] = ConvertStage()
