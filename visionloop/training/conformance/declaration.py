"""Checks of what a trainer declares: they train nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from typing import Any

from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.packages import version_of
from visionloop.core.policy import StagePolicy
from visionloop.training import catalog
from visionloop.training.configuration.settings import BASIC, IMGSZ_MULTIPLE, PRIMARY_METRICS
from visionloop.training.configuration.values import canonical_value
from visionloop.training.conformance.outcomes import Broken, Checks, refused, require
from visionloop.training.conformance.subject import SETTINGS, Subject
from visionloop.training.licences import licence_of
from visionloop.training.measurement import PREFIXES, TASK_METRICS
from visionloop.training.trainers import Setting, Trainer, Value

#: The metrics of each task that another trainer's model can be compared by: of what the task is about.
METRICS: Mapping[str, tuple[str, ...]] = {
    task: tuple(name for name in names if name.startswith(PREFIXES.get(task, ("",))[-1]))
    for task, names in TASK_METRICS.items()
}

#: What the protocol's methods are called.
METHODS = (
    "settings",
    "normalise",
    "model_task",
    "weights_names",
    "is_architecture",
    "train",
    "evaluate",
    "predictor",
    "requirements",
)

#: Lists the modules that the import of a trainer's module brings, besides those of Visionloop's own protocol.
IMPORTS = """
import importlib, json, sys
import visionloop.core.policy, visionloop.training.catalog, visionloop.training.configuration
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})), file=sys.stderr)
"""

#: What is a setting of nobody's.
UNKNOWN = "no_such_setting_of_anybody"


@dataclass(frozen=True)
class Declared:
    """A trainer by its name, before anything is known of its tasks."""

    name: str
    trainer: Trainer


GENERAL: Checks[Declared] = Checks()
OF_TASK: Checks[Subject] = Checks()


@GENERAL.add
def attributes(declared: Declared) -> None:
    """Name, protocol, logic version, tasks, policy and methods are what the protocol asks for."""
    trainer: Any = declared.trainer
    catalog.check_protocol(trainer, declared.name)
    require(
        trainer.name == declared.name,
        f"name is {trainer.name!r}, and the entry point {declared.name!r}: make them equal.",
    )
    logic = trainer.logic_version
    require(type(logic) is int and logic > 0, f"logic_version is {logic!r}: give a whole number from 1.")
    tasks = trainer.tasks
    unknown = sorted(set(tasks) - set(PRIMARY_METRICS))
    require(not unknown, f"tasks has {', '.join(map(str, unknown))}: give some of {', '.join(PRIMARY_METRICS)}.")
    require(isinstance(tasks, frozenset) and tasks, "tasks is not a frozenset of one or more: give one.")
    require(
        isinstance(trainer.policy, StagePolicy),
        "policy is not a StagePolicy (visionloop.core.policy): give the row of train.",
    )
    require(trainer.policy.image, "policy names no image: give that of the training.")
    missing = [name for name in METHODS if not callable(getattr(trainer, name, None))]
    require(not missing, f"It has no method {', '.join(missing)}: add it (visionloop.training.trainers.Trainer).")
    variables = getattr(trainer, "environment", ())
    require(
        not isinstance(variables, str) and all(isinstance(name, str) for name in variables),
        f'environment is {variables!r}: give a tuple of names, such as ("EXAMPLE_*",).',
    )
    several = getattr(trainer, "several_devices", False)
    require(type(several) is bool, f"several_devices is {several!r}: give True or False.")


@GENERAL.add
def imports(declared: Declared) -> None:
    """Importing its module imports no library, and prints nothing."""
    reference = catalog.reference(declared.name)
    require(reference, f"The trainer {declared.name} has no entry point of its own.")
    module = str(reference).partition(":")[0]
    ended = subprocess.run([sys.executable, "-c", IMPORTS, module], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Broken(f"The module {module} can't be imported by itself: {_last_line(ended.stderr)}")
    require(
        not ended.stdout,
        f"The module {module} prints to stdout when it is imported ({_last_line(ended.stdout)}): leave that out.",
    )
    brought = set(json.loads(_last_line(ended.stderr))) & _library_modules(declared.trainer)
    names = ", ".join(sorted(brought))
    require(
        not brought,
        f"The module {module} imports {names}, so that every command pays for it: import it inside the methods.",
    )


@GENERAL.add
def requirements(declared: Declared) -> None:
    """Each requirement is pinned to the version that is installed."""
    lines = declared.trainer.requirements()
    require(lines, "requirements() is empty: name what loading a model needs, each as name==version.")
    for line in lines:
        name, separator, pinned = line.partition("==")
        require(
            separator and re.fullmatch(r"[\w.+!-]+", pinned),
            f"The requirement {line!r} is not pinned: give it as name==version.",
        )
        present = version_of(name)
        require(present, f"The requirement {line!r} is not installed here: name the distribution as pip does.")
        require(
            present == pinned,
            f"The requirement {line!r} is installed as {present}: read the version by importlib.metadata.",
        )


@GENERAL.add
def licences(declared: Declared) -> str:
    """The licence of each requirement is known."""
    names = [line.partition("==")[0] for line in declared.trainer.requirements()]
    licences_by_name = {name: licence_of(name) for name in names}
    unknown = [name for name, stated in licences_by_name.items() if not stated]
    require(
        not unknown,
        f"The metadata of {', '.join(unknown)} states no licence: find it out before a model depends on it.",
    )
    return f"Licences: {'; '.join(f'{name} {stated}' for name, stated in licences_by_name.items())}."


@OF_TASK.add
def metrics(subject: Subject) -> None:
    """The metrics of the task can be compared with those of other trainers."""
    own = tuple(subject.trainer.metrics.get(subject.task, ()))
    missing = [name for name in METRICS[subject.task] if name not in own]
    require(not missing, f"metrics of {subject.task} lacks {', '.join(missing)}: measure it (docs/tasks.md).")


@OF_TASK.add
def models(subject: Subject) -> None:
    """The default model is for the task, and a path or a URI has no names of weights."""
    trainer, model = subject.trainer, str(subject.settings["model"].default)
    task = trainer.model_task(model)
    require(
        task in (None, subject.task),
        f"The default model {model} is for {task}, not for {subject.task}: give each task its own.",
    )
    other = "no/such/model.pt"
    require(
        trainer.model_task(other) is None,
        f"model_task({other!r}) is {trainer.model_task(other)!r}: give None for a path.",
    )
    names = trainer.weights_names(other)
    require(not names, f"weights_names({other!r}) is {names!r}: give none for a path.")
    if trainer.is_architecture(model):
        files = trainer.weights_names(model)
        require(not files, f"{model} is an architecture, but weights_names gives {files!r}: give none.")


@OF_TASK.add
def defaults(subject: Subject) -> None:
    """Every default lies in its own range and choices, and the settings of the demo are taken."""
    for name, setting in subject.settings.items():
        require(
            setting.kind in (bool, int, float, str),
            f"The setting {name} is of the type {setting.kind}: give bool, int, float or str.",
        )
        if setting.default is None and setting.optional:
            continue
        try:
            value = canonical_value(name, setting.default, setting, "its default")
        except VisionloopError as error:
            raise Broken(f"The default of {name} is not one that it takes: {error.sentence}") from error
        require(
            value == setting.default,
            f"The default of {name} is {setting.default!r}, which becomes {value!r}: declare that.",
        )
    subject.resolve({})
    subject.resolve(dict(getattr(subject.trainer, "demos", {}).get(subject.task, {})))


@OF_TASK.add
def normalise(subject: Subject) -> None:
    """`normalise` leaves defaults alone, and what it returned as it is."""
    values: dict[str, Value] = {name: setting.default for name, setting in subject.settings.items()}
    once = subject.trainer.normalise(dict(values), subject.task)
    changed = [name for name in values if name not in once or once[name] != values[name]]
    require(not changed, f"normalise changes the default of {', '.join(changed)}: leave defaults alone.")
    for arguments in ({}, {"augment": False}, dict(subject.config.values)):
        first = subject.trainer.normalise(dict(arguments), subject.task)
        second = subject.trainer.normalise(dict(first), subject.task)
        different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        require(
            not different,
            f"normalise changes {', '.join(different)} of what it returned before: make it give the same again.",
        )


@OF_TASK.add
def refusals(subject: Subject) -> None:
    """An unknown setting, a wrong type and a value out of range end with InvalidConfig."""
    with refused(f"The unknown setting {UNKNOWN}", InvalidConfig):
        subject.resolve({UNKNOWN: 1})
    for name, setting in subject.settings.items():
        for value in _wrong(setting):
            with refused(f"{name}={value!r}", InvalidConfig):
                subject.resolve({name: value})


@OF_TASK.add
def key(subject: Subject) -> str:
    """Each setting that affects a result is in the key; device and workers at their defaults are not."""
    usual = {name: value for name, value in subject.arguments.items() if name not in SETTINGS}
    base = subject.resolve(usual).key_values()
    outside = [name for name in ("device", "workers", "cache", "resize") if name in base]
    require(not outside, f"{', '.join(outside)} is in the key at its default: leave the basic setting as it is.")
    own = subject.settings
    # Whether workers and cache affect a result is the trainer's to know.
    silent = [
        name
        for name, basic in BASIC.items()
        if basic.affects_result and basic.default_in_key and not own[name].affects_result
    ]
    require(not silent, f"{', '.join(silent)} affects a result, and is declared outside the key: set affects_result.")
    tried = 0
    for name, setting in subject.settings.items():
        other = _other(setting)
        if other is None or name in ("trainer", "model", "pretrained") or not setting.affects_result:
            continue
        try:
            changed = subject.resolve({**usual, name: other})
        except InvalidConfig:
            continue  # not together with the other settings
        tried += 1
        require(
            changed.key_values() != base,
            f"{name}={other!r} has the same key as {name}={setting.default!r}: the second training would be taken for the first.",
        )
    return f"{tried} settings were changed one by one, and each changed the key; device and workers at their defaults do not."


def _library_modules(trainer: Trainer) -> set[str]:
    """The modules of what loading a model needs, but for what Visionloop itself needs."""
    basic = {re.split(r"[^\w.-]", line)[0].lower() for line in requires("visionloop") or () if "extra ==" not in line}
    named = {line.partition("==")[0].lower() for line in trainer.requirements()} - basic
    if library := getattr(trainer, "distribution", None):
        named.add(str(library).lower())
    modules = packages_distributions()
    return {"torch", "tensorflow", "jax"} | {
        module for module, brought in modules.items() if named & {name.lower() for name in brought}
    }


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _wrong(setting: Setting) -> list[object]:
    """Values of another type, and out of range."""
    if setting.choices:
        return ["no such choice"]
    if setting.kind is bool:
        return ["neither"]
    if setting.kind is str:
        return [1.5]
    beyond = [setting.minimum - 1] if setting.minimum is not None else []
    beyond += [setting.maximum + 1] if setting.maximum is not None else []
    fraction = [(setting.minimum or 0) + 0.5] if setting.kind is int else []
    return ["no number", "nan", *beyond, *fraction]


def _other(setting: Setting) -> object:
    """A value other than the default; None where none is known."""
    if setting.choices:
        return next((choice for choice in setting.choices if choice != setting.default), None)
    default: Any = setting.default
    if setting.kind is bool:
        return not default
    if setting.kind is str:
        return None
    low = 0 if setting.minimum is None else setting.minimum
    high = low + 1000 if setting.maximum is None else setting.maximum
    if setting.kind is int:
        base = int(low if default is None else default)
        candidates = (base + IMGSZ_MULTIPLE, base + 1, base - 1)
        return next((value for value in candidates if low <= value <= high), None)
    middle = (low + high) / 2
    return middle if default != middle else (low + 3 * high) / 4
