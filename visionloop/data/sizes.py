"""COCO's sizes of objects by their area in square pixels (https://cocodataset.org/#detection-eval)."""

from __future__ import annotations

SMALL_AREA = 32**2
MEDIUM_AREA = 96**2

#: The sizes, the smallest first.
SIZES = ("small", "medium", "large")


def size_of(area: float) -> str:
    """The size of an object with this area: ``small`` below 32², ``large`` from 96² on, else ``medium``."""
    return "small" if area < SMALL_AREA else "medium" if area < MEDIUM_AREA else "large"
