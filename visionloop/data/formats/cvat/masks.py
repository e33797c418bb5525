"""CVAT's masks: runs of a cut-out, row by row, into COCO's runs of the whole image, column by column."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.masks import MOST_PIXELS, run_lengths
from visionloop.data.formats.xml_reader import REMEDY, number


def coco_mask(element: Element, size: tuple[int | None, int | None], field: str) -> dict[str, Any]:
    """The box and the run-length mask of an element ``mask``.

    Args:
        element: With ``rle`` (runs of 0 and 1 in turn, beginning with 0), ``left``, ``top``, ``width`` and ``height``.
        size: The image's width and height in pixels.
        field: Where it stands, for errors.

    Raises:
        InvalidDataset: If a value is missing, the runs are not those of the cut-out, or it does not lie in the image.
    """
    left, top, width, height = (
        _whole(element.get(side), f"{field}.{side}") for side in ("left", "top", "width", "height")
    )
    columns, rows = size
    if columns is None or rows is None:
        raise InvalidDataset(f"{field}: the image states no width and height, which a mask needs; {REMEDY}.")
    if left + width > columns or top + height > rows or not width or not height or columns * rows > MOST_PIXELS:
        raise InvalidDataset(f"{field}: the mask does not lie in its image of {columns} × {rows} pixels; {REMEDY}.")
    runs = np.array(
        [_whole(run, f"{field}.rle") for run in (element.get("rle") or "").split(",") if run.strip()], np.int64
    )
    if runs.sum() != width * height:
        raise InvalidDataset(f"{field}.rle: the runs cover {runs.sum()} pixels, not {width} × {height}; {REMEDY}.")
    cut = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = run_lengths(cut, left, top, columns, rows)
    return {"box": (float(left), float(top), float(width), float(height)), "mask": mask}


def _whole(text: str | None, where: str) -> int:
    value = number(text, where)
    if value != int(value) or not 0 <= value < 2**31:
        raise InvalidDataset(f"{where}: not a whole number from 0; {REMEDY}.")
    return int(value)
