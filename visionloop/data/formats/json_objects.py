"""Objects of the canonical tables as DICE and COCO write them in JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from visionloop.data.annotations.tables import BOX, HUNDREDTHS


def box(row: dict[str, Any]) -> list[float] | None:
    """x, y, width and height in pixels; None without a box."""
    if row["x"] is None:
        return None
    return [row[name] / HUNDREDTHS for name in BOX]


def segmentation(row: dict[str, Any]) -> list[list[float]] | msgspec.Raw | None:
    """Polygons in pixels, or the run-length mask; None without either."""
    if row["polygons"]:
        return [[value / HUNDREDTHS for value in polygon] for polygon in row["polygons"]]
    return None if row["mask"] is None else msgspec.Raw(row["mask"].encode())


def keypoints(row: dict[str, Any]) -> list[float] | None:
    """x and y in pixels and visibility of each keypoint; None without."""
    values = row["keypoints"]
    if not values:
        return None
    return [value if index % 3 == 2 else value / HUNDREDTHS for index, value in enumerate(values)]


def free(text: str | None) -> msgspec.Raw | None:
    """Free values, which are kept as JSON."""
    return None if text is None else msgspec.Raw(text.encode())


def without_none(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {name: value for name, value in values.items() if value is not None}
