"""A toy detector that really detects, its trainer and its train stage, and a dataset for it: rectangles on black.

A checkpoint is a JSON file. ``offset`` shifts every box by so many pixels, so models differ in how good they are; ``dim`` those of
one class further, and ``jitter`` those of each image by chance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from visionloop.components.evaluate.matching import box_of, match, overlap
from visionloop.core import catalog, receipts
from visionloop.core.errors import OutOfMemory
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Attempt, Computed, Context, Outcome, Resolution, argument
from visionloop.data.annotations.crowds import Crowd
from visionloop.data.decoding import decode
from visionloop.data.view import read_crowds
from visionloop.registry import fresh
from visionloop.training.catalog import TRAINERS
from visionloop.training.trainers import PROTOCOL, ClassCurves, Evaluation, Prediction, PredictionSettings

CLASSES = ("dim", "bright")
BRIGHTNESS = {100: 0, 200: 1}
SIZE = 96

_DEFAULTS = PredictionSettings()

#: What a training says that it took.
GPU_HOURS = 1.5


class ToyPredictor:
    """Finds one rectangle of each brightness."""

    def __init__(self, checkpoint: Path) -> None:
        value = json.loads(checkpoint.read_text())
        self.classes = tuple(value["classes"])
        self._offset = value["offset"]
        self.dim = value.get("dim", 0)
        self._jitter = value.get("jitter", 0)

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        for picture in images:
            pixels = picture[..., 0]
            shift = self._offset + self._chance(pixels)
            results = []
            for brightness, index in BRIGHTNESS.items():
                rows, columns = np.nonzero(pixels == brightness)
                if len(rows):
                    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float) + shift
                    box += self.dim if index == 0 else 0
                    x1, y1, x2, y2 = map(float, box)
                    results.append(Prediction(min(index, len(self.classes) - 1), 0.9, (x1, y1, x2, y2)))
            yield [entry for entry in results if entry.confidence >= settings.confidence]

    def _chance(self, pixels: NDArray[np.uint8]) -> int:
        """0 to 5 pixels by the picture, of each jitter others; none without."""
        return hashlib.sha256(f"{self._jitter}".encode() + pixels.tobytes()).digest()[0] % 6 if self._jitter else 0


class ToyTrainer:
    """The protocol's part that evaluate and register use."""

    name = "toy"
    distribution: str | None = None
    protocol = PROTOCOL
    logic_version = 1
    tasks = frozenset({"detection"})
    metrics: ClassVar = {"detection": ("mAP50-95", "mAP50", "box_loss", "lost")}

    def __init__(self) -> None:
        self.evaluated: list[Path] = []
        self.configs: list[dict[str, Any]] = []
        self.crowds: dict[str, list[Crowd]] = {}
        self.largest_batch = 16
        self.right: list[float] = []
        self.wrong: list[float] = []
        self.resampled: Callable[[str, Any], float | None] | None = None
        self.absent: dict[str, dict[str, str]] = {}
        self.curves: dict[str, ClassCurves] = {}

    def evaluate(
        self, checkpoint: Path, dataset: Path, split: str, config: Mapping[str, Any], work: Path, on_batch: Any
    ) -> Evaluation:
        print("chatter on stdout")
        self.configs.append(dict(config))
        self.crowds = read_crowds(dataset)
        if config["batch"] > self.largest_batch:
            raise OutOfMemory("The GPU's memory is used up; lower batch.")
        self.evaluated.append(checkpoint)
        predictor = ToyPredictor(checkpoint)
        images = sorted((dataset / "images" / split).iterdir())
        pictures = (decode(path.read_bytes()) for path in images)
        overlaps, by_image, result, objects = [], [], 0, 0
        found: list[tuple[int, float]] = []
        background = len(predictor.classes)
        confusion = [[0] * (background + 1) for _ in range(background + 1)]
        for number, (path, predicted) in enumerate(zip(images, predictor.predict(pictures), strict=True)):
            label = dataset / "labels" / split / f"{path.stem}.txt"
            truth = [_true(line, background - 1) for line in label.read_text().splitlines()]
            missed, _ = match(truth, predicted)
            objects += len(truth)
            result += len(truth) - len(missed)
            for entry in truth:
                best = max((overlap(box_of(entry), box_of(other)) for other in predicted), default=0.0)
                overlaps.append(best)
                found.append((entry.class_index, best))
                confusion[entry.class_index if best >= 0.5 else background][entry.class_index] += 1
            by_image.append(float(np.mean(overlaps[-len(truth) :])) if truth else 0.0)
            on_batch(number + 1, len(images))
        mean = float(np.mean(overlaps))
        metrics = {"mAP50": result / objects, "mAP50-95": mean, "box_loss": 1 - mean, "lost": float("nan")}
        per_class = {name: {"mAP50-95": mean} for name in predictor.classes}
        if predictor.dim:
            of = {
                name: [best for index, best in found if index == number]
                for number, name in enumerate(predictor.classes)
            }
            per_class = {name: {"mAP50-95": float(np.mean(values))} for name, values in of.items()}
        return Evaluation(
            metrics,
            per_class,
            len(images),
            confusion,
            right=self.right,
            wrong=self.wrong,
            not_measured_per_class=self.absent,
            classes=predictor.classes,
            resampled=self.resampled or _mean_overlap(by_image),
            files=[f"images/{split}/{path.name}" for path in images],
            curves=self.curves,
        )

    def predictor(self, checkpoint: Path) -> ToyPredictor:
        return ToyPredictor(checkpoint)

    def requirements(self) -> list[str]:
        return ["numpy"]


def _mean_overlap(by_image: Sequence[float]) -> Callable[[str, Any], float | None]:
    """Measures samples of mAP50-95."""

    def resampled(name: str, weights: Any) -> float | None:
        return float(by_image @ weights / weights.sum()) if name == "mAP50-95" else None

    return resampled


def _true(line: str, last: int) -> Prediction:
    index, x, y, width, height = (float(value) for value in line.split())
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return Prediction(min(int(index), last), 1.0, (SIZE * left, SIZE * top, SIZE * right, SIZE * bottom))


@dataclass(frozen=True)
class _EntryPoint:
    name: str
    value: Any
    dist: None = None

    def load(self) -> Any:
        return self.value


def install(patch: pytest.MonkeyPatch, trainer: ToyTrainer | None = None) -> ToyTrainer:
    """Adds the trainer as an entry point of its own would."""
    trainer = trainer or ToyTrainer()
    real = catalog.entry_points

    def entry_points(**wanted: Any) -> list[Any]:
        extra = [_EntryPoint(trainer.name, trainer)] if wanted["group"] == TRAINERS else []
        return [*real(**wanted), *(entry for entry in extra if wanted.get("name", entry.name) == entry.name)]

    patch.setattr(catalog, "entry_points", entry_points)
    # It is of no module that a fresh process could import.
    patch.setattr(fresh, "check_loads", lambda *_: None)
    # What was loaded before counts again once the patch ends, and this trainer no longer.
    patch.setattr(catalog, "load", cache(catalog.load.__wrapped__))
    return trainer


@dataclass(frozen=True)
class ToyArguments:
    converted: str = argument("The convert receipt.")
    snapshot: str = argument("The snapshot's receipt.")
    offset: int = argument("How far off the boxes are.", default=0)
    primary_metric: str = argument("The primary metric.", default="mAP50-95")
    mode: str = argument("Its mode.", default="max")
    conf: float = argument("Least confidence that counts.", default=0.001)
    seed: int = argument("Another training, with an equally good model.", default=0)
    classes: str = argument("Names of other classes.", default=",".join(CLASSES))
    trainer: str = argument("The trainer.", default="toy")
    model: str = argument("The starting weights, as their key has them.", default="")
    dim: int = argument("How much further off the boxes of the class dim are.", default=0)
    jitter: int = argument("By which chance the boxes of an image are off.", default=0)


class ToyTrainStage:
    """Makes what the train stage makes: the receipt of a training."""

    name = "train"
    logic_version = 1
    policy = replace(POLICIES["train"], gpus=0)
    arguments = ToyArguments
    description = "Trains the toy detector."

    def resolve(self, context: Context, arguments: ToyArguments) -> Resolution:
        values = {
            "trainer": arguments.trainer,
            "primary_metric": arguments.primary_metric,
            "primary_metric_mode": arguments.mode,
            "imgsz": SIZE,
            "batch": 4,
            "conf": arguments.conf,
            "seed": arguments.seed,
            "offset": arguments.offset,
            **{name: getattr(arguments, name) for name in ("model", "dim", "jitter") if getattr(arguments, name)},
        }
        return Resolution(
            inputs={
                "converted": receipts.load(arguments.converted, "convert").reference,
                "snapshot": receipts.load(arguments.snapshot, "snapshot").reference,
            },
            parameters={name: Parameter(value, "argument") for name, value in values.items()},
            loaded=arguments,
        )

    def compute(self, context: Context, resolution: Resolution, attempt: Attempt) -> Computed:
        arguments: ToyArguments = resolution.loaded
        checkpoint: dict[str, Any] = {"classes": arguments.classes.split(","), "offset": arguments.offset}
        checkpoint |= {name: getattr(arguments, name) for name in ("dim", "jitter") if getattr(arguments, name)}
        attempt.write("best", "best.pt", msgspec.json.encode(checkpoint), result=True)
        last = msgspec.json.encode({**checkpoint, "seed": arguments.seed})
        attempt.write("last", "last.pt", last, result=True)
        timings = {"gpu_hours": GPU_HOURS}
        return Computed(
            scalars={"best_epoch": 1}, timings=timings, tracking={"mlflow": {"run_id": "0" * 32, "url": None}}
        )


def write_dataset(folder: Path, *, images: int = 8, classes: Sequence[str] = CLASSES) -> Path:
    """A DICE dataset for detection: each image has one rectangle of each class; every fourth image is test."""
    entries = []
    for number in range(images):
        pixels = np.zeros((SIZE, SIZE), np.uint8)
        annotations = []
        for brightness, index in BRIGHTNESS.items():
            x, y, width, height = 4 + 45 * index + number % 3, 10 + 2 * (number % 20), 20, 24 + 4 * index
            pixels[y : y + height, x : x + width] = brightness
            annotations.append(
                {
                    "id": 2 * number + index,
                    "class_id": index,
                    "class_name": classes[index],
                    "bbox": [x, y, width, height],
                }
                | {"bbox_format": "xywh", "area": width * height, "iscrowd": 0}
            )
        split = ("train", "val", "train", "test")[number % 4]
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        entries.append(
            {"id": number, "file_name": path.name, "width": SIZE, "height": SIZE, "split": split}
            | {"annotations": annotations}
        )
    document = {
        "format_version": "1.0",
        "dataset_id": "rectangles",
        "task_type": "object_detection",
        "classes": [{"id": index, "name": name} for index, name in enumerate(classes)],
        "images": entries,
    }
    (folder / "annotations_detection.json").write_text(json.dumps(document))
    return folder


@dataclass(frozen=True)
class Prepared:
    """A workspace with a snapshot and a converted dataset in it."""

    workspace: str
    snapshot: str
    converted: str

    def train(self, offset: int = 0, **overrides: Any) -> str:
        """The URI of a training's receipt; the smaller the offset, the better the model."""
        arguments = {"converted": self.converted, "snapshot": self.snapshot, "offset": offset, **overrides}
        return published(run(ToyTrainStage(), arguments, self.workspace)).uri

    def evaluate(self, training: str, name: str, **options: Any) -> Outcome:
        """Evaluates a training."""
        from visionloop.components.evaluate import STAGE

        force, name_of_run = options.pop("force", False), options.pop("run", None)
        arguments = {"training": training, "snapshot": self.snapshot, "model_name": name, **options}
        return run(STAGE, arguments, self.workspace, force=force, run=name_of_run)

    def register(self, evaluation: Outcome | str, name: str, **options: Any) -> Outcome:
        """Registers an evaluated training."""
        from visionloop.components.register import STAGE

        force, name_of_run = options.pop("force", False), options.pop("run", None)
        uri = evaluation if isinstance(evaluation, str) else published(evaluation).uri
        arguments = {"evaluation": uri, "model_name": name, **options}
        return run(STAGE, arguments, self.workspace, force=force, run=name_of_run)


def run(
    stage: Any, arguments: Mapping[str, Any], workspace: str, *, force: bool = False, run: str | None = None
) -> Outcome:
    """Runs one stage as a target does."""
    return run_stage(stage, arguments, Invocation(workspace=workspace, force=force, run=run))


def published(outcome: Outcome) -> Result:
    """The receipt of a stage that has one."""
    assert outcome.result is not None
    return outcome.result


def prepare(folder: Path, workspace: str, on_error: str = "fail") -> Prepared:
    """Takes a dataset as far as convert."""
    from visionloop.components import convert, snapshot, validate

    taken = published(run(snapshot.STAGE, {"dataset": str(folder)}, workspace)).uri
    report = published(run(validate.STAGE, {"snapshot": taken, "on_error": on_error}, workspace)).uri
    converted = published(run(convert.STAGE, {"snapshot": taken, "report": report}, workspace)).uri
    return Prepared(workspace, taken, converted)
