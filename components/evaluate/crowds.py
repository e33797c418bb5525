"""The crowd regions of a dataset's images, as an evaluation passes over what is detected in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.crowds import Box, Crowd
from visionloop.data.annotations.images import Annotation, Image


def crowds_of(image: Image, class_index: Mapping[int, int | None]) -> list[Crowd]:
    """The crowd regions of an image.

    Args:
        image: The image with its annotations.
        class_index: The model's class index by class id; a class that the model does not have passes over nothing.
    """
    regions = []
    for annotation in image.annotations:
        if not annotation.iscrowd or not image.width or not image.height:
            continue
        box = box_of_region(annotation)
        index = class_index.get(annotation.class_id)
        if box is None or (index is None and annotation.class_id != IGNORED):
            continue
        left, top, right, bottom = box
        regions.append(
            Crowd(index, (left / image.width, top / image.height, right / image.width, bottom / image.height))
        )
    return regions


def box_of_region(annotation: Annotation) -> Box | None:
    """The corners of a region's box, or of what is around its outline or mask; None where it has none of them."""
    if annotation.bbox is not None:
        x, y, across, down = annotation.bbox
        return x, y, x + across, y + down
    polygons: Sequence[Sequence[float]] = annotation.polygons
    if not polygons and annotation.mask is not None:
        from visionloop.data.annotations.masks import outlines  # OpenCV, which the look at arguments need not load

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
