"""What ``visionloop model export`` does: opens the model, reads the images, writes the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import InvalidDataset
from visionloop.core.stdout import stdout_to_stderr
from visionloop.data.decoding import Undecodable, decode
from visionloop.pipelines.cli.dataset import dataset_store
from visionloop.pipelines.models.opened import opened
from visionloop.pipelines.predicting.images import Picture, named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visionloop.pipelines.exporting.export import Report

#: The most images that are compared on; of more the first ones count.
MOST_IMAGES = 64


def exported(model: str, format: str, out: Path, images: Sequence[str], command: str) -> Report:
    """Exports a model.

    Args:
        model: ``NAME/VERSION`` or ``NAME@ALIAS``.
        format: The format.
        out: Where the file is put.
        images: What is compared on, as ``visionloop predict`` takes it; drawn pictures where nothing is named.
        command: Who asks, for sentences.

    Raises:
        InvalidConfig: If there is no such version, its trainer does not write the format, or a package is missing.
        InvalidDataset: If one of the images can't be read.
    """
    from visionloop.pipelines.exporting.export import export, exporter
    from visionloop.registry import resolve
    from visionloop.registry.loaded import loaded
    from visionloop.training import catalog

    with ExitStack() as stack:
        registry = stack.enter_context(opened(model, command=command))
        stack.enter_context(dataset_store(*images))
        version = resolve.named(model, registry)
        uri, description = resolve.describe(version, registry)
        exporter(catalog.trainer(description.trainer), format)
        pictures = [_decoded(picture) for picture in named(images, _refuse)[:MOST_IMAGES]]
        stack.enter_context(stdout_to_stderr())
        return export(stack.enter_context(loaded(version, uri, description)), format, pictures, out)


def _decoded(picture: Picture) -> NDArray[np.uint8]:
    try:
        return decode(picture.read())
    except Undecodable as error:
        raise InvalidDataset(f"{picture.name}: {error}; give a PNG, JPEG, WebP, BMP or TIFF.") from error


def _refuse(sentence: str) -> None:
    raise InvalidDataset(sentence)
