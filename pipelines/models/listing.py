"""The registered versions as people see them: what each is, how good, by whose word it is the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.logs import notice
from visionloop.core.storage import open_prefix
from visionloop.pipelines.models.decisions import evaluation_of, pending
from visionloop.pipelines.models.workspace import run_of
from visionloop.registry import Registry, Version, resolve
from visionloop.registry.versions import (
    DATASET_HASH,
    EVALUATION,
    METRIC,
    MLFLOW_RUN_ID,
    NAME,
    PROMOTED_AT,
    PROMOTED_BY,
    PROMOTED_REASON,
    SNAPSHOT_ID,
    STORAGE_URI,
    SUPERSEDED_BY,
    TRACE_ID,
)


@dataclass(frozen=True)
class Entry:
    """One registered version.

    Attributes:
        model: The registered name.
        version: Its number.
        aliases: The aliases that point to it.
        time: When it was registered (ISO 8601, UTC).
        snapshot: The snapshot that it was trained on; None for a version that Visionloop did not register, as in what follows.
        metrics: Its metrics on the held-out split.
        promoted_by: Who made it the champion by a command; None where nobody did.
        promoted_at: When.
        promoted_reason: Why.
        superseded_by: The version that took the alias from it.
    """

    model: str
    version: int
    aliases: list[str]
    time: str
    snapshot: str | None
    metrics: dict[str, float]
    promoted_by: str | None
    promoted_at: str | None
    promoted_reason: str | None
    superseded_by: int | None


def listed(registry: Registry, name: str | None) -> list[Entry]:
    """The versions of a model, or of every one: by name, the newest first.

    Raises:
        InvalidConfig: If there is no model of this name.
    """
    registered = resolve.registered_name(name, registry) if name is not None else None
    versions = sorted(registry.versions(registered), key=lambda version: (version.name, -version.number))
    return [entry_of(version) for version in versions]


def details(registry: Registry, wanted: str) -> dict[str, Any]:
    """All that is shown of one version. What its workspace does not give any more is None, and told by a notice.

    Raises:
        InvalidConfig: If there is no such version.
    """
    version = resolve.named(wanted, registry)
    cut_off = pending(registry, version.name)
    return {
        **asdict(entry_of(version)),
        "given_name": registry.model_tag(version.name, NAME),
        **_described(version, registry),
        **_evaluated(version),
        "evaluation": version.tags.get(EVALUATION),
        "training": version.training_receipt,
        "dataset_hash": version.tags.get(DATASET_HASH),
        "source": version.source,
        "storage": version.tags.get(STORAGE_URI),
        "mlflow_run": version.tags.get(MLFLOW_RUN_ID),
        "trace_id": version.tags.get(TRACE_ID),
        **_recorded(version),
        "cut_off": msgspec.to_builtins(cut_off) if cut_off and cut_off.version == version.number else None,
    }


def entry_of(version: Version) -> Entry:
    """What the registry says of one version."""
    tags = version.tags
    superseded = tags.get(SUPERSEDED_BY, "")
    return Entry(
        model=version.name,
        version=version.number,
        aliases=list(version.aliases),
        time=datetime.fromtimestamp(version.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        snapshot=tags.get(SNAPSHOT_ID),
        metrics=_metrics(tags),
        promoted_by=tags.get(PROMOTED_BY),
        promoted_at=tags.get(PROMOTED_AT),
        promoted_reason=tags.get(PROMOTED_REASON),
        superseded_by=int(superseded) if superseded.isdecimal() else None,
    )


def _metrics(tags: Mapping[str, str]) -> dict[str, float]:
    """The metrics that tags hold as numbers: a person may have written others."""
    metrics = {}
    for tag, value in sorted(tags.items()):
        if tag.startswith(METRIC):
            try:
                metrics[tag.removeprefix(METRIC)] = float(value)
            except ValueError:
                continue
    return metrics


def _described(version: Version, registry: Registry) -> dict[str, Any]:
    """What a version's files say of it, and where they lie."""
    try:
        uri, description = resolve.describe(version, registry)
    except VisionloopError as error:
        notice(f"What its files say is not known: {error.sentence}")
        return {"files": None, "trainer": None, "task": None, "classes": None}
    return {
        "files": uri,
        "trainer": description.trainer,
        "task": description.task,
        "classes": list(description.classes),
    }


def _evaluated(version: Version) -> dict[str, Any]:
    """The verdict by which it was registered, with its reason."""
    try:
        if version.workspace is None:
            raise InvalidConfig(f"{version.label} was not registered by Visionloop.")
        result = evaluation_of(version, open_prefix(version.workspace, "results"))
    except VisionloopError as error:
        notice(f"Its verdict is not known: {error.sentence}")
        return {"verdict": None, "reason": None}
    return {"verdict": result.verdict, "reason": result.reason}


def _recorded(version: Version) -> dict[str, Any]:
    """The run that registered it, and what people decided about it."""
    try:
        record = run_of(version)
        decisions = record.decisions() if record else []
    except VisionloopError as error:
        notice(f"Its run is not known: {error.sentence}")
        return {"run": None, "decisions": None}
    return {"run": record.name if record else None, "decisions": [msgspec.to_builtins(entry) for entry in decisions]}
