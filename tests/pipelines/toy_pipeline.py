"""Toy stages in the places of the real ones, so that the graph itself can run in seconds.

Each takes the arguments of its real stage, makes its key from all of them, and writes a line into the file that TOY_LOG
names when it computes. TOY_VERDICT is evaluate's verdict; TOY_SKIP is snapshot's reason not to go on; TOY_FAIL names a stage
that ends with 65.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.snapshot.retraining.policy import ALWAYS, Decision
from visionloop.core import receipts
from visionloop.core.errors import InvalidDataset
from visionloop.core.policy import POLICIES, StagePolicy
from visionloop.core.receipts import Parameter
from visionloop.core.stage import Attempt, Computed, Context, Resolution, argument
from visionloop.training.configuration import merge_settings
from visionloop.training.trainers import PROTOCOL, Setting

#: Each stage's arguments: "!" after a receipt's URI that is an input, a default otherwise.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "snapshot": {
        "dataset": "",
        "snapshot": "",
        "task": "",
        "split": "",
        "model_name": "",
        "retraining": "",
        "settings": "",
        "gate": "",
        "dataset_format": "",
        "classes": "",
        "where": "",
        "checks": "",
        "shards": "",
        "slices": "",
        "costs": "",
        "export": "",
    },
    "validate": {
        "snapshot": "!",
        "mode": "headers",
        "on_error": "fail",
        "checks": "",
        "settings": "",
        "shards": "",
        "shard": "",
    },
    "convert": {"snapshot": "!", "report": "!", "shards": "", "shard": ""},
    "train": {
        "converted": "!",
        "snapshot": "!",
        "set": (),
        "settings": "",
        "model_name": "",
        "run_name": "",
        "description": "",
    },
    "evaluate": {
        "training": "!",
        "snapshot": "!",
        "model_name": "",
        "gate": "",
        "slices": "",
        "costs": "",
        "model": "",
        "converted": "",
        "split_name": "",
        "settings": "",
        "tile": "",
    },
    "export": {"evaluation": "!", "export": ""},
    "register": {"evaluation": "!", "model_name": "", "storage": "", "approve": "", "exports": ""},
}
STAGE_OF = {"converted": "convert", "report": "validate", "training": "train", "evaluation": "evaluate"}
OUTSIDE_THE_KEY = {"run_name", "description", "retraining", "shards", "shard"}
#: What snapshot takes for its check of the run's arguments alone, and what validate needs imgsz of.
CHECKED = {
    ("snapshot", "settings"),
    ("snapshot", "gate"),
    ("snapshot", "checks"),
    ("snapshot", "slices"),
    ("snapshot", "costs"),
    ("snapshot", "export"),
    ("validate", "settings"),
}
SCALARS: dict[str, dict[str, Any]] = {
    "snapshot": {"snapshot_id": "snap_0123456789ab"},
    "validate": {"errors": 0, "quarantined": 0},
    "register": {"version": 7, "alias": "champion"},
}


def _arguments(name: str) -> type[Any]:
    entries: list[Any] = []
    for key, default in ARGUMENTS[name].items():
        if default == "!":
            entries.append((key, str, argument(f"The {key}.")))
        elif default == ():
            entries.append((key, list[str], argument(f"The {key}.", default=(), repeated=True)))
        else:
            entries.append((key, str, argument(f"The {key}.", default=default)))
    return make_dataclass(f"{name.title()}Arguments", entries, frozen=True)


class ToyStage:
    """One toy."""

    logic_version = 1

    def __init__(self, name: str) -> None:
        self.name = name
        self.arguments = _arguments(name)
        self.description = f"The toy {name}."

    @property
    def policy(self) -> StagePolicy:
        return POLICIES[self.name]

    def resolve(self, context: Context, arguments: Any) -> Resolution:
        resolution = Resolution()
        if self.name == "snapshot":
            skip = os.environ.get("TOY_SKIP")
            resolution.run_scalars = (Decision(False, skip) if skip else ALWAYS).scalars() | {"shards": []}
        for entry in fields(arguments):
            value = getattr(arguments, entry.name)
            if ARGUMENTS[self.name][entry.name] == "!":
                result = receipts.load(value, STAGE_OF.get(entry.name, entry.name))
                resolution.inputs[entry.name] = result.reference
            elif entry.name not in OUTSIDE_THE_KEY and (self.name, entry.name) not in CHECKED:
                resolution.parameters[entry.name] = Parameter(value, "argument")
        if self.name == "train":
            del resolution.parameters["set"]
            settings = merge_settings(arguments.set, arguments.settings)
            resolution.parameters["settings"] = Parameter(settings, "argument")
        return resolution

    def compute(self, context: Context, resolution: Resolution, attempt: Attempt) -> Computed:
        with Path(os.environ["TOY_LOG"]).open("a") as log:
            log.write(f"{self.name}\n")
        if os.environ.get("TOY_FAIL") == self.name:
            raise InvalidDataset("annotations.json: images[3] has no file_name; add it.")
        content = {name: parameter.value for name, parameter in resolution.parameters.items()}
        attempt.write("told", "told.json", msgspec.json.encode(content, order="sorted"), result=True)
        attempt.write("page", "report.html", f"<h1>{self.name}</h1>".encode(), result=False)
        if self.name == "evaluate":
            confusion = {"classes": ["cat", "dog"], "confusion": [[5, 1, 0], [2, 6, 1], [0, 1, 0]]}
            attempt.write("confusion", "confusion.json", msgspec.json.encode(confusion), result=False)
            verdict = os.environ.get("TOY_VERDICT", "promote")
            return Computed(scalars={"verdict": verdict, "reason": "TOY_VERDICT says so."}, metrics={"mAP50": 0.75})
        return Computed(scalars=dict(SCALARS.get(self.name, {})), metrics={"mAP50": 0.5})


SNAPSHOT, VALIDATE, CONVERT, TRAIN, EVALUATE, EXPORT, REGISTER = (ToyStage(name) for name in ARGUMENTS)


class ToyTrainer:
    """A third party's trainer, as far as a compiled pipeline knows it."""

    name = "toy"
    protocol = PROTOCOL
    logic_version = 1
    tasks = frozenset({"detection"})
    metrics: Mapping[str, tuple[str, ...]] = {"detection": ("mAP50-95",)}
    policy = StagePolicy(image="toy-trainer", cpu_request="3", memory_limit="5Gi", gpus=2, timeout=7200, attempts=5)

    def settings(self, task: str) -> dict[str, Setting]:
        """None besides the basic ones."""
        return {}

    def model_task(self, model: str) -> str | None:
        """Every model is for its only task."""
        return "detection"

    def requirements(self) -> list[str]:
        """None."""
        return []


TOY_TRAINER = ToyTrainer()
