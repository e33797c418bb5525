"""What a dataset holds, counted for the page: labels by class and split, and the sizes of its boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.data.annotations.presence import LabelCounts
from visionloop.data.annotations.tables import HUNDREDTHS, SPLITS, column
from visionloop.data.sizes import MEDIUM_AREA, SIZES, SMALL_AREA, size_of

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


def splits(snapshot: Snapshot, counts: LabelCounts) -> list[dict[str, Any]]:
    """Images, objects and labels of each split, and its share of the images in percent."""
    image = column(snapshot.annotations.objects, "image")
    rows = []
    for split in SPLITS:
        belongs = snapshot.in_split(split)
        rows.append(
            {
                "name": split,
                "images": int(belongs.sum()),
                "objects": int(belongs[image].sum()),
                "labels": counts.kept[split].total(),
                "share": round(100 * float(belongs.sum()) / max(1, len(belongs)), 1),
            }
        )
    return rows


def classes(snapshot: Snapshot, counts: LabelCounts) -> list[dict[str, Any]]:
    """The labels of each class by split, the rarest in train first, then in all."""
    rows: list[dict[str, Any]] = []
    for entry in snapshot.annotations.classes:
        labels: dict[str, int] = {split: counts.kept[split][entry.id] for split in SPLITS}
        rows.append({"name": entry.name, **labels, "total": sum(labels.values())})
    rows.sort(key=lambda row: (row["train"], row["total"]))
    most = max((row["total"] for row in rows), default=0) or 1
    return [{**row, "share": round(100 * row["total"] / most, 1)} for row in rows]


def box_sizes(snapshot: Snapshot) -> BoxSizes | None:
    """The sizes of all boxes that have an area, but for crowd regions; None where there are none."""
    objects = snapshot.annotations.objects
    width, height = (column(objects, name) / HUNDREDTHS for name in ("width", "height"))
    counted = (width > 0) & (height > 0) & ~np.asarray(objects["iscrowd"])
    if not counted.any():
        return None
    area, image = (width * height)[counted], column(objects, "image")[counted]
    histogram = np.bincount(np.searchsorted(SIDES, np.sqrt(area), side="right"), minlength=len(SIDES) + 1).tolist()
    size = np.searchsorted((SMALL_AREA, MEDIUM_AREA), area, side="right")
    by_split = {split: np.bincount(size[snapshot.in_split(split)[image]], minlength=len(SIZES)) for split in SPLITS}
    rows: list[dict[str, Any]] = [
        {"name": name, **{split: int(by_split[split][number]) for split in SPLITS}} for number, name in enumerate(SIZES)
    ]
    return BoxSizes(int(counted.sum()), rows, _columns(histogram))


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
