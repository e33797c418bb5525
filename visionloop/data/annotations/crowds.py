"""Crowd regions: parts of an image that hold more objects than were labelled one by one.

A detection that lies in one and matches no object is neither right nor wrong, as in COCO's evaluation, which compares their overlap
with the detection's own area (https://cocodataset.org/#detection-eval). Regions are compared by their boxes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from visionloop.data.annotations.classes import IGNORED

if TYPE_CHECKING:  # a registered model has this module, and no pyarrow
    from visionloop.data.annotations.images import Annotation, Image

Box = tuple[float, float, float, float]

#: The share of a detection that must lie in a region.
SHARE = 0.5


class Crowd(Struct, frozen=True, gc=False):
    """A crowd region: x1, y1, x2, y2 in shares of the image's width and height, and its class index, None for any class."""

    class_index: int | None
    box: Box


def crowds_of(image: Image, class_index: Mapping[int, int | None]) -> list[Crowd]:
    """The crowd regions of an image.

    Args:
        image: The image with its annotations.
        class_index: The model's class index by class id; a class that the model does not have passes over nothing.
    """
    found = []
    for annotation in image.annotations:
        if not annotation.iscrowd or not image.width or not image.height:
            continue
        box = _box(annotation)
        index = class_index.get(annotation.class_id)
        if box is None or (index is None and annotation.class_id != IGNORED):
            continue
        left, top, right, bottom = box
        found.append(Crowd(index, (left / image.width, top / image.height, right / image.width, bottom / image.height)))
    return found


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


def _box(annotation: Annotation) -> Box | None:
    """The corners of a region's box, or of what is around its outline or mask; None where it has none of them."""
    if annotation.bbox is not None:
        x, y, across, down = annotation.bbox
        return x, y, x + across, y + down
    polygons: Sequence[Sequence[float]] = annotation.polygons
    if not polygons and annotation.mask is not None:
        from visionloop.data.annotations.masks import outlines  # OpenCV, which few datasets need here

        try:
            mask = json.loads(annotation.mask)
            polygons = outlines(mask["counts"], *mask["size"]).polygons
        except (ValueError, KeyError, TypeError):
            return None
    if not polygons:
        return None
    x_all = [value for polygon in polygons for value in polygon[::2]]
    y_all = [value for polygon in polygons for value in polygon[1::2]]
    return min(x_all), min(y_all), max(x_all), max(y_all)
