"""The pipelines' parameters: one table, from which both engines make the form that a person fills in."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visionloop.components.calls import APPROVE
from visionloop.components.calls import SETTINGS as SETTINGS_OBJECT
from visionloop.components.export.formats import CHOICES
from visionloop.components.predict.written import FORMATS
from visionloop.components.validate.stage import MODES, ON_ERROR
from visionloop.core.shards import MOST
from visionloop.data.annotations.tables import SPLITS
from visionloop.training import catalog
from visionloop.training.configuration.settings import BASIC, allowed_values, display, settings_of
from visionloop.training.tiled import LARGEST, SMALLEST
from visionloop.training.trainers import Setting

#: The most bytes that a KFP parameter holds.
LONGEST_VALUE = 10_000


@dataclass(frozen=True)
class Parameter:
    """One field of the form.

    ``default`` None makes it required. ``choices`` are the values that a form offers; KFP's offers none, so the
    description names them too.
    """

    name: str
    kind: type
    default: Any
    description: str
    choices: tuple[str, ...] = ()

    @property
    def text(self) -> str | None:
        """The default as Argo holds it: text, objects as JSON."""
        if self.default is None:
            return None
        return json.dumps(self.default) if isinstance(self.default, dict) else display(self.default)


def _setting(name: str) -> Parameter:
    setting = BASIC[name]
    choices = ("true", "false") if setting.kind is bool else setting.choices
    meaning = _meaning(setting)
    if setting.kind is not str or setting.choices:
        meaning += f": {allowed_values(setting)}"
    return Parameter(name, setting.kind, setting.default, f"{meaning}.", choices)


def _meaning(setting: Setting) -> str:
    return f"{setting.description[0].upper()}{setting.description[1:]}"


#: The settings that have a parameter of their own; all others go into ``advanced_config``.
SETTINGS = (
    "trainer",
    "model",
    "imgsz",
    "epochs",
    "batch",
    "lr0",
    "optimizer",
    "augment",
    "primary_metric",
    "primary_metric_mode",
)

_TABLE = (
    Parameter("workspace", str, None, "Where results lie: s3://bucket/prefix, file:///folder or a path."),
    Parameter("model_name", str, None, "The name to register the model under; its champion is what is compared with."),
    Parameter(
        "dataset",
        str,
        "",
        "The dataset, as it lies: s3://bucket/prefix, file:///folder or a path; several, which are trained on as one, as a JSON list of "
        'URIs, or of objects such as {"uri": "s3://bucket/night", "name": "night", "weight": 2}.',
    ),
    Parameter("snapshot", str, "", "An earlier snapshot (snap_…) to train on again, in place of dataset."),
    Parameter(
        "task",
        str,
        "",
        "detection, segmentation, classification or pose; empty when the dataset has only one.",
        ("", "detection", "segmentation", "classification", "pose"),
    ),
    Parameter(
        "split",
        str,
        "",
        "train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD|folder|regex:PATTERN], fold=2/5[,seed=0][,group=…], "
        "time=FIELD,val=DATE,test=DATE, or test=val; empty, the dataset or its images decide.",
    ),
    Parameter("run_name", str, "", "A name for people; outside every key."),
    Parameter("description", str, "", "A description for people; outside every key."),
    Parameter(
        "gate",
        str,
        "",
        'The gate as a JSON object such as {"floor": 0.5, "epsilon": 0.01}, or the URI of a file with one; empty takes no floor and epsilon 0.',
    ),
    *(_setting(name) for name in SETTINGS),
    Parameter(
        "advanced_config",
        dict,
        {},
        "Further settings of the trainer, a JSON object; one that has a parameter of its own may stand in either, not in both.",
    ),
    Parameter(
        "validate_mode",
        str,
        "",
        "How images are checked: annotations (none is read), headers, or full (every image is decoded); empty takes headers.",
        ("", *MODES),
    ),
    Parameter(
        "on_error",
        str,
        "",
        "What an image with errors does: fail, or quarantine (it is left out); empty takes fail.",
        ("", *ON_ERROR),
    ),
    Parameter("storage", str, "", "Where registered models are copied to; empty takes models in the workspace."),
    Parameter(
        "dataset_format",
        str,
        "",
        "The format to read the dataset as: dice, coco, yolo, folders, voc, labelstudio or cvat; empty recognises it.",
    ),
    Parameter(
        "classes",
        str,
        "",
        'The classes as a JSON object such as {"drop": ["shadow"], "rename": {"lorry": "truck"}} (ignore, drop, keep, rename), or the URI of '
        "a file with one; empty takes all as they are.",
    ),
    Parameter(
        "where",
        str,
        "",
        "Which images and objects count, such as split != 'train' or metadata.source == 'night'; empty takes all.",
    ),
    Parameter(
        "checks",
        str,
        "",
        'What validate finds, where it is not the default: a JSON object such as {"same_bytes": "warning"}, or the URI of a file '
        "with one.",
    ),
    Parameter(
        "shards",
        str,
        "",
        f"In how many parts the images are checked and converted, each in a pod of its own: 1 to {MOST}; the result is the same. "
        "Empty takes one pod.",
    ),
    Parameter(
        "slices",
        str,
        "",
        "Fields by which the evaluation is sliced, separated by commas: metadata.KEY of images, attributes.KEY of objects; their size always is.",
    ),
    Parameter(
        "costs",
        str,
        "",
        'What a missed object and a false alarm cost as a JSON object such as {"miss": 5, "false_alarm": 1}, or by class name, or the URI of a '
        "file with one; the operating point is chosen by them. Empty takes confidence 0.25.",
    ),
    Parameter(
        "approve",
        str,
        "",
        "Who makes a model the champion that the gate promotes: auto, the run; manual, a person by visionloop model promote, until which "
        "it is a challenger. Empty takes auto.",
        ("", *APPROVE),
    ),
    Parameter(
        "export",
        str,
        "",
        f"Formats in which the model is exported where it is registered, separated by commas: {', '.join(CHOICES)}. Empty exports it in none.",
    ),
)

#: The train pipeline's parameters by name.
TRAIN: Mapping[str, Parameter] = {parameter.name: parameter for parameter in _TABLE}

#: The retrain pipeline's parameters by name.
RETRAIN: Mapping[str, Parameter] = {
    **TRAIN,
    "retraining": Parameter(
        "retraining",
        str,
        "",
        'The retraining policy as a JSON object such as {"min_new_images": 50, "max_runs_per_week": 2}, or the URI of a file '
        "with one; empty goes on in any case.",
    ),
}

#: How large images are looked at, wherever a model that exists predicts.
_TILE = Parameter(
    "tile",
    str,
    "",
    f"The side of the tiles in pixels, {SMALLEST} to {LARGEST:,}, that large images are looked at in as well, overlapping; empty looks at "
    "them as a whole alone.",
)

#: The measure pipeline's parameters by name.
MEASURE: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        TRAIN["workspace"],
        Parameter(
            "model",
            str,
            None,
            "The model that is measured: NAME/VERSION or NAME@ALIAS of the registry, with or without models:/ before it, or the URI of a "
            "checkpoint such as s3://bucket/best.pt.",
        ),
        TRAIN["dataset"],
        TRAIN["snapshot"],
        Parameter("split_name", str, "", "The split that is measured; empty takes test.", ("", *SPLITS)),
        TRAIN["task"],
        TRAIN["split"],
        TRAIN["trainer"],
        Parameter(
            SETTINGS_OBJECT,
            dict,
            {},
            "How a checkpoint is measured, a JSON object: trainer, imgsz, batch, conf, iou, max_det, single_cls; a registered model "
            "is measured as in its training.",
        ),
        *(
            TRAIN[name]
            for name in (
                "validate_mode",
                "on_error",
                "dataset_format",
                "classes",
                "where",
                "checks",
                "shards",
                "slices",
            )
        ),
        _TILE,
    )
}

#: The predict pipeline's parameters by name.
PREDICT: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        TRAIN["workspace"],
        Parameter(
            "model",
            str,
            None,
            "The model that predicts: NAME/VERSION or NAME@ALIAS of the registry, with or without models:/ before it.",
        ),
        Parameter(
            "images",
            str,
            None,
            "Where the images lie, all below it: s3://bucket/prefix, file:///folder or a path.",
        ),
        Parameter(
            "confidence",
            str,
            "",
            "The least confidence of an object, from 0 to 1; empty takes the model's operating point.",
        ),
        TRAIN["trainer"],
        Parameter(
            "write",
            str,
            "",
            f"What is written beside the tables, separated by commas: {', '.join(FORMATS)} (COCO's JSON, DICE's annotations for review).",
        ),
        _TILE,
    )
}

#: Settings whose values each trainer lists for itself. They are not choices: a form with choices would take only their spelling.
LISTED = ("lr0", "optimizer", "primary_metric")

#: Settings whose default may be another one for each task.
BY_TASK = ("model", "imgsz", "primary_metric")


def form(trainers: Iterable[str], parameters: Mapping[str, Parameter] = TRAIN) -> dict[str, Parameter]:
    """A pipeline's parameters if these trainers are installed."""
    names = tuple(trainers)
    trainer = _trainer(names)
    listed = {name: replace(TRAIN[name], description=_listed(name, names)) for name in LISTED}
    listed |= {
        name: replace(field, description=f"{field.description}{_defaults(name, names)}")
        for name in BY_TASK
        for field in [listed.get(name, TRAIN[name])]
    }
    return {**parameters, **listed, "trainer": trainer}


def measure_form(trainers: Iterable[str]) -> dict[str, Parameter]:
    """The measure pipeline's parameters if these trainers are installed."""
    return {**MEASURE, "trainer": _trainer(tuple(trainers))}


def predict_form(trainers: Iterable[str]) -> dict[str, Parameter]:
    """The predict pipeline's parameters if these trainers are installed."""
    return {**PREDICT, "trainer": _trainer(tuple(trainers))}


def _trainer(names: Sequence[str]) -> Parameter:
    return replace(TRAIN["trainer"], description=f"The training library: {' or '.join(names)}.", choices=tuple(names))


def _listed(name: str, trainers: Sequence[str]) -> str:
    """A setting's meaning, and the values that the trainers installed here take for it."""
    installed = catalog.trainers()
    words = {}
    for trainer in (installed[trainer_name] for trainer_name in trainers if trainer_name in installed):
        settings = [settings_of(trainer, task)[name] for task in sorted(trainer.tasks)]
        choices = tuple(dict.fromkeys(choice for setting in settings for choice in setting.choices))
        words[trainer.name] = allowed_values(replace(settings[0], choices=choices))
    distinct = set(words.values())
    values = (
        distinct.pop()
        if len(distinct) == 1
        else "; ".join(f"with {trainer_name}, {taken}" for trainer_name, taken in words.items())
    )
    return f"{_meaning(BASIC[name])}: {values}." if values else TRAIN[name].description


def _defaults(name: str, trainers: Sequence[str]) -> str:
    """What a setting is for the tasks whose default is another one, where the form's own is left as it is."""
    installed = catalog.trainers()
    words = []
    for trainer in (installed[trainer_name] for trainer_name in trainers if trainer_name in installed):
        defaults = {task: settings_of(trainer, task)[name].default for task in sorted(trainer.tasks)}
        other = [f"{display(value)} for {task}" for task, value in defaults.items() if value != BASIC[name].default]
        if other:
            words.append(f"{', '.join(other)}{f' with {trainer.name}' if len(trainers) > 1 else ''}")
    return f" Left as it is: {'; '.join(words)}." if words else ""


def takes(description: str, parameters: Mapping[str, Parameter]) -> Callable[[Any], Any]:
    """A decorator that gives a pipeline function its signature and docstring, from which KFP makes the form."""

    def decorate(function: Any) -> Any:
        lines = [f"    {parameter.name}: {parameter.description}" for parameter in parameters.values()]
        function.__doc__ = "\n".join([description, "", "Args:", *lines])
        function.__signature__ = inspect.Signature(
            [
                inspect.Parameter(
                    parameter.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if parameter.default is None else parameter.default,
                    annotation=parameter.kind,
                )
                for parameter in parameters.values()
            ]
        )
        return function

    return decorate


def arguments_for(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Explicit settings as arguments of a pipeline.

    A form's default does not count as chosen (``visionloop.components.kubeflow.settings``), so an explicit setting that equals
    it goes into ``advanced_config``, where it counts.

    Args:
        settings: Settings by name, as text or as JSON values.
    """
    arguments: dict[str, Any] = {}
    advanced: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "trainer":
            value = catalog.spelled(str(value))  # the engines' conditions compare it as it is
        parameter = TRAIN[name] if name in SETTINGS else None
        typed = _typed(value, parameter.kind) if parameter else None
        if parameter is None or typed is None or typed == parameter.default:
            advanced[name] = value
        else:
            arguments[name] = typed
    return arguments | ({"advanced_config": advanced} if advanced else {})


def settings_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The explicit settings that ``arguments_for`` made arguments of."""
    return {name: arguments[name] for name in SETTINGS if name in arguments} | dict(
        arguments.get("advanced_config") or {}
    )


def _typed(value: Any, kind: type) -> Any:
    """A value in the type of the engine's form, or None if it can't be converted: the stage then reports what is wrong."""
    if kind is bool:
        return {"true": True, "false": False}.get(str(value).lower())
    try:
        return kind(str(value)) if kind is not str else str(value)
    except ValueError:
        return None
