"""What ``visionloop model export`` does: opens the model, reads the images, writes the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.components.predict.images import Picture, named
from visionloop.core.errors import InvalidDataset
from visionloop.core.files import atomic_write
from visionloop.core.folders import temporary_folder
from visionloop.core.stdout import stdout_to_stderr
from visionloop.data.decoding import Undecodable, decode
from visionloop.pipelines.cli.dataset import dataset_store
from visionloop.pipelines.models.opened import opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visionloop.registry.loaded import LoadedModel


@dataclass(frozen=True)
class Report:
    """What an export is, and how it was found (``components.export.result``).

    Attributes:
        model: The registered name.
        version: Its number.
        format: The format.
        precision: ``fp32``.
        accepted: Whether it finds what the model finds.
        reason: Why not; empty where it is accepted.
        file: Where it was put; None where it is refused.
        size: In bytes.
        sha256: Of the file.
        pictures: How many pictures both were run on.
        objects: How many objects were compared on them.
        least_overlap: The least overlap (IoU) of an object's two boxes.
        score_difference: The largest difference of a confidence; None where it is not finite.
        further_difference: The same of another output: a keypoint in pixels of the input, a mask.
        latency_ms: The median time for a picture, without its preparation, on this machine's CPU.
        model_latency_ms: The same of the model itself.
    """

    model: str
    version: int
    format: str
    precision: str
    accepted: bool
    reason: str
    file: str | None
    size: int
    sha256: str
    pictures: int
    objects: int
    least_overlap: float | None
    score_difference: float | None
    further_difference: float | None
    latency_ms: float
    model_latency_ms: float


def exported(model: str, format: str, out: Path, images: Sequence[str], command: str) -> Report:
    """Exports a model.

    Args:
        model: ``NAME/VERSION`` or ``NAME@ALIAS``.
        format: The format.
        out: Where the file is put; other files there stay.
        images: What is compared on, as ``visionloop predict`` takes it; drawn pictures where nothing is named.
        command: Who asks, for sentences.

    Raises:
        InvalidConfig: If there is no such version, its trainer does not write the format, or a package is missing.
        InvalidDataset: If one of the images can't be read.
        OSError: If the file can't be put there.
    """
    from visionloop.components.export.formats import exporter
    from visionloop.components.export.making import COMPARED
    from visionloop.registry import resolve
    from visionloop.registry.loaded import loaded
    from visionloop.training import catalog

    with ExitStack() as stack:
        registry = stack.enter_context(opened(model, command=command))
        stack.enter_context(dataset_store(*images))
        version = resolve.named(model, registry)
        uri, description = resolve.describe(version, registry)
        exporter(catalog.trainer(description.trainer), format)
        pictures = [_decoded(picture) for picture in named(images, _refuse)[:COMPARED]]
        stack.enter_context(stdout_to_stderr())
        return _export(stack.enter_context(loaded(version, uri, description)), format, pictures, out)


def _export(model: LoadedModel, format: str, pictures: Sequence[NDArray[np.uint8]], target: Path) -> Report:
    """Exports a loaded model, and puts the file as ``NAME-VERSION.onnx`` into a folder if it finds what the model finds."""
    from visionloop.components.export import making
    from visionloop.components.export.formats import ENDINGS, PRECISIONS, Wanted

    about, wanted = model.description, Wanted(format, PRECISIONS[format][0])
    described = making.Described(
        task=about.task,
        classes=about.classes,
        keypoints=about.keypoints,
        training_digest=about.training_digest,
        checkpoint_sha256=about.checkpoint_sha256,
        operating_point=about.operating_point,
    )
    file = target / f"{model.version.name}-{model.version.number}{ENDINGS[format]}"
    with temporary_folder("export") as folder:
        made, found, speed = making.make(
            model.trainer, model.checkpoint, wanted, described, pictures or making.drawn(), folder
        )
        if found.accepted:
            target.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as partial:
                partial.write_bytes(made.read_bytes())
    return Report(
        model=model.version.name,
        version=model.version.number,
        format=found.format,
        precision=found.precision,
        accepted=found.accepted,
        reason=found.reason,
        file=str(file) if found.accepted else None,
        size=found.size,
        sha256=found.sha256,
        pictures=found.pictures,
        objects=found.objects,
        least_overlap=found.least_overlap,
        score_difference=found.score_difference,
        further_difference=found.further_difference,
        latency_ms=speed.latency_ms,
        model_latency_ms=speed.model_latency_ms,
    )


def _decoded(picture: Picture) -> NDArray[np.uint8]:
    try:
        return decode(picture.read())
    except Undecodable as error:
        raise InvalidDataset(f"{picture.name}: {error}; give a PNG, JPEG, WebP, BMP or TIFF.") from error


def _refuse(sentence: str) -> None:
    raise InvalidDataset(sentence)
