"""Label Studio's brush masks: bits that hold runs of the picture's RGBA bytes, row by row.

The packing is that of @thi.ng/rle-pack (https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack), which the tool uses.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.labelstudio.document import REMEDY
from visionloop.data.formats.masks import MOST_PIXELS, mask_of

#: How many bits each part of the head has: the number of values, the size of one less 1, and four times that of a run's length less 1.
_COUNT, _WORD, _LENGTHS = 32, 5, (4, 4, 4, 4)

#: The bytes of a pixel; the last is the mask.
_CHANNELS = 4

_POWERS = 2 ** np.arange(63, -1, -1, dtype=np.uint64)


def geometry(packed: bytes, size: tuple[float, float], where: str) -> dict[str, Any] | None:
    """Box and run-length mask of a brush; None where nothing is painted.

    Args:
        packed: The JSON of ``rle``: bytes as numbers.
        size: Width and height of the picture in pixels.
        where: Where it stands, for errors.

    Raises:
        InvalidDataset: If it is not the mask of a picture of this size.
    """
    width, height = int(size[0]), int(size[1])
    if not 0 < width * height <= MOST_PIXELS:
        raise InvalidDataset(f"{where}.rle: a mask of {width} × {height} pixels is not read; {REMEDY}")
    try:
        numbers = np.array(msgspec.json.decode(packed, type=list[int]), np.int64)
    except (msgspec.ValidationError, OverflowError):
        numbers = np.array([-1])
    if not len(numbers) or numbers.min() < 0 or numbers.max() > 255:
        raise InvalidDataset(f"{where}.rle: expected a list of whole numbers from 0 to 255; {REMEDY}")
    values = _unpacked(np.unpackbits(numbers.astype(np.uint8)), width * height * _CHANNELS)
    if values is None:
        raise InvalidDataset(f"{where}.rle: not the mask of a picture of {width} × {height} pixels; {REMEDY}")
    painted = values.reshape(height, width, _CHANNELS)[:, :, -1] > 0
    return mask_of(painted)


def _unpacked(bits: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8] | None:
    """The bytes that the bits hold; None if they are not ``count`` of them."""
    reader = _Bits(bits)
    if reader.number(_COUNT) != count or reader.number(_WORD) + 1 != 8:
        return None
    lengths = [reader.number(size) + 1 for size in _LENGTHS]
    values = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        repeated = reader.number(1)
        end = filled + 1 + reader.number(lengths[reader.number(2)])
        if end > count or reader.left < (8 if repeated else 8 * (end - filled)):
            return None
        values[filled:end] = reader.number(8) if repeated else reader.bytes(end - filled)
        filled = end
    return values


class _Bits:
    """Reads bits one after the other; behind the last one there are zeros."""

    def __init__(self, bits: npt.NDArray[np.uint8]) -> None:
        self.bits, self.at = bits, 0

    @property
    def left(self) -> int:
        """How many bits are left."""
        return len(self.bits) - self.at

    def number(self, size: int) -> int:
        """The next bits as a number."""
        part = self.bits[self.at : self.at + size]
        self.at += size
        value = int(part @ _POWERS[64 - len(part) :]) if len(part) else 0
        return value << (size - len(part))

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """The next bytes."""
        part = self.bits[self.at : self.at + 8 * count]
        self.at += 8 * count
        return np.packbits(part)
