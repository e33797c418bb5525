"""Which embedded services a run on this machine needs, and the variables through which its stages reach them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import VisionloopError
from visionloop.core.stores import VARIABLES, Role
from visionloop.data.datasets import parse_datasets
from visionloop.pipelines import services
from visionloop.training.tracking import choice
from visionloop.training.tracking.database.address import VARIABLE, database_url

if TYPE_CHECKING:
    from visionloop.registry import Registry

#: The variable that leads to MLflow.
REGISTRY = "MLFLOW_TRACKING_URI"

#: Standard AWS variables; any of them means that a store is configured.
_AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")


@contextlib.contextmanager
def services_for(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Starts the services that a run needs and nothing else configures, and sets their variables for the duration of the run.

    The store is embedded if an ``s3://`` URI has no configured one, or if the files of a registered model that the run reads lie
    in such a store; MLflow is embedded if MLFLOW_TRACKING_URI is not set. A run on folders starts nothing: MLflow's store is a file.
    """
    with setting(_database()), _embedded(arguments), _model_store(arguments):
        yield


def _database() -> dict[str, str]:
    """The variable of the database that the run is tracked in, where it is the file in the home: containers see no home.

    Raises:
        InvalidConfig: If OBSERVABILITY_BACKENDS names what is not there, or the variable can't be used.
    """
    return {VARIABLE: database_url(os.environ)} if "database" in choice.named(os.environ) else {}


@contextlib.contextmanager
def _embedded(arguments: Mapping[str, Any]) -> Iterator[None]:
    needed = needs(arguments)
    if not needed:
        yield
        return
    if needed == (REGISTRY,):
        with setting(services.registry()):
            yield
        return
    with services.session() as embedded:
        available = embedded.environment()
        wanted = {
            name: value
            for name, value in available.items()
            if not name.startswith(("EXTERNAL_S3_", "INTERNAL_S3_", REGISTRY))
            or any(name.startswith(prefix) for prefix in needed)
        }
        with setting(wanted):
            yield


def _model_store(arguments: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """The embedded store, where it holds the model that a run reads: the champion of its name, or the one that it starts from."""
    models = [str(arguments[name]) for name in ("model_name", "model") if arguments.get(name)]
    if not models or configured("results"):
        return contextlib.nullcontext()
    from visionloop.registry import Registry

    workspaces = set()
    for model in models:
        # A name may be none of the registry's; what is wrong with either is for the run's own check to tell.
        with contextlib.suppress(VisionloopError):
            workspaces.add(workspace_of(Registry(os.environ), [model]))
    return workspace_store(max(workspaces, default=""))  # s3:// behind file://


def workspace_of(registry: Registry, models: Sequence[str]) -> str:
    """The workspace that the versions of models were registered from; of several one that lies in a store, "" if there is none.

    Args:
        registry: Where they are looked for.
        models: ``NAME``, ``NAME/VERSION`` or ``NAME@ALIAS``.

    Raises:
        InvalidConfig: If no such model is registered.
    """
    from visionloop.registry import resolve

    names = dict.fromkeys(re.split("[/@]", model.removeprefix("models:/"))[0] for model in models)
    versions = [each for name in names for each in registry.of_name(resolve.registered_name(name, registry))]
    workspaces = sorted({version.workspace or "" for version in versions}, reverse=True)  # s3:// behind file://
    return workspaces[0] if workspaces else ""


def workspace_store(workspace: str) -> contextlib.AbstractContextManager[None]:
    """The embedded store, where a workspace lies in one and none is configured; its snapshots' datasets may lie there too."""
    if workspace.startswith("s3://") and not configured("results"):
        return services_for({"workspace": workspace, "snapshot": True})
    return contextlib.nullcontext()


def needs(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Prefixes of the variables that embedded services must supply for these arguments."""
    prefixes = []
    if _on_s3(arguments.get("workspace")) and not configured("results"):
        prefixes.append("INTERNAL_S3_")
    # Where a snapshot's dataset lies is recorded in the workspace only, so the dataset's store is supplied as well.
    datasets = parse_datasets(arguments["dataset"]) if arguments.get("dataset") else ()
    read = [*(dataset.uri for dataset in datasets), arguments.get("images")]
    if (any(map(_on_s3, read)) or arguments.get("snapshot")) and not configured("dataset"):
        prefixes.append("EXTERNAL_S3_")
    if not os.environ.get(REGISTRY):
        prefixes.append(REGISTRY)
    return tuple(prefixes)


def configured(role: Role) -> bool:
    """Whether the environment says where a role's store is: its own variables, or the standard AWS ones."""
    own = (f"{prefix}{name}" for prefix in VARIABLES[role] for name in ("ENDPOINT", "ACCESS_KEY"))
    home = os.environ.get("HOME", "")
    files = (os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials",)
    return any(os.environ.get(name) for name in (*own, *_AWS)) or any(Path(file).is_file() for file in files)


def _on_s3(uri: Any) -> bool:
    return isinstance(uri, str) and uri.startswith("s3://")


@contextlib.contextmanager
def setting(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
