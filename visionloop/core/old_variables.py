"""Variables that the backend before Visionloop gave to a training: which are still read, refused, or without meaning here.

docs/configuration.md, "Variables from before", is written from OLD_VARIABLES.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from visionloop.core.errors import InvalidConfig


@dataclass(frozen=True)
class OldVariable:
    """What became of variables.

    Attributes:
        names: The variables.
        state: ``refused`` ends a run with 78, because it would do something else than the variable asks for.
        instead: What takes their place, or why they have no meaning; completes "NAME: …".
        successors: Variables and arguments of a run, any of which makes the old variable superfluous: then it is passed over.
        value: The one value that is refused; None for any.
        beside: A variable without which it is passed over, since the name alone may be another program's; None refuses it always.
    """

    names: tuple[str, ...]
    state: Literal["read", "refused", "no meaning"]
    instead: str
    successors: tuple[str, ...] = ()
    value: str | None = None
    beside: str | None = None


_ENDPOINTS = (
    "S3_ENDPOINT",
    "INTERNAL_S3_ENDPOINT",
    "EXTERNAL_S3_ENDPOINT",
    "EXTERNAL_STORAGE_ENDPOINT",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
)

#: Every variable of the backend before that this version does not read under its own name as the tables above it say.
OLD_VARIABLES = (
    OldVariable(("TRAINING_JOB_ID",), "read", "the run's id, where JOB_ID is not set"),
    OldVariable(
        ("DATASET_PATH",),
        "refused",
        "give the dataset's URI as --dataset, or in DATASET_S3_URI",
        ("DATASET_S3_URI", "dataset", "snapshot"),
    ),
    OldVariable(("SNAPSHOT_ID",), "refused", "give the snapshot's id as --snapshot", ("snapshot",)),
    OldVariable(
        ("PRESIGNED_URLS_JSON",),
        "refused",
        "a dataset is read from its store: give its URI as --dataset and keys in EXTERNAL_S3_ACCESS_KEY and EXTERNAL_S3_SECRET_KEY, and unset it",
    ),
    OldVariable(
        ("BACKEND_BASE_URL", "BACKEND_URL"),
        "refused",
        "give the whole address of the receiver of events in CALLBACK_URL",
        ("CALLBACK_URL",),
        beside="CALLBACK_TOKEN",
    ),
    OldVariable(
        ("STORAGE_TYPE",),
        "refused",
        "R2 is a store like any other: give what R2_ENDPOINT, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY hold as S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY",
        _ENDPOINTS,
        "r2",
    ),
    OldVariable(
        ("R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"),
        "no meaning",
        "their new names are S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY; with STORAGE_TYPE=r2 and no endpoint a run is refused",
    ),
    OldVariable(("DATASET_ID",), "no meaning", "a dataset is named by its URI"),
    OldVariable(("DATASET_VERSION_HASH",), "no meaning", "a snapshot's id is made from the dataset's hash"),
    OldVariable(("OUTPUT_PATH",), "no meaning", "results lie under --workspace"),
    OldVariable(
        ("LABELER_API_URL", "LABELER_SERVICE_KEY", "SERVICE_JWT_SECRET"),
        "no meaning",
        "a dataset is read where it lies; no labelling tool is asked",
    ),
    OldVariable(
        ("TRAINING_MODE", "TRAINERS_DIR", "TRAINER_IMAGE_REGISTRY", "K8S_TRAINING_NAMESPACE"),
        "no meaning",
        "--engine, --runner, --registry and --namespace say where a run works",
    ),
    OldVariable(
        ("CLEARML_API_HOST", "CLEARML_WEB_HOST"),
        "read",
        "the tracker clearml, where OBSERVABILITY_BACKENDS names it (docs/tracking.md)",
    ),
    OldVariable(
        ("TEMPORAL_HOST", "TEMPORAL_NAMESPACE", "TEMPORAL_TASK_QUEUE", "TRAINING_JOB_STATUS_SYNC_INTERVAL"),
        "no meaning",
        "the engine knows what runs; nothing is kept in step with it",
    ),
)


def check_old_variables(arguments: Collection[str], environment: Mapping[str, str]) -> list[str]:
    """Checks the variables that a run was started with.

    Args:
        arguments: The names of the run's arguments that are given.
        environment: The process's variables.

    Returns:
        A notice that names those without meaning here; empty if none is set.

    Raises:
        InvalidConfig: If one asks for something that the run would not do.
    """
    ignored = []
    for old in OLD_VARIABLES:
        existing = [name for name in old.names if environment.get(name, "").strip()]
        if not existing:
            continue
        if old.state == "no meaning":
            ignored += existing
        if old.state != "refused" or any(name in arguments or environment.get(name) for name in old.successors):
            continue
        if old.beside is not None and not environment.get(old.beside):
            continue
        name = existing[0]
        if old.value in (None, environment[name].strip().lower()):
            shown = name if old.value is None else f"{name}={old.value}"
            raise InvalidConfig(f"The variable {shown} is not read: {old.instead}.")
    if not ignored:
        return []
    return [f"without meaning here: {', '.join(ignored)} (docs/configuration.md, Variables from before)"]
