"""The shapes of objects as COCO compares them: boxes, or masks in run-length code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.training.trainers import Prediction

#: What objects are compared by, under COCO's name.
By = Literal["bbox", "segm"]

#: A box as x, y, width, height, or a mask as ``{"size": [height, width], "counts": …}``.
Shape = Any


@dataclass(frozen=True)
class Picture:
    """The size of a picture in pixels."""

    height: int
    width: int


def compared_by(task: str) -> By:
    """What the objects of a task are compared by: masks where it is about them, else boxes."""
    return "segm" if task == "segmentation" else "bbox"


def shape_of(entry: Prediction, by: By, picture: Picture) -> Shape:
    """The shape of a true or predicted object; an empty mask for one that has none."""
    if by == "bbox":
        left, top, right, bottom = entry.box or (0.0, 0.0, 0.0, 0.0)
        return [left, top, right - left, bottom - top]
    if entry.mask is not None:
        return {"size": [picture.height, picture.width], "counts": entry.mask}
    return mask_of(entry.polygons, picture)


def mask_of(polygons: Sequence[Sequence[float]], picture: Picture) -> Shape:
    """The mask that some outlines enclose together."""
    from faster_coco_eval.core import mask  # it brings OpenCV

    rings = [list(polygon) for polygon in polygons if len(polygon) >= 6]
    if not rings:
        return {"size": [picture.height, picture.width], "counts": _empty(picture)}
    return _as_text(mask.merge(mask.frPyObjects(rings, picture.height, picture.width)))


def mask_of_runs(counts: Sequence[int], picture: Picture) -> Shape:
    """The mask of COCO's run-length code, runs that fill the picture."""
    from faster_coco_eval.core import mask  # it brings OpenCV

    runs = {"size": [picture.height, picture.width], "counts": list(counts)}
    return _as_text(mask.frPyObjects(runs, picture.height, picture.width))


def area_of(shape: Shape) -> float:
    """The area in square pixels."""
    from faster_coco_eval.core import mask  # it brings OpenCV

    return float(shape[2] * shape[3] if isinstance(shape, list) else mask.area([shape])[0])


def overlaps(predicted: Sequence[Shape], others: Sequence[Shape], *, crowds: bool = False) -> NDArray[np.float64]:
    """How much D predicted shapes overlap N others.

    Args:
        predicted: Their shapes.
        others: Those of true objects, or of crowd regions.
        crowds: Whether the others are crowd regions: the shared area is then a share of the predicted one alone.

    Returns:
        D × N, from 0 to 1.
    """
    from faster_coco_eval.core import mask  # it brings OpenCV

    if not predicted or not others:
        return np.zeros((len(predicted), len(others)))
    result = mask.iou(list(predicted), list(others), [int(crowds)] * len(others))
    return np.asarray(result, np.float64).reshape(len(predicted), len(others))


def _empty(picture: Picture) -> str:
    from faster_coco_eval.core import mask  # it brings OpenCV

    counts = mask.encode(np.zeros((picture.height, picture.width), np.uint8, order="F"))["counts"]
    return counts.decode() if isinstance(counts, bytes) else str(counts)


def _as_text(code: dict[str, Any]) -> Shape:
    counts = code["counts"]
    return {"size": list(code["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
