"""What a run says of itself before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from visionloop.core.names import sanitise
from visionloop.data.datasets import listed, parse_datasets
from visionloop.pipelines.engines import Engine, Order
from visionloop.pipelines.engines.laptop.runner import DOCKER
from visionloop.pipelines.parameters import settings_in
from visionloop.pipelines.services.folder import find_folder
from visionloop.pipelines.targets import DEFAULT_TRAINER
from visionloop.training import catalog
from visionloop.training.chosen import trainer_line
from visionloop.training.tracking.address import shown
from visionloop.training.tracking.connection import registry_uri


def started(engine: Engine, order: Order) -> str:
    """One line on what starts: pipeline and model, data, task, engine, workspace and registry."""
    arguments = order.arguments
    task = f"task {arguments['task']}" if arguments.get("task") else "the dataset's own task"
    data = [f"images {arguments['images']}"] if order.pipeline == "predict" else [_source(arguments), task]
    parts = [
        *data,
        f"engine {engine.name}{f' ({engine.description})' if engine.description else ''}",
        f"workspace {arguments['workspace']}",
        f"registry {_registry(engine)}",
    ]
    model = sanitise(str(arguments["model_name"])) if "model_name" in arguments else arguments["model"]
    return f"{order.pipeline} {model}: {', '.join(parts)}"


def trainer_of(engine: Engine, order: Order) -> str:
    """One line on the trainer, and why it is taken. Raises InvalidConfig (78) if none is installed here for a run here."""
    arguments = order.arguments
    images = engine.cluster or order.options.get("runner") == DOCKER
    return trainer_line(
        catalog.trainers(),
        settings_in(arguments),
        str(arguments.get("task") or "") or None,
        DEFAULT_TRAINER if images else None,
        {} if engine.cluster else os.environ,
    )


def _source(arguments: Mapping[str, Any]) -> str:
    """What is trained on."""
    if not arguments.get("dataset"):
        return f"snapshot {arguments['snapshot']}"
    datasets = parse_datasets(arguments["dataset"])
    uris = [
        dataset.uri if dataset.weight == 1 else f"{dataset.uri} (weight {dataset.weight:g})" for dataset in datasets
    ]
    return f"dataset{'s' if len(uris) > 1 else ''} {listed(uris)}"


def _registry(engine: Engine) -> str:
    if engine.cluster:
        return "that of its pods"
    uri = registry_uri(os.environ)
    return shown(uri) if "@" in uri else uri or f"the embedded MLflow in {find_folder(None).path}"
