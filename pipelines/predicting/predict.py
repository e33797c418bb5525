"""What a model finds on images, one after the other: one that can't be read is told, and the rest goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import InvalidDataset
from visionloop.data.decoding import Undecodable, decode
from visionloop.pipelines.predicting.images import Picture, Tell
from visionloop.registry import outputs
from visionloop.training.trainers import PredictionSettings, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Predicted:
    """What a model finds on one image.

    Attributes:
        image: The image's name.
        width: In pixels, as it is shown.
        height: The same.
        predictions: In the form of ``visionloop.registry.outputs``, the most confident first.
        data: The image's bytes.
    """

    image: str
    width: int
    height: int
    predictions: list[dict[str, Any]]
    data: bytes

    def entry(self) -> dict[str, Any]:
        """As it is printed."""
        return {"image": self.image, "width": self.width, "height": self.height, "predictions": self.predictions}


def predict(
    predictor: Predictor,
    pictures: Iterable[Picture],
    asked: PredictionSettings,
    tell: Tell,
    least: Mapping[str, float] | None = None,
) -> Iterator[Predicted]:
    """Predicts on images; no more of them are in memory than the trainer takes at once.

    Args:
        predictor: The model.
        pictures: The images.
        asked: What is asked for.
        tell: Told of each image that can't be read.
        least: The least confidence of an object by class name.

    Raises:
        AccessDenied: If a store refuses the keys.
        Transient: If a store does not answer.
    """
    under_way: deque[tuple[Picture, bytes]] = deque()

    def readable() -> Iterator[NDArray[np.uint8]]:
        for picture in pictures:
            try:
                data = picture.read()
                pixels = decode(data)
            except InvalidDataset as error:
                tell(error.sentence)
            except Undecodable as error:
                tell(f"{picture.name}: {error}; give a PNG, JPEG, WebP, BMP or TIFF.")
            else:
                under_way.append((picture, data))
                yield pixels

    for (height, width), predictions in outputs.answers(predictor, readable(), asked, least):
        picture, data = under_way.popleft()
        yield Predicted(picture.name, width, height, predictions, data)
