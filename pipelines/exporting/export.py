"""Writes a registered model in another format, measures the file beside the model itself, and accepts it or says why not."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visionloop.core import packages
from visionloop.core.canonical import sha256
from visionloop.core.errors import InvalidConfig
from visionloop.core.files import atomic_write
from visionloop.core.folders import temporary_folder
from visionloop.pipelines.exporting.comparison import Difference, difference
from visionloop.registry.loaded import LoadedModel
from visionloop.training.trainers import Exported, Exports, Trainer

#: What an export of full precision may differ by: the overlap of boxes, a score, and any other number.
LEAST_OVERLAP, MOST_SCORE, MOST_FURTHER = 0.98, 0.01, 0.5

#: How many pictures are drawn where none are named.
DRAWN = 8

#: The key of an ONNX file's metadata under which a model's description lies as JSON.
DESCRIPTION = "visionloop"

#: How the names of files of each format end.
ENDINGS = {"onnx": ".onnx"}


@dataclass(frozen=True)
class Report:
    """What an export is, and how it was found.

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
        score_difference: The largest difference of a confidence.
        further_difference: The largest difference of another output: a keypoint in pixels of the input, a mask.
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
    least_overlap: float
    score_difference: float
    further_difference: float
    latency_ms: float
    model_latency_ms: float


def exporter(trainer: Trainer, format: str) -> Exports:
    """The trainer, which can write this format.

    Raises:
        InvalidConfig: If it can't; the sentence names the formats that it has.
    """
    formats = trainer.formats if isinstance(trainer, Exports) else ()
    if not isinstance(trainer, Exports) or format not in formats or format not in ENDINGS:
        able = f"give {' or '.join(formats)}" if formats else "its models can't be exported"
        raise InvalidConfig(f"--format {format}: the trainer {trainer.name} does not write it; {able}.")
    return trainer


def export(model: LoadedModel, format: str, pictures: Sequence[NDArray[np.uint8]], target: Path) -> Report:
    """Exports a model, runs the file on pictures, and puts it into a folder if it finds what the model finds.

    Args:
        model: The model.
        format: One of its trainer's formats.
        pictures: In RGB; none are drawn.
        target: Where ``NAME-VERSION.onnx`` is put; other files there stay.

    Raises:
        InvalidConfig: If the trainer does not write the format, or a package is missing.
        OSError: If the file can't be put there.
    """
    trainer = exporter(model.trainer, format)
    with temporary_folder("export") as folder:
        exported = trainer.export(model.checkpoint, format, folder)
        describe(exported, model)
        found, latency, model_latency = _run(exported, pictures or drawn())
        reason = refusal(found)
        file = target / f"{model.version.name}-{model.version.number}{ENDINGS[format]}"
        data = exported.file.read_bytes()
        if not reason:
            target.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as partial:
                partial.write_bytes(data)
    return Report(
        model=model.version.name,
        version=model.version.number,
        format=format,
        precision="fp32",
        accepted=not reason,
        reason=reason,
        file=None if reason else str(file),
        size=len(data),
        sha256=sha256(data),
        pictures=len(pictures) or DRAWN,
        objects=found.objects,
        least_overlap=found.overlap,
        score_difference=found.score,
        further_difference=found.further,
        latency_ms=latency,
        model_latency_ms=model_latency,
    )


def refusal(found: Difference) -> str:
    """Why an export with these differences is refused; empty where it is not."""
    reasons = []
    if not found.overlap >= LEAST_OVERLAP:
        reasons.append(f"boxes overlap by {found.overlap:.4f} only ({LEAST_OVERLAP} at least)")
    if not found.score <= MOST_SCORE:
        reasons.append(f"confidences differ by {found.score:.4f} ({MOST_SCORE} at most)")
    if not found.further <= MOST_FURTHER:
        reasons.append(f"masks or keypoints differ by {found.further:.4f} ({MOST_FURTHER} at most)")
    return "; ".join(reasons)


def describe(exported: Exported, model: LoadedModel) -> None:
    """Writes into a file what is needed to use it: classes, input, training. The version is not known to its training, and stays out."""
    with _installed():
        import onnx
    graph = onnx.load(str(exported.file))
    onnx.checker.check_model(graph)
    described = {
        "task": model.description.task,
        "classes": model.description.classes,
        "keypoints": model.description.keypoints,
        "preprocessing": dict(exported.preprocessing),
        "trainer": model.description.trainer,
        "training_digest": model.description.training_digest,
        "checkpoint_sha256": model.description.checkpoint_sha256,
    }
    if licence := getattr(model.trainer, "licence", None):
        described["licence"] = licence
    onnx.helper.set_model_props(graph, {DESCRIPTION: json.dumps(described, ensure_ascii=False, sort_keys=True)})
    onnx.save(graph, str(exported.file))


def drawn() -> list[NDArray[np.uint8]]:
    """Pictures with rectangles and ellipses of random sizes and colours, the same each time."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(DRAWN):
        size = (160 + 40 * number, 400 - 30 * number)
        image = Image.fromarray(random.integers(90, 140, (size[1], size[0], 3), np.uint8))
        pen = ImageDraw.Draw(image)
        for _ in range(12):
            left, top = (int(random.integers(0, side - 20)) for side in size)
            corners = (left, top, left + int(random.integers(10, 120)), top + int(random.integers(10, 120)))
            colour = tuple(int(part) for part in random.integers(0, 256, 3))
            (pen.ellipse if random.random() < 0.5 else pen.rectangle)(corners, fill=colour)
        pictures.append(np.asarray(image))
    return pictures


def _run(exported: Exported, pictures: Sequence[NDArray[np.uint8]]) -> tuple[Difference, float, float]:
    """The differences on all pictures, and the median times of the file and of the model in milliseconds."""
    with _installed():
        import onnxruntime
    session = onnxruntime.InferenceSession(str(exported.file), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    found, times, model_times = Difference(), list[float](), list[float]()
    for number, pixels in enumerate(pictures):
        inputs = exported.prepared(pixels)
        if not number:  # the first call of both takes longer
            session.run(None, {entry.name: inputs})
            exported.reference(inputs)
        expected = _timed(lambda: exported.reference(inputs), model_times)  # noqa: B023 (called at once)
        outputs = _timed(lambda: session.run(None, {entry.name: inputs}), times)  # noqa: B023
        found = found.joined(difference(exported.rows(expected), exported.rows(outputs)))
    return found, statistics.median(times), statistics.median(model_times)


def _timed(call: Callable[[], Any], times: list[float]) -> Any:
    began = time.perf_counter()
    result = call()
    times.append(round(1000 * (time.perf_counter() - began), 2))
    return result


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    """Turns a missing package into the sentence that names it. Raises InvalidConfig."""
    try:
        yield
    except ImportError as error:
        raise packages.not_installed(error, "model export") from error
