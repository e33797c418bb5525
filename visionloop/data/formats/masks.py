"""Painted pixels as a run-length mask in COCO's form: column by column, beginning with those that are not painted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

#: The most pixels of a mask's picture: beyond it a few bytes of a file could ask for more memory than there is.
MOST_PIXELS = 2**26

Painted = npt.NDArray[np.bool_]


def run_lengths(cut: Painted, left: int, top: int, columns: int, rows: int) -> str:
    """A cut-out's pixels as the mask of the whole picture, as JSON.

    Args:
        cut: By row and column.
        left: Where its first column lies in the picture.
        top: Where its first row lies.
        columns: The picture's width in pixels.
        rows: Its height.
    """
    strip = np.zeros((rows, cut.shape[1]), np.int8)
    strip[top : top + cut.shape[0]] = cut
    changes = np.flatnonzero(np.diff(strip.T.reshape(-1), prepend=0)) + left * rows
    # What ends in the cut-out's last pixel changes behind it.
    if strip[-1, -1] and (left + cut.shape[1]) * rows < columns * rows:
        changes = np.append(changes, (left + cut.shape[1]) * rows)
    counts = np.diff(np.concatenate([[0], changes, [columns * rows]]))
    return json.dumps({"counts": counts.tolist(), "size": [rows, columns]}, separators=(",", ":"))


def mask_of(painted: Painted) -> dict[str, Any] | None:
    """The box around a picture's painted pixels, and their mask; None where none is painted."""
    columns, rows = np.flatnonzero(painted.any(axis=0)), np.flatnonzero(painted.any(axis=1))
    if not len(columns):
        return None
    left, top, right, bottom = (int(side) for side in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    mask = run_lengths(painted[top:bottom, left:right], left, top, painted.shape[1], painted.shape[0])
    return {"box": (float(left), float(top), float(right - left), float(bottom - top)), "mask": mask}
