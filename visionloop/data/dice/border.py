"""The one tolerance at an image's border, for boxes, polygons and keypoints alike."""

from __future__ import annotations

from visionloop.data.dice.format import Image

#: A box, polygon or keypoint may lie this many pixels outside its image: rounding at export, clipped by conversion.
OUTSIDE_PIXELS = 1.0


def inside(image: Image, x: float, y: float) -> bool:
    """Whether a point lies in the image, with the tolerance; False for a number that is not finite."""
    return (
        -OUTSIDE_PIXELS <= x <= image.width + OUTSIDE_PIXELS and -OUTSIDE_PIXELS <= y <= image.height + OUTSIDE_PIXELS
    )
