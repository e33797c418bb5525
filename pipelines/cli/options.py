"""The options of the commands that start or plan a run: what is trained and on which engine, defined once for all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import msgspec
import typer

from visionloop.components.calls import APPROVE
from visionloop.components.evaluate.costs import parse_costs
from visionloop.components.evaluate.gate import with_whole_paths
from visionloop.components.export.formats import CHOICES, parse_exports
from visionloop.components.predict.written import FORMATS, parse_write
from visionloop.components.snapshot.retraining.policy import parse_policy
from visionloop.components.validate.options import resolve_checks
from visionloop.components.validate.stage import MODES, ON_ERROR
from visionloop.core import names
from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidConfig
from visionloop.core.pairs import parse_pair
from visionloop.core.shards import MOST
from visionloop.core.stores import normalise_uri
from visionloop.data.annotations.class_mapping import parse_classes
from visionloop.data.datasets import datasets_text
from visionloop.pipelines import engines
from visionloop.pipelines.engines import Engine, Order
from visionloop.pipelines.engines.laptop.runner import SUBPROCESS
from visionloop.pipelines.parameters import LONGEST_VALUE, RETRAIN, arguments_for
from visionloop.training.configuration import parse_settings
from visionloop.training.tiled import parse_tile

if TYPE_CHECKING:
    EngineChoice = str
else:
    # From the table of engines: Typer refuses any other name, with exit code 2.
    EngineChoice = Literal[tuple(engines.ENGINES)]

_described = engines.choice(
    [f"{engine.name}{f' ({engine.description})' if engine.description else ''}" for engine in engines.engines()]
)

#: The default engine of a new run, and of a run to follow.
FIRST_ENGINE = next(iter(engines.ENGINES))
FIRST_CLUSTER = engines.clusters()[0]

EngineName = Annotated[EngineChoice, typer.Option("--engine", help=f"Where it runs: {_described}.")]
ClusterName = Annotated[
    EngineChoice, typer.Option("--engine", help=f"Where it runs: {engines.choice(engines.clusters())}.")
]
Namespace = Annotated[str | None, typer.Option(help=engines.help_of("namespace"))]
Host = Annotated[str | None, typer.Option(help=engines.help_of("host"))]
Parameters = Annotated[list[str] | None, typer.Option("--parameter", help=engines.help_of("parameter"))]


#: What ``--tile`` means, wherever images are predicted on.
TILE = "The side of the tiles in pixels that large images are looked at in as well, overlapping (default: none)."


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run works on: the arguments of every pipeline."""

    workspace: Annotated[str, typer.Option(help="Where results lie: s3://bucket/prefix, file:///folder or a path.")]
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="The dataset, as it lies: s3://…, file://… or a path. Given many times, all are trained on as one; each may be a JSON "
            'object such as {"uri": "s3://…", "name": "night", "weight": 2}.  [required, or --snapshot]'
        ),
    ] = None
    snapshot: Annotated[str | None, typer.Option(help="An earlier snapshot (snap_…).  [required, or --dataset]")] = None
    task: Annotated[str | None, typer.Option(help="detection, segmentation, classification or pose.")] = None
    split: Annotated[
        str | None,
        typer.Option(
            help="train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD|folder|regex:PATTERN], fold=2/5[,seed=0][,group=…], "
            "time=FIELD,val=DATE,test=DATE, or test=val."
        ),
    ] = None
    validate_mode: Annotated[
        str | None, typer.Option(help=f"How images are checked: {', '.join(MODES)} (default: headers).")
    ] = None
    on_error: Annotated[
        str | None, typer.Option(help=f"What an image with errors does: {' or '.join(ON_ERROR)} (default: fail).")
    ] = None
    dataset_format: Annotated[
        str | None,
        typer.Option(
            help="The format to read the dataset as: dice, coco, yolo, folders, voc, labelstudio or cvat (default: recognised)."
        ),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(help="Which classes are ignored, dropped, kept and renamed: a JSON or YAML file, or its text."),
    ] = None
    where: Annotated[
        str | None,
        typer.Option(help="Which images and objects count, such as \"metadata.source == 'night'\" (default: all)."),
    ] = None
    checks: Annotated[
        str | None, typer.Option(help="Severities and thresholds of the checks: a JSON or YAML file, or its text.")
    ] = None
    slices: Annotated[
        str | None,
        typer.Option(
            help="Fields by which the evaluation is sliced: metadata.KEY, attributes.KEY (objects' size always is)."
        ),
    ] = None
    shards: Annotated[
        str | None,
        typer.Option(
            help=f"In how many parts an engine checks and converts the images, each in a pod of its own: 1 to {MOST} (default: one pod)."
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Returns the pipeline's arguments, and refuses mistakes before anything starts.

        Raises:
            InvalidConfig: If neither or both of dataset and snapshot are given, or a URI can't be used.
        """
        if any(self.dataset or ()) == bool(self.snapshot):
            raise InvalidConfig("Give either --dataset (a URI) or --snapshot (snap_…).")
        arguments = {entry.name: value for entry in fields(Data) if (value := getattr(self, entry.name))}
        arguments["workspace"] = normalise_uri(self.workspace)
        if self.dataset:
            arguments["dataset"] = dataset_text(self.dataset)
        if self.classes:
            arguments["classes"] = classes_text(self.classes)
        if self.checks:
            arguments["checks"] = checks_text(self.checks)
        return arguments


@dataclass(frozen=True, kw_only=True)
class Training(Data):
    """What is trained: the arguments of the training pipeline."""

    model_name: Annotated[str, typer.Option(help="The name to register the model under.")]
    run_name: Annotated[str | None, typer.Option(help="A name for people.")] = None
    description: Annotated[str | None, typer.Option(help="A description for people.")] = None
    gate: Annotated[str | None, typer.Option(help="The gate: a JSON file, or its text.")] = None
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A training setting, KEY=VALUE; may be given many times.")
    ] = None
    costs: Annotated[
        str | None,
        typer.Option(
            help="What a miss and a false alarm cost, by which the operating point is chosen: a JSON or YAML file, or its text."
        ),
    ] = None
    storage: Annotated[
        str | None, typer.Option(help="Where registered models are copied to (default: models in the workspace).")
    ] = None
    approve: Annotated[
        str | None,
        typer.Option(
            help=f"Who makes a model the champion that the gate promotes, the run or a person: {' or '.join(APPROVE)} (default: auto)."
        ),
    ] = None
    export: Annotated[
        str | None,
        typer.Option(
            help=f"Formats in which the model is exported where it is registered, separated by commas: {', '.join(CHOICES)} (default: none)."
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The pipeline's arguments; raises as ``Data.arguments``, and for a name, gate or setting that can't be used."""
        arguments = super().arguments()
        names.sanitise(self.model_name)
        parse_exports(self.export)
        own = ("model_name", "run_name", "description", "approve", "export")
        arguments |= {name: value for name in own if (value := getattr(self, name))}
        if self.storage is not None:
            arguments["storage"] = normalise_uri(self.storage)
        if self.gate:
            arguments["gate"] = gate_text(self.gate)
        if self.costs:
            arguments["costs"] = costs_text(self.costs)
        return {**arguments, **arguments_for(parse_settings(self.settings or []))}


@dataclass(frozen=True, kw_only=True)
class Measurement(Data):
    """What is measured: the arguments of the measuring pipeline."""

    model: Annotated[str, typer.Option(help="The model: NAME/VERSION, NAME@ALIAS, or a checkpoint's path or URI.")]
    split_name: Annotated[
        str | None, typer.Option(help="The split that is measured: train, val or test (default: test).")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="How a checkpoint is measured, KEY=VALUE: trainer, imgsz, batch, conf, iou, max_det, single_cls; may be given many times.",
        ),
    ] = None

    tile: Annotated[str | None, typer.Option(metavar="SIZE", help=TILE)] = None
    trainer: Annotated[
        str | None, typer.Option(help="On an engine, the trainer whose image measures (default: the form's).")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The pipeline's arguments; raises as ``Data.arguments``, and for a split, a setting or a tile that can't be used."""
        # They bring the registry with them, which no other command waits for.
        from visionloop.components.evaluate.measuring import is_registered, parse_split

        parse_split(self.split_name)
        parse_tile(self.tile)
        here = not is_registered(self.model) and "://" not in self.model
        settings = parse_settings(self.settings or [])
        return {
            **super().arguments(),
            # A file of this machine by its whole path: its stage runs elsewhere.
            "model": str(Path(self.model).absolute()) if here else self.model,
            **({"split_name": self.split_name} if self.split_name else {}),
            **({"settings": settings} if settings else {}),
            **({"tile": self.tile} if self.tile else {}),
            **({"trainer": self.trainer} if self.trainer else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is predicted on: the arguments of the predicting pipeline."""

    model: Annotated[str, typer.Option(help="The registered model: NAME/VERSION or NAME@ALIAS.")]
    images: Annotated[
        str, typer.Option(help="Where the images lie, all below it: s3://bucket/prefix, file:///folder or a path.")
    ]
    workspace: Annotated[str, typer.Option(help="Where results lie: s3://bucket/prefix, file:///folder or a path.")]
    confidence: Annotated[
        str | None,
        typer.Option(help="The least confidence of an object, from 0 to 1 (default: the model's operating point)."),
    ] = None
    write: Annotated[
        str | None,
        typer.Option(
            help=f"What is written beside the tables, separated by commas: {', '.join(FORMATS)} (default: neither)."
        ),
    ] = None
    tile: Annotated[str | None, typer.Option(metavar="SIZE", help=TILE)] = None
    trainer: Annotated[
        str | None, typer.Option(help="On an engine, the trainer whose image predicts (default: the form's).")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The pipeline's arguments. Raises InvalidConfig for a URI, a confidence or a format that can't be used."""
        # They bring the registry with them, which no other command waits for.
        from visionloop.components.predict.asked import parse_confidence

        parse_confidence(self.confidence)
        parse_write(self.write)
        parse_tile(self.tile)
        arguments = {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name))}
        return arguments | {name: normalise_uri(arguments[name]) for name in ("workspace", "images")}


@dataclass(frozen=True, kw_only=True)
class Retraining(Training):
    """What is retrained: a training, and the policy that decides whether it is worth it."""

    retraining: Annotated[str | None, typer.Option(help="The retraining policy: a JSON or YAML file, or its text.")] = (
        None
    )

    def arguments(self) -> dict[str, Any]:
        """The pipeline's arguments; raises as ``Training.arguments``, and for a policy that can't be read."""
        policy = {"retraining": policy_text(self.retraining)} if self.retraining else {}
        return super().arguments() | policy


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how a run is executed. Each engine declares which of these options it takes."""

    force: Annotated[str | None, typer.Option(help=engines.help_of("force"))] = None
    run: Annotated[str | None, typer.Option(help=engines.help_of("run"))] = None
    trace_id: Annotated[str | None, typer.Option(help="The trace id (default: TRACE_ID, else a new one).")] = None
    engine: EngineName = FIRST_ENGINE
    namespace: Namespace = None
    host: Host = None
    parameters: Parameters = None
    detach: Annotated[bool, typer.Option("--detach", help=engines.help_of("detach"))] = False
    runner: Annotated[str, typer.Option(help=engines.help_of("runner"))] = SUBPROCESS

    def order(self, pipeline: str, arguments: dict[str, Any]) -> tuple[Engine, Order]:
        """Returns the engine, and the order for it.

        Raises:
            InvalidConfig: If an option is given that the engine does not take, or a ``--parameter`` can't be used.
        """
        chosen = engines.engine(self.engine)
        options = {
            "run": self.run,
            "force": self.force,
            "runner": self.runner if self.runner != SUBPROCESS else None,
            "namespace": self.namespace,
            "host": self.host,
            "parameter": self.parameters,
            "detach": self.detach,
        }
        requested: dict[str, Any] = {name: value for name, value in options.items() if value}
        check_options(chosen, requested)
        if self.parameters:
            requested["parameter"] = parameter_pairs(self.parameters)
        return chosen, Order(pipeline, arguments, requested, self.trace_id)


def check_options(engine: Engine, options: dict[str, Any]) -> None:
    """Refuses options that an engine does not take.

    Args:
        engine: The engine.
        options: The options given, by name.

    Raises:
        InvalidConfig: If there is one; it names the option, and the engines that take it.
    """
    for option, value in options.items():
        if option in engine.options:
            continue
        takers = engines.taking(option)
        what = f"--{option} {value}" if option == "runner" else f"--{option}"
        if not engine.cluster:
            raise InvalidConfig(
                f"{what} is for an engine; give --engine {engines.choice(takers)} too, or leave it out."
            )
        if not set(takers) & set(engines.clusters()):
            raise InvalidConfig(
                f"{what} works on this machine alone: leave it out, or give --engine {engines.choice(takers)}."
            )
        raise InvalidConfig(f"{what} works with --engine {engines.choice(takers)} alone; leave it out.")


def parameter_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Returns the values of ``--parameter`` pairs by name.

    Raises:
        InvalidConfig: If one is not NAME=VALUE, or has an option of its own.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, value = parse_pair("--parameter", pair, "NAME=VALUE, such as gpus=0")
        if name in RETRAIN:
            raise InvalidConfig(f"--parameter {pair}: {name} has an option of its own; see --help.")
        values[name] = value
    return values


def gate_text(gate: str) -> str:
    """The gate as an argument of the pipeline: JSON text and a URI unchanged, a file of this machine as its content.

    Raises:
        InvalidConfig: If it can't be read.
    """
    text = _file_text(gate, "--gate", "JSON")
    return text if "://" in text.partition("{")[0] else with_whole_paths(text)


def policy_text(retraining: str) -> str:
    """The retraining policy as an argument of the pipeline, read in the same way as the gate.

    Raises:
        InvalidConfig: If it can't be read, or is not a policy.
    """
    text = _file_text(retraining, "--retraining", "JSON or YAML")
    if "://" in retraining and text == retraining:
        return text
    # As JSON, whichever format it was written in: equal policies are equal arguments.
    return msgspec.json.encode(parse_policy(text or "{}"), order="sorted").decode()


def classes_text(classes: str) -> str:
    """The class mapping as an argument of the pipeline, read in the same way as the gate.

    Raises:
        InvalidConfig: If it can't be read, is not a mapping, or is too long for a form.
    """
    text = _file_text(classes, "--classes", "JSON or YAML")
    if "://" in classes.partition("{")[0] and text == classes:
        return text
    # As JSON, whichever format it was written in: equal mappings are equal arguments.
    text = parse_classes(text).text()
    if len(text.encode()) > LONGEST_VALUE:
        raise InvalidConfig(
            f"--classes is longer than the {LONGEST_VALUE:,} bytes that an engine's form holds; put the file into the store and give its URI."
        )
    return text


def dataset_text(dataset: Sequence[str]) -> str:
    """The datasets as an argument of the pipeline: the URI of one alone, else JSON text.

    Raises:
        InvalidConfig: If one can't be used, or they are too long for a form.
    """
    text = datasets_text(dataset)
    if len(text.encode()) > LONGEST_VALUE:
        raise InvalidConfig(
            f"--dataset is longer than the {LONGEST_VALUE:,} bytes that an engine's form holds; name fewer datasets."
        )
    return text


def checks_text(checks: str) -> str:
    """The checks as an argument of the pipeline: a URI unchanged, all else as JSON of what is not the default.

    Raises:
        InvalidConfig: If they can't be read or are wrong.
    """
    if "://" in checks and not checks.lstrip().startswith("{"):
        return checks
    return msgspec.json.encode(resolve_checks(checks).content(), order="sorted").decode()


def costs_text(costs: str) -> str:
    """The costs as an argument of the pipeline: a URI unchanged, all else as JSON, so that equal costs are equal arguments.

    Raises:
        InvalidConfig: If they can't be read, are wrong, or are too long for a form.
    """
    if "://" in costs and not costs.lstrip().startswith("{"):
        return costs
    text = parse_costs(costs).text()
    if len(text.encode()) > LONGEST_VALUE:
        raise InvalidConfig(
            f"--costs is longer than the {LONGEST_VALUE:,} bytes that an engine's form holds; put the file into the store and give its URI."
        )
    return text


def _file_text(value: str, option: str, form: str) -> str:
    if value.lstrip().startswith("{") or "://" in value:
        return value
    try:
        if Path(value).exists() and not Path(value).is_file():  # a device or a pipe may never end
            raise OSError("it is not a regular file")
        return decoded(Path(value).read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{option} {value}: the file can't be read ({error}); give a {form} file.") from error


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Turns a command that takes dataclasses into one whose options are their fields.

    Typer reads a function's signature, so each parameter annotated with a dataclass is replaced by the dataclass's fields.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        own = get_type_hints(groups[name], include_extras=True)
        for entry in fields(groups[name]):
            default = inspect.Parameter.empty if entry.default is MISSING else entry.default
            parameters[entry.name] = inspect.Parameter(
                entry.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=own[entry.name]
            )

    @functools.wraps(command)
    def run(**options: Any) -> None:
        made = {
            name: kind(**{entry.name: options.pop(entry.name) for entry in fields(kind)})
            for name, kind in groups.items()
        }
        command(**made, **options)

    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run
