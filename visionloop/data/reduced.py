"""Images reduced to the size at which they are trained, so that no epoch decodes the pixels that it would throw away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from visionloop.core.errors import Defect
from visionloop.data.decoding import decoded

#: OpenCV's numbers of the interpolations by which trainers shrink images.
INTERPOLATIONS: Mapping[str, int] = {"linear": 1, "area": 3}

#: PNG's level of compression: the first takes a third of the default's time, for a tenth more bytes.
_LEVEL = 1

#: Bytes of a reduced pixel on the disk, for the room that is asked for before: half of what it takes without compression.
_BYTES_PER_PIXEL = 1.5


@dataclass(frozen=True)
class Reduction:
    """How images are reduced.

    Attributes:
        side: The longer side of a reduced image, in pixels; an image that is not larger stays as it is.
        interpolation: The one that the trainer's own loader would apply; one of INTERPOLATIONS.
    """

    side: int
    interpolation: str

    def applies(self, width: int | None, height: int | None) -> bool:
        """Whether an image of this size is reduced; one whose size is not known is not."""
        return bool(width and height) and max(width or 0, height or 0) > self.side

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a reduced image, rounded up as Ultralytics' loader rounds them."""
        ratio = self.side / max(width, height)
        return min(math.ceil(width * ratio), self.side), min(math.ceil(height * ratio), self.side)

    def room(self, width: int, height: int) -> int:
        """The bytes that a reduced image is expected to take."""
        across, down = self.size(width, height)
        return int(across * down * _BYTES_PER_PIXEL)

    def picture(self, data: bytes) -> bytes:
        """An image reduced, as PNG: what is decoded of it are the pixels that the trainer's loader would have made.

        Raises:
            Undecodable: If the image can't be decoded.
        """
        import cv2

        with decoded(data) as pixels:
            height, width = pixels.shape[:2]
            if self.applies(width, height):
                pixels = cv2.resize(pixels, self.size(width, height), interpolation=INTERPOLATIONS[self.interpolation])  # type: ignore[assignment]
            written, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _LEVEL])
        if not written:
            raise Defect("A reduced image could not be written as PNG.")
        return encoded.tobytes()
