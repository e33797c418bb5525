"""Trainers that each break one promise of the protocol; all else is the toy's."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from example.trainer import ToyPredictor, ToyTrainer
from numpy.typing import NDArray

from visionloop.training.trainers import (
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

#: Every broken trainer, by the name of its entry point.
TRAINERS: dict[str, ToyTrainer] = {}


def broken(kind: type[ToyTrainer]) -> type[ToyTrainer]:
    """Names a trainer by its class, and keeps it."""
    kind.name = kind.__name__.lower()
    TRAINERS[kind.name] = kind()
    return kind


class Passing:
    """Hands on what a trainer reports; a subclass changes some of it."""

    def __init__(self, listener: Listener, job: TrainingJob) -> None:
        self.listener, self.job = listener, job

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        self.listener.batch(epoch, batch, batches)

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        self.listener.images(split, paths)

    def epoch(self, report: EpochReport) -> bool:
        return self.listener.epoch(report)


class Reporting(ToyTrainer):
    """Trains as the toy does, with a listener between."""

    listening: type[Passing] = Passing

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return super().train(job, self.listening(listener, job))


class Evaluating(ToyTrainer):
    """Evaluates as the toy does, and changes the result."""

    def evaluate(self, checkpoint: Path, dataset: Path, *more: Any, **named: Any) -> Evaluation:
        return self.changed(super().evaluate(checkpoint, dataset, *more, **named), dataset)

    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        """The result that is given."""
        return evaluation


class Predicting(ToyTrainer):
    """Predicts as the toy does, and changes each answer."""

    def predictor(self, checkpoint: Path) -> Predictor:
        return ChangedPredictor(checkpoint, self)

    def changed(self, answer: Prediction, pixels: NDArray[np.uint8]) -> list[Prediction]:
        """The answers that are given."""
        return [answer]


class ChangedPredictor(ToyPredictor):
    """The toy's predictor, whose answers its trainer changes."""

    def __init__(self, checkpoint: Path, trainer: Predicting) -> None:
        super().__init__(checkpoint)
        self._trainer = trainer

    def predict(
        self,
        images: Iterable[NDArray[np.uint8]],
        settings: PredictionSettings = PredictionSettings(),  # noqa: B008
    ) -> Iterator[list[Prediction]]:
        for pixels in images:
            (result,) = super().predict([pixels], PredictionSettings(confidence=0))
            yield [answer for entry in result for answer in self._trainer.changed(entry, pixels)]


def settings_with(**changes: Setting) -> Callable[[ToyTrainer, str], Mapping[str, Setting]]:
    """A method that declares further settings."""

    def settings(self: ToyTrainer, task: str) -> Mapping[str, Setting]:
        return {**ToyTrainer.settings(self, task), **changes}

    return settings


# What is declared


@broken
class Misnamed(ToyTrainer):
    """Its name is changed below: it is not the entry point's."""


@broken
class Unpinned(ToyTrainer):
    def requirements(self) -> list[str]:
        return ["numpy>=2"]


@broken
class Unlicensed(ToyTrainer):
    def requirements(self) -> list[str]:
        return ["broken-trainers==1.0"]


@broken
class Unmeasured(ToyTrainer):
    metrics: Mapping[str, tuple[str, ...]] = {"detection": ("mAP50",)}


@broken
class Elsewhere(ToyTrainer):
    def model_task(self, model: str) -> str | None:
        return "pose"


@broken
class Excessive(ToyTrainer):
    settings: Any = settings_with(momentum=Setting(float, 1.5, "momentum", minimum=0, maximum=1))


@broken
class Restless(ToyTrainer):
    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        return {**values, "momentum": values.get("momentum", 0.9) / 2}


@broken
class Literal(ToyTrainer):
    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        return {**values, **({"momentum": float(values["momentum"])} if "momentum" in values else {})}


@broken
class Forgetful(ToyTrainer):
    settings: Any = settings_with(
        momentum=Setting(float, 0.9, "momentum", minimum=0, maximum=1, affects_result=True),
        lr0=Setting(float, 0.01, "rate", minimum=1e-9, maximum=10, affects_result=False),
    )


# What a training does


@broken
class Closing(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        os.closerange(3, 256)
        return super().train(job, listener)


@broken
class Failing(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        raise ZeroDivisionError("the trainer's own")


@broken
class Lossy(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return replace(super().train(job, listener), last=job.work / "none.pt")


@broken
class Parenthetical(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return remeasured(super().train(job, Renaming(listener, job)), renamed)


def remeasured(result: TrainingResult, changed: Callable[[Mapping[str, float]], dict[str, float]]) -> TrainingResult:
    """A result whose history has other metrics of val."""
    return replace(
        result, history=[{**entry, "val_metrics": changed(entry["val_metrics"])} for entry in result.history]
    )


def renamed(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics by the names of a library."""
    return {f"metrics/{name}(B)": value for name, value in values.items()}


class Renaming(Passing):
    def epoch(self, report: EpochReport) -> bool:
        return super().epoch(replace(report, val_metrics=renamed(report.val_metrics)))


@broken
class Unbounded(ToyTrainer):
    """The loss is not a number, and the best value is infinite."""

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return remeasured(super().train(job, Overflowing(listener, job)), overflowed)


def overflowed(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics of which one is not a number."""
    return {**values, "val_loss": math.nan}


class Overflowing(Passing):
    def epoch(self, report: EpochReport) -> bool:
        metrics, seconds = overflowed(report.val_metrics), {"loading": math.inf}
        return super().epoch(replace(report, val_metrics=metrics, best_value=math.inf, seconds=seconds))


@broken
class Partial(Reporting):
    class listening(Passing):
        def images(self, split: str, paths: Iterable[Path | str]) -> None:
            super().images(split, list(paths)[1:])


@broken
class Twice(Reporting):
    class listening(Passing):
        def epoch(self, report: EpochReport) -> bool:
            super().epoch(report)
            return super().epoch(report)


@broken
class Missing(Reporting):
    class listening(Passing):
        def epoch(self, report: EpochReport) -> bool:
            return super().epoch(replace(report, checkpoint=self.job.work / "none.json"))


@broken
class Rewriting(Reporting):
    """It adds to a checkpoint that it has reported, which still can be read."""

    class listening(Passing):
        def epoch(self, report: EpochReport) -> bool:
            go_on = super().epoch(report)
            with report.checkpoint.open("a") as file:
                file.write(" ")
            return go_on


@broken
class Dated(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        result = super().train(job, listener)
        with result.best.open("a") as file:
            file.write(" " * random.SystemRandom().randrange(1, 10**6))
        return result


@broken
class Restarting(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return super().train(replace(job, checkpoint=None), listener)


@broken
class Careless(ToyTrainer):
    """It forgets the momentum when it goes on."""

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        if job.checkpoint:
            state = json.loads(job.checkpoint.read_text())
            if state["epoch"] < int(job.config["epochs"]):
                state["velocity"] = np.zeros_like(state["velocity"]).tolist()
            changed = job.work / "changed.json"
            changed.write_text(json.dumps(state))
            job = replace(job, checkpoint=changed)
        return super().train(job, listener)


@broken
class Overwriting(ToyTrainer):
    """What it writes from the last checkpoint differs from what it wrote after the last epoch."""

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        result = super().train(job, listener)
        if job.checkpoint and json.loads(job.checkpoint.read_text())["epoch"] >= int(job.config["epochs"]):
            result.last.write_text("{}")
        return result


@broken
class Stubborn(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        return super().train(replace(job, batch=int(job.config["batch"])), listener)


@broken
class Swallowing(Reporting):
    class listening(Passing):
        def batch(self, epoch: int, batch: int, batches: int) -> None:
            try:
                super().batch(epoch, batch, batches)
            except MemoryError:
                raise ValueError("no batch") from None


@broken
class Leaving(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        return super().train(job, listener)


@broken
class Writing(ToyTrainer):
    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        for folder in (job.dataset, job.dataset / "labels"):
            folder.chmod(0o755)
        (job.dataset / "labels" / "train.cache").write_text("")
        return super().train(job, listener)


# What an evaluation gives


@broken
class Unnamed(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        return replace(evaluation, metrics={"map": 0.5, **evaluation.metrics})


@broken
class Zero(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        return replace(
            evaluation,
            per_class={name: {"mAP50": 0.0, **evaluation.per_class.get(name, {})} for name in evaluation.classes},
        )


@broken
class Narrow(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        return replace(evaluation, confusion=np.ones((3, 3), int).tolist())


@broken
class Resampling(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        return replace(evaluation, resampled=lambda name, weights: 0.123)


@broken
class Baseless(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        return replace(evaluation, metrics=evaluation.metrics or {"mAP50": 0.0})


@broken
class Archivist(Evaluating):
    def changed(self, evaluation: Evaluation, dataset: Path) -> Evaluation:
        archived = (dataset / "labels.tar").exists()
        return evaluation if archived else replace(evaluation, metrics={**evaluation.metrics, "mAP50": 0.99})


# What a model answers


@broken
class Reversed(Predicting):
    def predictor(self, checkpoint: Path) -> Predictor:
        predictor = super().predictor(checkpoint)
        predictor.classes = predictor.classes[::-1]
        return predictor


@broken
class Choosy(Predicting):
    def changed(self, answer: Prediction, pixels: NDArray[np.uint8]) -> list[Prediction]:
        if min(pixels.shape[:2]) < 2:
            raise ValueError("an image too small")
        return [answer]


@broken
class Unordered(Predicting):
    def changed(self, answer: Prediction, pixels: NDArray[np.uint8]) -> list[Prediction]:
        return [replace(answer, confidence=0.1), replace(answer, confidence=0.2)]


@broken
class Boxless(Predicting):
    def changed(self, answer: Prediction, pixels: NDArray[np.uint8]) -> list[Prediction]:
        return [replace(answer, box=None)]


@broken
class Outside(Predicting):
    def changed(self, answer: Prediction, pixels: NDArray[np.uint8]) -> list[Prediction]:
        return [replace(answer, box=(0.0, 0.0, pixels.shape[1] + 5.0, 1.0))]


@broken
class Talkative(Predicting):
    """It gives answers below the least confidence that it is asked for."""


TRAINERS["misnamed"].name = "another"


def __getattr__(name: str) -> ToyTrainer:
    """The trainer that an entry point names."""
    try:
        return TRAINERS[name]
    except KeyError:
        raise AttributeError(name) from None
