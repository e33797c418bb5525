"""Writes a model in another format, runs the file beside the model itself on the same pictures, and accepts it or says why not."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visionloop.components.evaluate.scenes import Scene
from visionloop.components.export import quality
from visionloop.components.export.comparison import Difference, difference
from visionloop.components.export.formats import FORMATS, MODEL, PROGRAM, PROGRAM_FILE, WEIGHTS, Wanted, exporter
from visionloop.components.export.precision import as_openvino, halved, quantized
from visionloop.components.export.quality import Quality
from visionloop.components.export.result import ExportResult, Speed
from visionloop.components.export.runtimes import RUNTIMES
from visionloop.core import packages
from visionloop.core.canonical import sha256
from visionloop.training.trainers import Exported, Trainer

#: What an export of full precision may differ by: the overlap of boxes, a score, and any other number.
LEAST_OVERLAP, MOST_SCORE, MOST_FURTHER = 0.98, 0.01, 0.5

#: On how many pictures, the first, every object is compared: of a thousand some box is always suppressed in one and not in the other.
COMPARED = 64

#: By how much the metric of an export may differ from the model's, by precision.
MOST_METRIC = {"fp32": 0.005, "fp16": 0.01, "int8": 0.02}

#: The precisions whose numbers may differ as they do: what counts is what they find on the labels.
BY_METRIC = ("fp16", "int8")

#: The program that lies beside a file, and the formats that it runs.
PROGRAM_SOURCE = Path(__file__).with_name(PROGRAM_FILE)
PROGRAM_FORMATS = ("onnx", "openvino")

#: How many pictures are drawn where none are named.
DRAWN = 8

#: The key of a file's metadata under which a model's description lies as JSON: of ONNX in its ``metadata_props``, of OpenVINO in
#: its ``rt_info``, of TorchScript in its extra files.
DESCRIPTION = "visionloop"

#: Called with the number of pictures that both were run on.
Advanced = Callable[[int], None]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What an exported file says of the model besides its input.

    Attributes:
        task: ``detection`` …
        classes: Class names by index.
        keypoints: For pose the names of its keypoints in their order.
        training_digest: The training's result digest.
        checkpoint_sha256: The checkpoint's SHA-256.
        operating_point: The least confidence of an object by class name.
    """

    task: str
    classes: list[str]
    keypoints: list[str]
    training_digest: str
    checkpoint_sha256: str
    operating_point: dict[str, float]


def check_packages(format: str, what: str) -> None:
    """Refuses a format whose packages are not installed here, before anything is computed. Raises InvalidConfig."""
    for name in RUNTIMES[format].packages:
        if find_spec(name) is None:
            raise packages.not_installed(ModuleNotFoundError(name=name), what)


def make(
    trainer: Trainer,
    checkpoint: Path,
    wanted: Wanted,
    described: Described,
    pictures: Iterable[NDArray[np.uint8]],
    folder: Path,
    advanced: Advanced = lambda _: None,
    scenes: Sequence[Scene] = (),
    calibration: Iterable[NDArray[np.uint8]] = (),
) -> tuple[dict[str, Path], ExportResult, Speed]:
    """Exports a model, and runs the file beside it.

    Args:
        trainer: The trainer that loads it.
        checkpoint: The model.
        wanted: Format and precision.
        described: What the file says of the model.
        pictures: In RGB, one at least.
        folder: Where the file is written.
        advanced: Called after each picture.
        scenes: What is true of each picture; without it both are only compared.
        calibration: In RGB, of int8 the pictures that say how large the numbers within the model are.

    Returns:
        The files by output, with the program that runs them where there is one for the trainer's models and the format; how they were
        found, and how fast both are.

    Raises:
        InvalidConfig: If the trainer does not write the format, or a package is missing.
    """
    written = exporter(trainer, wanted).export(checkpoint, wanted.written, folder)
    with _installed():
        exported = replace(written, file=_converted(written, wanted, calibration))
    describe(exported, described, trainer, wanted.format)
    own, its = Quality(exported, described.classes), Quality(exported, described.classes)
    found, number, speed = _run(exported, wanted.format, pictures, advanced, scenes, (own, its))
    value, model_value = its.value(), own.value()
    files = {output: exported.file.with_suffix(ending) for output, ending in FORMATS[wanted.format].endings.items()}
    digests = {output: sha256(file.read_bytes()) for output, file in files.items()}
    reason = refusal(found, wanted.precision, value, model_value)
    metric = quality.WHOLE if described.task == "classification" else quality.BOXES
    result = ExportResult(
        format=wanted.format,
        precision=wanted.precision,
        accepted=not reason,
        reason=reason,
        size=sum(file.stat().st_size for file in files.values()),
        sha256=digests[MODEL],
        weights_sha256=digests.get(WEIGHTS, ""),
        pictures=number,
        objects=found.objects,
        least_overlap=_finite(found.overlap),
        score_difference=_finite(found.score),
        further_difference=_finite(found.further),
        metric=metric if value is not None else "",
        value=value,
        model_value=model_value,
    )
    if exported.outputs and wanted.format in PROGRAM_FORMATS:
        files[PROGRAM] = Path(shutil.copy(PROGRAM_SOURCE, folder))
    return files, result, speed


def _converted(exported: Exported, wanted: Wanted, calibration: Iterable[NDArray[np.uint8]]) -> Path:
    """What the trainer wrote, in the format and precision that are wanted."""
    file, half = exported.file, wanted.precision == "fp16"
    if wanted.precision == "int8":
        file = quantized(file, map(exported.prepared, calibration))
    if wanted.format == "openvino":
        return as_openvino(file, half)
    return halved(file) if half else file


def refusal(
    found: Difference, precision: str = "fp32", value: float | None = None, model_value: float | None = None
) -> str:
    """Why an export with these differences, and these values of the metric where it was measured, is refused; empty where it is not."""
    reasons = []
    if precision in BY_METRIC:
        if value is None or model_value is None:
            reasons.append(f"{precision} is accepted by its metric alone, and there are no labels to measure it by")
    else:
        reasons += _differing(found)
    most = MOST_METRIC[precision]
    if value is not None and model_value is not None and not abs(value - model_value) <= most:
        reasons.append(f"its metric is {value:.4f}, the model's {model_value:.4f} ({most} more or less at most)")
    return "; ".join(reasons)


def _differing(found: Difference) -> Iterator[str]:
    """Which differences of single objects are too large."""
    if not found.overlap >= LEAST_OVERLAP:
        yield f"boxes overlap by {found.overlap:.4f} only ({LEAST_OVERLAP} at least)"
    if not found.score <= MOST_SCORE:
        yield f"confidences differ by {found.score:.4f} ({MOST_SCORE} at most)"
    if not found.further <= MOST_FURTHER:
        yield f"masks or keypoints differ by {found.further:.4f} ({MOST_FURTHER} at most)"


def tolerance(precision: str) -> dict[str, float]:
    """The limits of ``refusal``, as a key has them."""
    limits = {"least_overlap": LEAST_OVERLAP, "score": MOST_SCORE, "further": MOST_FURTHER}
    return ({} if precision in BY_METRIC else limits) | {"metric": MOST_METRIC[precision]}


def describe(exported: Exported, described: Described, trainer: Trainer, format: str) -> None:
    """Writes into a file what is needed to use it: classes, input, training. The version is not known to its training, and stays out."""
    content = msgspec.to_builtins(described) | {
        "preprocessing": dict(exported.preprocessing),
        "outputs": dict(exported.outputs),
        "trainer": trainer.name,
    }
    if licence := getattr(trainer, "licence", None):
        content["licence"] = licence
    with _installed():
        RUNTIMES[format].describe(exported.file, DESCRIPTION, json.dumps(content, ensure_ascii=False, sort_keys=True))


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


def _run(
    exported: Exported,
    format: str,
    pictures: Iterable[NDArray[np.uint8]],
    advanced: Advanced,
    scenes: Sequence[Scene],
    measured: tuple[Quality, Quality],
) -> tuple[Difference, int, Speed]:
    """The differences on the first pictures, the number of all, and the median times of the file and of the model.

    Adds what both find where something is true of the pictures: to the first of ``measured`` the model's, to the second the file's.
    """
    with _installed():
        computed = RUNTIMES[format].load(exported.file)
    found, times, model_times = Difference(), list[float](), list[float]()
    for number, pixels in enumerate(pictures, 1):
        inputs = exported.prepared(pixels)
        if number == 1:  # the first calls of both take longer
            for run in (computed, exported.reference) * 2:
                run(inputs)
        expected = _timed(lambda: exported.reference(inputs), model_times)  # noqa: B023 (called at once)
        outputs = _timed(lambda: computed(inputs), times)  # noqa: B023
        both = exported.rows(expected), exported.rows(outputs)
        if number <= COMPARED:
            found = found.joined(difference(*both))
        if scenes and (both[0].boxes is None or exported.located is not None):
            for quality_of, rows in zip(measured, both, strict=True):
                quality_of.add(rows, scenes[number - 1], pixels.shape[:2])
        advanced(number)
    speed = Speed(latency_ms=statistics.median(times), model_latency_ms=statistics.median(model_times))
    return found, len(times), speed


def _timed(call: Callable[[], Any], times: list[float]) -> Any:
    began = time.perf_counter()
    result = call()
    times.append(round(1000 * (time.perf_counter() - began), 2))
    return result


def _finite(value: float) -> float | None:
    """A number as JSON can hold it; None for what is not finite."""
    return float(value) if math.isfinite(value) else None


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    """Turns a missing package into the sentence that names it. Raises InvalidConfig."""
    try:
        yield
    except ImportError as error:
        raise packages.not_installed(error, "An export") from error
