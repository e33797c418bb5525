"""Crowd regions: parts of an image that hold more objects than were labelled one by one.

A detection that lies in one and matches no object is neither right nor wrong, as in COCO's evaluation, which compares their overlap
with the detection's own area (https://cocodataset.org/#detection-eval). Regions are compared by their boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

Box = tuple[float, float, float, float]

#: The share of a detection that must lie in a region.
SHARE = 0.5


class Crowd(Struct, frozen=True, gc=False):
    """A crowd region: x1, y1, x2, y2 in shares of the image's width and height, and its class index, None for any class."""

    class_index: int | None
    box: Box


def lies_in(crowds: Sequence[Crowd], class_index: int, box: Box) -> bool:
    """Whether ``SHARE`` of a detection lies in a crowd region of its class or of any class.

    Args:
        crowds: The image's regions.
        class_index: The detection's class.
        box: x1, y1, x2, y2 in shares of the image's width and height.
    """
    left, top, right, bottom = box
    area = (right - left) * (bottom - top)
    for crowd in crowds:
        if crowd.class_index is not None and crowd.class_index != class_index:
            continue
        x1, y1, x2, y2 = crowd.box
        across, down = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
        if across > 0 and down > 0 and across * down >= SHARE * area:
            return True
    return False
