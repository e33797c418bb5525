"""What a dataset holds, counted for the page: labels by class and split, and the sizes of its boxes."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.data import dice
from visionloop.data.sizes import SIZES, size_of

#: The classes beyond which the table is cut.
CLASSES = 100

#: The bounds of the histogram's columns: sides in pixels, with those of COCO's sizes (32 and 96) among them.
SIDES = (8, 16, 32, 48, 64, 96, 192, 384, 768)


@dataclass(frozen=True)
class BoxSizes:
    """Boxes by COCO's sizes and split, and a histogram of their sides, the square root of the area in pixels."""

    total: int
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Mapping[str, Any]]


def splits(snapshot: Snapshot, counts: dice.LabelCounts) -> list[dict[str, Any]]:
    """Images, objects and labels of each split, and its share of the images in percent."""
    images: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    of_image = {image.file_name: len(image.annotations) for image in snapshot.annotations.images}
    for row in snapshot.rows:
        for split in snapshot.identity.splits_of(row):
            images[split] += 1
            objects[split] += of_image[row.file_name]
    return [
        {
            "name": split,
            "images": images[split],
            "objects": objects[split],
            "labels": counts.kept[split].total(),
            "share": round(100 * images[split] / max(1, len(snapshot.rows)), 1),
        }
        for split in dice.SPLITS
    ]


def classes(snapshot: Snapshot, counts: dice.LabelCounts) -> list[dict[str, Any]]:
    """The labels of each class by split, the rarest in train first, then in all."""
    rows: list[dict[str, Any]] = []
    for entry in snapshot.annotations.classes:
        labels: dict[str, int] = {split: counts.kept[split][entry.id] for split in dice.SPLITS}
        rows.append({"name": entry.name, **labels, "total": sum(labels.values())})
    rows.sort(key=lambda row: (row["train"], row["total"]))
    most = max((row["total"] for row in rows), default=0) or 1
    return [{**row, "share": round(100 * row["total"] / most, 1)} for row in rows]


def box_sizes(snapshot: Snapshot) -> BoxSizes | None:
    """The sizes of all boxes that have an area, but for crowd regions; None where there are none."""
    splits_of = {row.file_name: snapshot.identity.splits_of(row) for row in snapshot.rows}
    by_size: dict[str, Counter[str]] = {size: Counter() for size in SIZES}
    histogram = [0] * (len(SIDES) + 1)
    for image in snapshot.annotations.images:
        for annotation in image.annotations:
            area = annotation.bbox[2] * annotation.bbox[3] if annotation.bbox and not annotation.iscrowd else 0.0
            if annotation.bbox is None or min(annotation.bbox[2:]) <= 0 or not math.isfinite(area):
                continue
            histogram[bisect.bisect_right(SIDES, math.sqrt(area))] += 1
            by_size[size_of(area)].update(splits_of[image.file_name])
    total = sum(histogram)
    if not total:
        return None
    rows: list[dict[str, Any]] = [
        {"name": size, **{split: by_size[size][split] for split in dice.SPLITS}} for size in SIZES
    ]
    return BoxSizes(total, rows, _columns(histogram))


def _columns(histogram: Sequence[int]) -> list[dict[str, Any]]:
    bounds = (0, *SIDES)
    return [
        {
            "label": f"{low}–{high}" if high else f"{low}–",
            "size": size_of(low**2),
            "count": count,
            "share": count / max(histogram),
        }
        for low, high, count in zip(bounds, (*SIDES, None), histogram, strict=True)
    ]
