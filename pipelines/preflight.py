"""The check of a run's arguments (``components.snapshot.preflight``) before an engine or a schedule gets them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.pipelines.environment import setting
from visionloop.pipelines.parameters import settings_in


def check_here(arguments: Mapping[str, Any], *, in_containers: bool = False) -> None:
    """Checks a run of this machine, whose services are those of this process.

    Args:
        arguments: The pipeline's arguments.
        in_containers: Whether its stages run in images of their own.

    Raises:
        VisionloopError: The error that a stage would end with.
    """
    from visionloop.components.snapshot.preflight import FIRST_POD, HERE, preflight

    _tell(preflight(arguments, settings_in(arguments), FIRST_POD if in_containers else HERE, os.environ))


def measured_here(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a run of this machine that measures a model.

    Returns:
        The arguments with the version that an alias names now, and with the model's task where the dataset is asked for none.

    Raises:
        VisionloopError: The error that a stage would end with.
    """
    from visionloop.components.snapshot.preflight import HERE, preflight_of_measurement

    notices, model = preflight_of_measurement(arguments, HERE, os.environ)
    _tell(notices)
    if model is None or model.task is None:
        return dict(arguments)
    task = {} if arguments.get("snapshot") or arguments.get("task") else {"task": model.task}
    return {**arguments, "model": model.label, **task}


def measured_from_outside(arguments: Mapping[str, Any]) -> None:
    """Checks a run of a cluster that measures a model, as far as its arguments alone say it. Raises as ``measured_here``."""
    from visionloop.components.evaluate.measuring import is_registered
    from visionloop.components.snapshot.preflight import FROM_OUTSIDE, preflight_of_measurement

    model = str(arguments["model"])
    if not is_registered(model) and ("://" not in model or model.startswith("file://")):
        raise InvalidConfig(
            f"--model {model} lies on this machine, where no pod of an engine can reach it; give NAME/VERSION, NAME@ALIAS or an s3:// URI."
        )
    notices, _ = preflight_of_measurement(arguments, FROM_OUTSIDE, os.environ)
    _tell(notices)


def predicted_here(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a run of this machine that predicts.

    Returns:
        The arguments with the version that an alias names now, and with its trainer.

    Raises:
        VisionloopError: The error that a stage would end with.
    """
    from visionloop.components.predict.found import check_apart, find
    from visionloop.core.workspace import check_can_be_made
    from visionloop.training import catalog

    workspace = str(arguments["workspace"])
    check_apart(workspace, str(arguments["images"]))
    check_can_be_made(workspace)
    confidence, write, tile = (arguments.get(name) for name in ("confidence", "write", "tile"))
    found = find(str(arguments["model"]), confidence, write, tile, os.environ)
    trainer = catalog.trainer(found.description.trainer)
    catalog.check_installed(trainer)
    return {**arguments, "model": found.version.label, "trainer": trainer.name}


def predicted_from_outside(arguments: Mapping[str, Any]) -> None:
    """Checks a run of a cluster that predicts, as far as its arguments alone say it. Raises InvalidConfig."""
    from visionloop.components.predict import written
    from visionloop.components.predict.asked import parse_confidence
    from visionloop.components.predict.found import check_apart
    from visionloop.training.tiled import parse_tile

    check_apart(str(arguments["workspace"]), str(arguments["images"]))
    parse_confidence(arguments.get("confidence"))
    written.parse_write(arguments.get("write"))
    parse_tile(arguments.get("tile"))
    _tell([f"not checked here: the model {arguments['model']}, which the run looks for."])


def check_from_outside(arguments: Mapping[str, Any]) -> None:
    """Checks a run of a cluster: its stores, registry and images are not this process's. Raises as ``check_here``."""
    from visionloop.components.snapshot.preflight import FROM_OUTSIDE, preflight

    _tell(preflight(arguments, settings_in(arguments), FROM_OUTSIDE, os.environ))


@contextlib.contextmanager
def champion_in_environment(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Gives the stages that are started in it on this machine the champion, which drift is measured against."""
    from visionloop.components.snapshot.baseline import champion_variable

    name = arguments.get("model_name")
    with setting(champion_variable(None if name is None else str(name), os.environ)):
        yield


def _tell(notices: list[str]) -> None:
    for text in notices:
        notice(text)
