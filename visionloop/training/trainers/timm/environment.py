"""The library's environment: offline and without telemetry. `library` is the only way in which timm is imported."""

from __future__ import annotations

import functools
import os
from typing import Any

from PIL import Image, ImageOps

from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.training.pytorch.failures import first_line, has

#: Read by the hub's client, which the library brings: nothing is fetched or sent.
VARIABLES = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@functools.cache
def library() -> Any:
    """The timm package, imported into a prepared environment."""
    os.environ.update(VARIABLES)
    import timm

    for name in ("Posterize", "PosterizeIncreasing", "PosterizeOriginal"):
        timm.data.auto_augment.NAME_TO_OP[name] = _posterize
    return timm


def _posterize(picture: Image.Image, bits: int, **_: object) -> Image.Image:
    """The library's own, which Pillow 13 ended with an error where a recipe keeps no bit: such a picture is black, as it was before."""
    return ImageOps.posterize(picture, min(bits, 8)) if bits > 0 else Image.new(picture.mode, picture.size)


def recognised(error: BaseException) -> VisionloopError | None:
    """The error of `visionloop.core.errors` for an exception of the library, None if it is not recognised."""
    if isinstance(error, AssertionError) and has(str(error), ("doesn't match model", "Input height", "divisible")):
        return InvalidConfig(f"imgsz does not fit the model: {first_line(error)}")
    return None
