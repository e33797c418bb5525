"""A trainer from outside the package: softmax regression on the pixels of each object, in seconds and without torch.

It is a real training: momentum, a moving average of the weights and the state of its random numbers are carried from epoch
to epoch, so a resume that loses one of them ends with other bytes. ``fault`` makes an attempt that does not resume go wrong
after ``fault_after`` epochs; ``hold_until`` names a file that must exist before it goes on after ``hold_after`` epochs.
``passed_over`` names images that it does not train on; with ``reports_images`` false it says nothing of which it does.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visionloop.core.errors import InvalidConfig, OutOfMemory
from visionloop.core.policy import POLICIES, StagePolicy
from visionloop.training.stopwatch import COMPUTING, LOADING, VALIDATING, Stopwatch
from visionloop.training.trainers import (
    PROTOCOL,
    EpochReport,
    Evaluation,
    Listener,
    Prediction,
    PredictionSettings,
    Predictor,
    Setting,
    TrainingJob,
    TrainingResult,
)

SIDE = 8
MOVING_AVERAGE = 0.9
ARCHITECTURE = "softmax"
FAULTS = ("none", "silent", "killed", "terminated", "crashed", "diverged", "defect")

Array = NDArray[np.float64]

_DEFAULTS = PredictionSettings()


class ToyTrainer:
    """The protocol is `visionloop.training.trainers.Trainer`."""

    name = "toy"
    protocol = PROTOCOL
    logic_version = 1
    tasks = frozenset({"detection"})
    policy: StagePolicy = replace(POLICIES["train"], image="example-trainer", gpus=0)
    metrics: Mapping[str, tuple[str, ...]] = {"detection": ("mAP50-95", "mAP50", "precision", "recall", "val_loss")}
    demos: Mapping[str, Mapping[str, str]] = {"detection": {"epochs": "4", "batch": "8", "lr0": "1"}}

    def settings(self, task: str) -> Mapping[str, Setting]:
        """Beside the basic ones: the momentum, and what goes wrong, which decides no result."""
        return {
            "model": Setting(str, ARCHITECTURE, "the architecture"),
            "momentum": Setting(float, 0.9, "momentum", minimum=0, maximum=1),
            "fault": Setting(str, "none", "what goes wrong", choices=FAULTS, affects_result=False),
            "fault_after": Setting(int, 1, "epochs before it goes wrong", minimum=0, affects_result=False),
            "fits": Setting(int, 65_536, "the largest batch that fits", minimum=1, affects_result=False),
            "hold_after": Setting(int, 1, "epochs before it waits", minimum=0, affects_result=False),
            "hold_until": Setting(str, None, "a file to wait for", optional=True, affects_result=False),
            "passed_over": Setting(str, None, "names of images left out", optional=True, affects_result=False),
            "reports_images": Setting(bool, True, "whether it says what it trains on", affects_result=False),
        }

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Nothing is spelled otherwise here."""
        return values

    def model_task(self, model: str) -> str | None:
        """Its one architecture is for detection."""
        return "detection" if model == ARCHITECTURE else None

    def weights_names(self, model: str) -> tuple[str, ...]:
        """It has no weights to start from."""
        return ()

    def is_architecture(self, model: str) -> bool:
        """Whether it is the one that there is."""
        return model == ARCHITECTURE

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, or makes the result of a checkpoint that is a finished training's."""
        print("a library's chatter in a training")
        state = json.loads(job.checkpoint.read_text()) if job.checkpoint else None
        path = job.checkpoint
        if state is None or state["epoch"] < int(job.config["epochs"]):
            state, path = _train(job, listener, state)
        assert path is not None
        best = _write({"classes": list(job.classes), "weights": state["best"]}, job.work / "best.pt")
        last = _write({"classes": list(job.classes), "weights": state["average"]}, job.work / "last.pt")
        plot = job.work / "loss.txt"
        plot.write_text("\n".join(str(entry["val_metrics"]["val_loss"]) for entry in state["history"]))
        return TrainingResult(
            best=best,
            last=last,
            best_epoch=state["best_epoch"],
            epochs=state["epoch"],
            history=state["history"],
            plots=[plot],
            batch=state["batch"],
        )

    def evaluate(
        self,
        checkpoint: Path,
        dataset: Path,
        split: str,
        config: Mapping[str, Any],
        work: Path,
        on_batch: Callable[[int, int], None],
    ) -> Evaluation:
        """How often an object's class is the likeliest one."""
        model = json.loads(checkpoint.read_text())
        pixels, truth = _objects(dataset, split)
        print("a library's chatter on stdout")
        weights, classes = np.array(model["weights"]), tuple(model["classes"])
        on_batch(1, 1)
        present = {name: truth == index for index, name in enumerate(classes) if (truth == index).any()}
        own = {name: _measure(weights, pixels[of_class], truth[of_class]) for name, of_class in present.items()}
        return Evaluation(
            metrics=_measure(weights, pixels, truth) if present else {},
            per_class={name: {"mAP50": metrics["mAP50"]} for name, metrics in own.items()},
            images=len(_images(dataset, split)),
            not_measured={} if present else dict.fromkeys(self.metrics["detection"], "there is no object"),
            not_measured_per_class={name: {"mAP50": "no object of it"} for name in classes if name not in present},
            classes=classes,
        )

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a model file."""
        return ToyPredictor(checkpoint)

    def requirements(self) -> list[str]:
        """What loading a model needs."""
        return [f"numpy=={np.__version__}"]


class ToyPredictor:
    """Sees one object in each image: all of it."""

    def __init__(self, checkpoint: Path) -> None:
        model = json.loads(checkpoint.read_text())
        self.classes = tuple(model["classes"])
        self._weights: Array = np.array(model["weights"])

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        """Yields at most one object an image."""
        for pixels in images:
            image = Image.fromarray(pixels)
            chances = _chances(self._weights, _features(image.convert("L"))[None])[0]
            box = (0.0, 0.0, float(image.width), float(image.height))
            result = Prediction(int(chances.argmax()), float(chances.max()), box)
            yield [result] if result.confidence >= settings.confidence else []


def _train(job: TrainingJob, listener: Listener, state: dict[str, Any] | None) -> tuple[dict[str, Any], Path]:
    config, fresh = job.config, state is None
    if job.batch > config["fits"]:
        raise OutOfMemory(f"A batch of {job.batch} does not fit; {config['fits']} does.")
    for split in ("train", "val") if config["reports_images"] else ():
        listener.images(split, [path for path in _images(job.dataset, split) if path.name not in passed_over(config)])
    pixels, truth = _objects(job.dataset, "train", passed_over(config))
    held_out = _objects(job.dataset, "val")
    chance = np.random.default_rng(int(config["seed"]))
    shape = (pixels.shape[1], len(job.classes))
    if state is None:
        weights = chance.normal(0, 0.01, shape)
        state = {"epoch": 0, "weights": weights.tolist(), "average": weights.tolist(), "history": [], "best_epoch": 0}
        state |= {"velocity": np.zeros(shape).tolist(), "batch": job.batch, "best": weights.tolist()}
    else:
        chance.bit_generator.state = state["chance"]
    weights, velocity, average = (np.array(state[name]) for name in ("weights", "velocity", "average"))
    path, watch = job.work / "none", Stopwatch()
    for epoch in range(state["epoch"] + 1, int(config["epochs"]) + 1):
        if fresh and epoch == config["fault_after"] + 1:
            _go_wrong(config["fault"])
        watch.lap()
        rate = config["lr0"] / epoch
        order = chance.permutation(len(pixels))
        batches = [order[start : start + job.batch] for start in range(0, len(order), job.batch)]
        watch.lap(LOADING)
        for number, batch in enumerate(batches, 1):
            error = _chances(weights, pixels[batch])
            error[np.arange(len(batch)), truth[batch]] -= 1
            velocity = config["momentum"] * velocity - rate * pixels[batch].T @ error / len(batch)
            weights = weights + velocity
            average = MOVING_AVERAGE * average + (1 - MOVING_AVERAGE) * weights
            listener.batch(epoch, number, len(batches))
            watch.begin()
            watch.lap(COMPUTING)
        measured = _measure(average, *held_out)
        watch.lap(VALIDATING)
        better = measured["val_loss"] < min((e["val_metrics"]["val_loss"] for e in state["history"]), default=np.inf)
        history = [*state["history"], {"epoch": epoch, "train_metrics": {"lr": rate}, "val_metrics": measured}]
        state = {
            "epoch": epoch,
            "weights": weights.tolist(),
            "velocity": velocity.tolist(),
            "average": average.tolist(),
            "best": average.tolist() if better else state["best"],
            "best_epoch": epoch if better else state["best_epoch"],
            "history": history,
            "chance": chance.bit_generator.state,
            "batch": job.batch,
        }
        path = _write(state, job.work / f"epoch_{epoch}.json")
        report = EpochReport(
            epoch,
            {"lr": rate},
            measured,
            path,
            state["best_epoch"],
            measured["mAP50-95"],
            seconds=watch.epoch(),
            train_batches=len(batches),
        )
        if not listener.epoch(report):
            break
        _hold(config, epoch, listener)
    return state, path


def _go_wrong(fault: str) -> None:
    match fault:
        case "silent":
            time.sleep(3600)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        case "crashed":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "diverged":
            raise InvalidConfig("Training diverged; lower lr0.")
        case "defect":
            raise ZeroDivisionError("the toy's own")
        case _:
            pass


def _hold(config: Mapping[str, Any], epoch: int, listener: Listener) -> None:
    while config["hold_until"] and epoch >= config["hold_after"] and not Path(config["hold_until"]).exists():
        listener.batch(epoch, 1, 1)
        time.sleep(0.1)


def passed_over(config: Mapping[str, Any]) -> list[str]:
    """The names of the images that are left out."""
    return str(config["passed_over"] or "").split(",")


def _images(dataset: Path, split: str) -> list[Path]:
    return sorted((dataset / "images" / split).rglob("*.png"))


def _objects(dataset: Path, split: str, without: Sequence[str] = ()) -> tuple[Array, NDArray[np.int64]]:
    """Features and class indices of a split's objects, in the order of file names."""
    features, truth = [], []
    for picture in _images(dataset, split):
        if picture.name in without:
            continue
        label = dataset / "labels" / picture.relative_to(dataset / "images").with_suffix(".txt")
        with Image.open(picture) as opened:
            image = opened.convert("L")
        for line in label.read_text().splitlines():
            index, x, y, width, height = (float(value) for value in line.split())
            left, right = round((x - width / 2) * image.width), round((x + width / 2) * image.width)
            top, bottom = round((y - height / 2) * image.height), round((y + height / 2) * image.height)
            features.append(_features(image.crop((left, top, right, bottom))))
            truth.append(int(index))
    return np.array(features), np.array(truth)


def _features(image: Image.Image) -> Array:
    return 1 - np.asarray(image.resize((SIDE, SIDE)), dtype=np.float64).ravel() / 255


def _chances(weights: Array, pixels: Array) -> Array:
    scores = pixels @ weights
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _measure(weights: Array, pixels: Array, truth: NDArray[np.int64]) -> dict[str, float]:
    chances = _chances(weights, pixels)
    right = float((chances.argmax(axis=1) == truth).mean())
    loss = float(-np.log(chances[np.arange(len(truth)), truth]).mean())
    # Where each object is, it is told, so what is found is what is right.
    return {"mAP50": right, "mAP50-95": right / 2, "precision": right, "recall": right, "val_loss": loss}


def _write(value: Mapping[str, Any], path: Path) -> Path:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value))
    return partial.replace(path)


TRAINER = ToyTrainer()
