"""The one tolerance at an image's border, for boxes, polygons and keypoints alike."""

from __future__ import annotations

#: A box, polygon or keypoint may lie this many pixels outside its image: rounding at export, clipped by conversion.
OUTSIDE_PIXELS = 1.0


def inside(width: int, height: int, x: float, y: float) -> bool:
    """Whether a point lies in an image of this size, with the tolerance."""
    return -OUTSIDE_PIXELS <= x <= width + OUTSIDE_PIXELS and -OUTSIDE_PIXELS <= y <= height + OUTSIDE_PIXELS
