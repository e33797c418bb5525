"""The check before a run: whatever follows from its arguments alone is reported before any stage starts.

One function for the command line (``plan``, ``run``, ``schedule create``) and for the first pod of a run that somebody else
started. It reads no dataset, and imports no training library.
"""

from __future__ import annotations

import contextlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.calls import APPROVE
from visionloop.components.evaluate import measuring
from visionloop.components.evaluate.costs import parse_costs
from visionloop.components.evaluate.gate import read_gate, resolve_gate
from visionloop.components.evaluate.loaded import SPLIT
from visionloop.components.evaluate.measuring import Model
from visionloop.components.evaluate.must_pass import read_must_pass
from visionloop.components.evaluate.slicing import nothing_has, parse_slices, sliced
from visionloop.components.evaluate.truth import model_classes, objects_by_class
from visionloop.components.export.formats import exporter, parse_exports
from visionloop.components.export.making import check_packages
from visionloop.components.snapshot.classes import read_classes
from visionloop.components.snapshot.index import refuse_beside_snapshot
from visionloop.components.snapshot.retraining.policy import parse_policy
from visionloop.components.snapshot.taken import snapshot_of, unknown, uris_of
from visionloop.components.train.loaded import registered, resolve_settings
from visionloop.components.validate.options import resolve_checks
from visionloop.components.validate.stage import MODES, ON_ERROR
from visionloop.core.errors import AccessDenied, InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.names import sanitise
from visionloop.core.old_variables import check_old_variables
from visionloop.core.shards import parse_count
from visionloop.core.storage import open_prefix
from visionloop.core.stores import normalise_uri, split_uri
from visionloop.core.workspace import check_apart, check_can_be_made
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.split_rules import parse_split, split_from_object
from visionloop.data.annotations.tables import Annotations
from visionloop.data.annotations.where import parse_where
from visionloop.data.datasets import parse_datasets
from visionloop.data.dice.tasks import TASKS, parse_task
from visionloop.data.formats import formats, reader
from visionloop.registry import Registry, resolve
from visionloop.training import catalog, tracking, weights
from visionloop.training.configuration import (
    DEFAULT,
    Resolved,
    ignored_fields,
    named_model,
    named_trainer,
    split_strategy,
)
from visionloop.training.configuration.settings import BASIC
from visionloop.training.events import receivers
from visionloop.training.measurement.tiled import check_tiled
from visionloop.training.tiled import parse_tile
from visionloop.training.trainers import Trainer

#: How a notice about what could not be checked begins.
NOT_CHECKED = "not checked here: "


#: Characters that turn the direction of a text, by their class (https://www.unicode.org/reports/tr9/).
_DIRECTION_MARKS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


@dataclass(frozen=True)
class Reach:
    """What of a run can be seen from where the check is made.

    Attributes:
        stores: Whether the stores and the registry of this process are the run's.
        images: Whether its stages run with what is installed and lies here, rather than in images of their own.
    """

    stores: bool
    images: bool


#: A run on this machine; one on a cluster, seen from here; and one on a cluster, seen from its first pod.
HERE = Reach(stores=True, images=True)
FROM_OUTSIDE = Reach(stores=False, images=False)
FIRST_POD = Reach(stores=True, images=False)


def preflight(
    arguments: Mapping[str, Any], settings: Mapping[str, object], reach: Reach, environment: Mapping[str, str]
) -> list[str]:
    """Checks a run's arguments.

    Args:
        arguments: The pipeline's parameters by name; absent, None and "" mean left out.
        settings: The explicit settings of the training by name.
        reach: What can be seen from here.
        environment: The process's variables.

    Returns:
        What could not be checked, and what has no meaning here, one notice each.

    Raises:
        VisionloopError: The error that a stage of the run would end with.
    """
    filled = {name: value for name, value in arguments.items() if value not in (None, "")}
    # Elsewhere the run has the variables of its pods, which hold none of these.
    ignored = _check_old_names(filled, environment) if reach.stores else []
    _check_locations(filled, reach)
    _check_words(filled)
    name = sanitise(str(filled["model_name"])) if "model_name" in filled else None
    task = parse_task(str(filled["task"]), "--task") if "task" in filled else None
    _check_choices(filled)
    if reach.stores:
        receivers(environment, "run")
    parse_count(str(filled.get("shards", "")))
    parse_slices(filled.get("slices"))
    parse_exports(filled.get("export"))
    _check_split(filled, environment)
    notices = _check_trackers(reach, environment)
    notices += _check_selection(filled, reach)
    notices += _check_format(filled, reach)
    notices += _check_training(settings, task, filled, reach, environment)
    notices += _check_option_files(filled, reach)
    notices += _check_snapshot(filled, reach)
    _check_signing(reach, environment)
    if name is not None:
        notices += _check_registry(filled, name, reach, environment)
    return [*ignored, *(f"{NOT_CHECKED}{notice}" for notice in notices)]


def preflight_of_measurement(
    arguments: Mapping[str, Any], reach: Reach, environment: Mapping[str, str]
) -> tuple[list[str], Model | None]:
    """Checks the arguments of a run that measures a model; as ``preflight``.

    Returns:
        The notices, and the model where it can be seen from here.

    Raises:
        VisionloopError: The error that a stage of the run would end with.
    """
    filled = {name: value for name, value in arguments.items() if value not in (None, "")}
    _check_locations(filled, reach)
    task = parse_task(str(filled["task"]), "--task") if "task" in filled else None
    _check_choices(filled)
    parse_count(str(filled.get("shards", "")))
    parse_slices(filled.get("slices"))
    measuring.parse_split(filled.get("split_name"))
    parse_tile(filled.get("tile"))
    _check_split(filled, environment)
    notices = _check_selection(filled, reach)
    notices += _check_format(filled, reach)
    notices += _check_option_files(filled, reach)
    notices += _check_snapshot(filled, reach)
    model = None
    if reach.stores:
        model = _check_measured(filled, task, reach)
    else:
        notices.append(f"the model {filled['model']}, which the run looks for.")
    return [f"{NOT_CHECKED}{notice}" for notice in notices], model


def _check_measured(arguments: Mapping[str, Any], task: str | None, reach: Reach) -> Model:
    """Finds the model, and refuses one that can't be measured on what is named."""
    results = open_prefix(str(arguments["workspace"]), "results")
    snapshot = snapshot_of(results, str(arguments["snapshot"])) if "snapshot" in arguments else None
    task = snapshot.task if snapshot else task
    settings = json.dumps(arguments.get("settings") or {})
    model = measuring.found(str(arguments["model"]), task, settings, results)
    if reach.images:
        catalog.check_installed(model.trainer)
    if task is not None:
        measuring.check_task(model, task)
    if known := task or model.task:
        check_tiled(parse_tile(arguments.get("tile")), known)
    if snapshot is not None:
        measuring.check_fits(model, snapshot)
    return model


def check_for_task(settings: Mapping[str, object], task: str, gate: str | None, environment: Mapping[str, str]) -> None:
    """Checks what the dataset's task decides, once it is known: trainer, model, settings and the gate's metric.

    Args:
        settings: The explicit settings of the training by name.
        task: The dataset's task.
        gate: The gate, as evaluate takes it.
        environment: The process's variables.

    Raises:
        VisionloopError: The error that train or evaluate would end with. A trainer that only its image holds checks them there.
    """
    named = named_trainer(settings, environment)
    if named and named[0].lower() not in {name.lower() for name in catalog.trainers()}:
        return
    config, trainer = resolve_settings(settings, task)
    _check_metric(gate, config, trainer, task)
    model = str(config.values["model"])
    if weights.reference_kind(model) != "registered":
        return
    registry = Registry(environment, f"model {model}")
    with contextlib.suppress(NotFound):  # train names the places where it looked
        _, description = resolve.describe(resolve.find(model, registry), registry)
        if description.task != task:
            raise InvalidConfig(
                f"model {model} is for {description.task}, but the dataset's task is {task}: choose a model for that task, or another --task."
            )


def told_early(
    arguments: Mapping[str, Any], settings: Mapping[str, object], dataset: Annotations, names: Sequence[str]
) -> list[str]:
    """Checks what evaluate is asked for against the images that it will measure, before anything is trained.

    Args:
        arguments: The pipeline's ``gate``, ``slices`` and ``costs``.
        settings: The explicit settings of the training by name.
        dataset: The dataset.
        names: The file names of the images that are measured.

    Returns:
        Notices: fields that nothing has, and conditions of the gate that no model can meet.

    Raises:
        VisionloopError: The error that evaluate would end with.
    """
    classes = model_classes(dataset, settings)
    notices = [
        f"--slices: {nothing_has(each.field, SPLIT)}"
        for each in sliced(dataset, names, parse_slices(arguments.get("slices")))
        if not each.slices()
    ]
    if costs := arguments.get("costs"):
        parse_costs(str(costs)).check_classes(classes)
    gate = read_gate(arguments.get("gate"))
    if gate.must_pass:
        read_must_pass(gate.must_pass).check(dataset, SPLIT, names, classes)
    unmet = []
    if gate.min_images is not None and len(names) < gate.min_images:
        unmet.append(f"min_images is {gate.min_images:,}, and the split {SPLIT} has {len(names):,}")
    if gate.min_objects is not None:
        objects = objects_by_class(dataset, names, classes)
        if few := [f"{number:,} of {name}" for name, number in objects.items() if number < gate.min_objects]:
            unmet.append(f"min_objects is {gate.min_objects:,}, and the split {SPLIT} has {listed(few, 10)}")
    return [*notices, *(f"--gate: {text}: no model can get further than the verdict keep." for text in unmet)]


def _check_old_names(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Checks variables and fields of CONFIG from before; returns a notice for those without meaning here."""
    notices = check_old_variables(arguments, environment)
    if fields := ignored_fields(environment):
        notices.append(
            f"without meaning here: {', '.join(fields)} in CONFIG (docs/configuration.md, Variables from before)"
        )
    return notices


def _check_locations(arguments: Mapping[str, Any], reach: Reach) -> None:
    if ("dataset" in arguments) == ("snapshot" in arguments):
        raise InvalidConfig("Give either --dataset (a URI) or --snapshot (snap_…).")
    for name in ("workspace", "storage"):
        if name in arguments:
            normalise_uri(str(arguments[name]))
    for dataset in parse_datasets(arguments["dataset"]) if "dataset" in arguments else ():
        check_apart(str(arguments["workspace"]), dataset.uri)
    if reach.stores:
        check_can_be_made(str(arguments["workspace"]))


def _check_trackers(reach: Reach, environment: Mapping[str, str]) -> list[str]:
    """Checks who the training is tracked by; returns what could not be checked."""
    if not reach.stores:
        return []
    if reach.images:
        tracking.chosen(environment)
        return []
    return [
        f"the tracker {name}, which is not installed here; train looks for it."
        for name in tracking.check_elsewhere(environment)
    ]


def _check_signing(reach: Reach, environment: Mapping[str, str]) -> None:
    """Refuses a key that can't sign; of a cluster's runs register alone has the key."""
    if reach.images:
        # Late: it brings what register needs.
        from visionloop.components.register import signature

        signature.key(environment)


def _check_words(arguments: Mapping[str, Any]) -> None:
    """Refuses control characters and marks of direction in what people and pages see; a description may have lines."""
    for name in ("model_name", "run_name", "description"):
        text = str(arguments.get(name, ""))
        spaces = "\n\t" if name == "description" else ""
        bad = next((sign for sign in text if unicodedata.category(sign) in ("Cc", "Cs") and sign not in spaces), None)
        bad = bad or next((sign for sign in text if unicodedata.bidirectional(sign) in _DIRECTION_MARKS), None)
        if bad is not None:
            option = name.replace("_", "-")
            raise InvalidConfig(
                f"--{option} {ascii(text)[:80]}: U+{ord(bad):04X} is not a printable character; leave it out."
            )


def _check_choices(arguments: Mapping[str, Any]) -> None:
    for name, choices in (("validate_mode", MODES), ("on_error", ON_ERROR), ("approve", APPROVE)):
        if name in arguments and arguments[name] not in choices:
            option = name.replace("_", "-")
            raise InvalidConfig(f"--{option} {arguments[name]}: give one of {', '.join(choices)}.")


def _check_split(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    if "split" not in arguments:
        if (strategy := split_strategy(environment)) is not None:
            split_from_object(strategy, "CONFIG.split_strategy")
        return
    if "snapshot" in arguments:
        refuse_beside_snapshot("split", str(arguments["split"]))
    parse_split(str(arguments["split"]))


def _check_snapshot(arguments: Mapping[str, Any], reach: Reach) -> list[str]:
    """Refuses an id that no snapshot of the workspace has; returns what could not be checked."""
    if "snapshot" not in arguments:
        return []
    wanted = str(arguments["snapshot"])
    if not reach.stores:
        return [f"--snapshot {wanted}, which the run looks for."]
    workspace = open_prefix(str(arguments["workspace"]), "results")
    if not uris_of(workspace, wanted):
        raise unknown(workspace, wanted)
    return []


def _check_selection(arguments: Mapping[str, Any], reach: Reach) -> list[str]:
    """Checks what of the dataset is selected; returns what could not be checked."""
    if "snapshot" in arguments:
        for name in ("classes", "where"):
            refuse_beside_snapshot(name, str(arguments.get(name, "")))
    if "where" in arguments:
        parse_where(str(arguments["where"]))
    classes = str(arguments.get("classes", ""))
    if "://" in classes.partition("{")[0] and not reach.stores:
        return [f"--classes {classes}, which is read by the run."]
    if classes:
        read_classes(classes)
    return []


def _check_format(arguments: Mapping[str, Any], reach: Reach) -> list[str]:
    """Checks the name of the dataset's format; returns what could not be checked."""
    name = arguments.get("dataset_format")
    if name is None:
        return []
    if "snapshot" in arguments:
        refuse_beside_snapshot("dataset-format", str(name))
    if not reach.images and name not in formats():
        return [f"--dataset-format {name}, which is not installed here."]
    reader(str(name), "--dataset-format")
    return []


def _check_training(
    settings: Mapping[str, object],
    task: str | None,
    arguments: Mapping[str, Any],
    reach: Reach,
    environment: Mapping[str, str],
) -> list[str]:
    """Checks settings, starting weights, the gate's metric, exports and the trainer's packages; returns what could not be checked."""
    if not reach.images and not named_trainer(settings, environment if reach.stores else {}):
        # As the form: it always names one, because that decides the image.
        settings = {"trainer": BASIC["trainer"].default, **settings}
    named, installed = named_trainer(settings, environment), catalog.trainers()
    wanted = named[0].lower() if named else None
    if wanted and wanted not in {name.lower() for name in installed} and not reach.images:
        return [f"the settings, the weights and the gate's metric, because the trainer {wanted} is not installed here."]
    candidates = [trainer for name, trainer in installed.items() if name.lower() == wanted] if wanted else _installed()
    tasks = [task] if task else _tasks(settings, candidates, environment)
    refused: dict[str, InvalidConfig] = {}
    for possible in tasks:
        try:
            # The dataset decides among several tasks later: what one of them takes passes.
            return _check_task(settings, possible, len(tasks) == 1, arguments, reach, environment)
        except InvalidConfig as error:
            refused[possible] = error
    task, wrong = next(iter(refused.items()))
    if len({each.sentence for each in refused.values()}) == 1:
        raise wrong
    sentence = wrong.sentence.rstrip(".")
    raise InvalidConfig(f"{sentence}; if the dataset's task is not {task}, name it with --task.") from wrong


def _check_task(
    settings: Mapping[str, object],
    task: str,
    decided: bool,
    arguments: Mapping[str, Any],
    reach: Reach,
    environment: Mapping[str, str],
) -> list[str]:
    """Checks a training for a task, which is ``decided`` or one of several that the dataset may have; returns what could not be checked."""
    config, trainer = resolve_settings(settings, task)
    if reach.images:
        catalog.check_installed(trainer)
    for wanted in parse_exports(arguments.get("export")):
        exporter(trainer, wanted, "--export")
        if reach.images:
            check_packages(wanted.format, "--export")
    model, gate = str(config.values["model"]), arguments.get("gate")
    shown = f"model {model}" if decided or config.source("model") != DEFAULT else "the model of the dataset's task"
    notices = [f"whether the weights of {shown} {what}" for what in _unchecked(model, trainer, reach, environment)]
    if not reach.stores and "://" in str(gate or ""):
        notices.append(f"--gate {gate}, which is read by the run.")
    else:
        _check_metric(str(gate) if gate else None, config, trainer, task)
    return notices


def _installed() -> list[Trainer]:
    """The trainers whose libraries are installed, in the order in which they are taken."""
    trainers = catalog.trainers()
    return [trainers[name] for name in catalog.in_order(trainers) if catalog.is_installed(trainers[name])]


def _tasks(
    settings: Mapping[str, object], candidates: Sequence[Trainer], environment: Mapping[str, str]
) -> Sequence[str]:
    """The tasks that the dataset may have with one of these trainers; where a model is named, its task alone."""
    named = named_model(settings, environment)
    shown = next(filter(None, (trainer.model_task(named) for trainer in candidates)), None) if named else None
    if shown in TASKS:
        return [shown]
    trained = {task for trainer in candidates for task in trainer.tasks}
    return [task for task in TASKS if task in trained] or TASKS


def _unchecked(model: str, trainer: Trainer, reach: Reach, environment: Mapping[str, str]) -> list[str]:
    """Checks that starting weights exist; returns what could not be checked about them, each the end of a sentence."""
    kind = weights.reference_kind(model)
    unseen = (kind in ("registered", "uri") and not reach.stores) or (kind in ("path", "name") and not reach.images)
    if kind == "uri" and model.lower().startswith("file:"):
        unseen = not reach.images
    if unseen and not trainer.is_architecture(model):
        return ["are there; the run looks for them."]
    if weights.find(model, trainer, environment, _is_there, registered) == "download":
        return ["can be downloaded."]
    return []


def _is_there(uri: str) -> bool:
    folder, key = split_uri(uri)
    try:
        return open_prefix(folder, "results").exists(key)
    except NotFound:
        return False


def _check_metric(gate: str | None, config: Resolved, trainer: Trainer, task: str) -> None:
    values = config.values
    resolved = resolve_gate(gate, str(values["primary_metric"]), str(values["primary_metric_mode"]))
    yielded = tuple(trainer.metrics.get(task, ()))
    if yielded and resolved.primary_metric not in yielded:
        raise InvalidConfig(
            f"--gate: primary_metric is {resolved.primary_metric}, which {task} with {trainer.name} does not yield; "
            f"give one of {', '.join(yielded)}."
        )


def _check_option_files(arguments: Mapping[str, Any], reach: Reach) -> list[str]:
    notices = _check_must_pass(arguments.get("gate"), reach)
    if "checks" in arguments:
        if "://" in str(arguments["checks"]) and not reach.stores:
            notices.append(f"--checks {arguments['checks']}, which is read by the run.")
        else:
            resolve_checks(str(arguments["checks"]))
    if "costs" in arguments:
        if "://" in str(arguments["costs"]).partition("{")[0] and not reach.stores:
            notices.append(f"--costs {arguments['costs']}, which is read by the run.")
        else:
            parse_costs(str(arguments["costs"]))
    if "retraining" not in arguments:
        return notices
    if "://" in str(arguments["retraining"]) and not reach.stores:
        return [*notices, f"--retraining {arguments['retraining']}, which is read by the run."]
    parse_policy(str(arguments["retraining"]))
    if "model_name" not in arguments:
        raise InvalidConfig("--retraining needs --model-name: the champion of that name is what is compared with.")
    return notices


def _check_must_pass(gate: Any, reach: Reach) -> list[str]:
    """Reads the gate's list of images; returns what could not be checked."""
    if not gate or ("://" in str(gate).partition("{")[0] and not reach.stores):
        return []  # the gate itself is not checked here
    uri = read_gate(str(gate)).must_pass
    if uri is None:
        return []
    if not reach.stores:
        return [f"--gate: must_pass {uri}, which is read by the run."]
    read_must_pass(uri)
    return []


def _check_registry(arguments: Mapping[str, Any], name: str, reach: Reach, environment: Mapping[str, str]) -> list[str]:
    if not reach.stores:
        return [f"the registry, and whether '{name}' is free in it; the run asks it first."]
    registry = Registry(environment, "evaluate")
    registry.check_workspace(str(arguments["workspace"]))
    registry.check_name(name, str(arguments["model_name"]))
    champion = registry.champion(name)
    if champion is not None:
        # Only a workspace that is gone is refused: what else evaluate can't read is incomparable there.
        with contextlib.suppress(InvalidReceipt, AccessDenied, NotFound):
            resolve.check_workspace(champion, registry, str(arguments["workspace"]))
    return []
