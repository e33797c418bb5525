"""Translates what the library and torch raise into the error with the matching remedy."""

from __future__ import annotations

from contextlib import AbstractContextManager

from visionloop.core.errors import InvalidConfig, InvalidDataset, VisionloopError
from visionloop.training.pytorch import failures
from visionloop.training.pytorch.failures import first_line, has

#: The library's messages about a dataset that it can't use.
_DATASET = (
    "No valid images found",
    "No labels found",
    "No images found",
    "Error loading data from",
    "images not found",
    "Image Not Found",
)

#: The library's messages about settings that do not fit together.
_CONFIGURATION = (
    "final batch=1",
    "froze the entire model",
    "Invalid CUDA 'device=",
    "is an invalid value",
    "is of invalid type",
    "' is invalid.",
)


def translated(batch: int, imgsz: int) -> AbstractContextManager[None]:
    """Raises exceptions of its body as the error with the matching remedy; see `visionloop.training.pytorch.failures.translated`.

    Raises:
        InvalidDataset: If the library can't use the dataset.
        InvalidConfig: If settings do not fit together.
    """
    return failures.translated(batch, imgsz, recognised)


def recognised(error: BaseException) -> VisionloopError | None:
    """The error of `visionloop.core.errors` for an exception of the library, None if it is not recognised."""
    if has(f"{type(error).__name__}: {error}", _DATASET):
        return InvalidDataset(f"The dataset can't be trained on ({first_line(error)}): check its images and labels.")
    if isinstance(error, ValueError | TypeError | RuntimeError | SyntaxError) and has(str(error), _CONFIGURATION):
        return InvalidConfig(f"The configuration does not fit: {first_line(error)}")
    return None
