"""What a model finds on images, one after the other: one that can't be read is told, and the rest goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionloop.components.predict.asked import Asked
from visionloop.components.predict.images import Picture
from visionloop.core.errors import DatasetChanged, InvalidDataset
from visionloop.core.parallel import ahead_map
from visionloop.data.decoding import Undecodable, decode
from visionloop.registry import outputs
from visionloop.training.tiled import TiledPredictor
from visionloop.training.trainers import Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: How many images are read and decoded at once while the model is at work, and the bytes of decoded ones that wait for it at most.
THREADS = 4
WAITING_BYTES = 256 * 2**20

#: Called with each image that can't be read, and a sentence about it.
Refused = Callable[[Picture, str], None]


@dataclass(frozen=True)
class Predicted:
    """What a model finds on one image.

    Attributes:
        picture: The image.
        width: In pixels, as it is shown.
        height: The same.
        predictions: In the form of ``visionloop.registry.outputs``, the most confident first.
        data: The image's bytes.
    """

    picture: Picture
    width: int
    height: int
    predictions: list[dict[str, Any]]
    data: bytes

    @property
    def image(self) -> str:
        """The image's name."""
        return self.picture.name

    def entry(self) -> dict[str, Any]:
        """As it is printed."""
        return {"image": self.image, "width": self.width, "height": self.height, "predictions": self.predictions}


@dataclass(frozen=True)
class _Read:
    """An image that was read: its bytes and pixels, or why it can't be."""

    picture: Picture
    data: bytes = b""
    pixels: NDArray[np.uint8] | None = None
    why: str = ""

    @property
    def size(self) -> int:
        """Its bytes in memory."""
        return len(self.data) + (0 if self.pixels is None else self.pixels.nbytes)


def predict(predictor: Predictor, pictures: Iterable[Picture], asked: Asked, refused: Refused) -> Iterator[Predicted]:
    """Predicts on images in their order; only a few more of them are in memory than the trainer takes at once.

    Args:
        predictor: The model.
        pictures: The images.
        asked: What is asked for.
        refused: Told of each image that can't be read.

    Raises:
        DatasetChanged: If an image that was listed with its ETag is gone, or is another one by now.
        AccessDenied: If a store refuses the keys.
        Transient: If a store does not answer.
    """
    under_way: deque[tuple[Picture, bytes]] = deque()

    def readable() -> Iterator[NDArray[np.uint8]]:
        for read in ahead_map(_read, pictures, THREADS, lambda read: read.size, WAITING_BYTES):
            if read.pixels is None:
                refused(read.picture, read.why)
            else:
                under_way.append((read.picture, read.data))
                yield read.pixels

    looking = predictor if asked.tile is None else TiledPredictor(predictor, asked.tile)
    for (height, width), predictions in outputs.answers(looking, readable(), asked.settings, asked.least):
        picture, data = under_way.popleft()
        yield Predicted(picture, width, height, predictions, data)


def _read(picture: Picture) -> _Read:
    try:
        data = picture.read()
        return _Read(picture, data, decode(data))
    except DatasetChanged:
        raise
    except InvalidDataset as error:
        return _Read(picture, why=error.sentence)
    except Undecodable as error:
        return _Read(picture, why=f"{picture.name}: {error}; give a PNG, JPEG, WebP, BMP or TIFF.")
