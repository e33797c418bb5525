"""Predicts what a run would reuse, what it would compute, and which of a key's inputs are the reason."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from visionloop.components.calls import CALLS, SETTINGS, SHARDS, Unless
from visionloop.components.snapshot.preflight import HERE, check_for_task, preflight
from visionloop.core import catalog, receipts, shards
from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.limits import Limits
from visionloop.core.logs import notice
from visionloop.core.receipts import Result
from visionloop.core.running import make_arguments
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Context, Explains, Resolution, Stage, key_of
from visionloop.core.storage import Prefix, open_prefix
from visionloop.pipelines.preflight import champion_in_environment
from visionloop.training.catalog import trainers
from visionloop.training.chosen import trainer_line
from visionloop.training.configuration import parse_settings
from visionloop.training.configuration.settings import display

Action = Literal["reuse", "run", "follows"]

#: The most characters of a value in a reason.
LONGEST_TEXT = 60

#: Stands for the value of a parameter that a receipt does not have.
MISSING = object()

#: The most earlier results of a stage that are compared, newest first.
COMPARED = 200


@dataclass(frozen=True)
class StagePlan:
    """What will happen to one stage, and why. ``nearest`` is the receipt that the reasons compare with."""

    stage: str
    action: Action
    key: str | None = None
    receipt: str | None = None
    reasons: list[str] = field(default_factory=list)
    nearest: str | None = None


def plan_train(arguments: Mapping[str, Any]) -> list[StagePlan]:
    """Returns the plan of a train pipeline; writes nothing. Arguments and errors are those of ``stage_plans``."""
    return list(stage_plans(arguments))


def stage_plans(arguments: Mapping[str, Any]) -> Iterator[StagePlan]:
    """Yields what will happen to each stage of a train pipeline, up to the one that will be refused; writes nothing.

    Args:
        arguments: The command's arguments: workspace, dataset or snapshot, task, split, model_name, gate, and ``settings`` as
            KEY=VALUE pairs.

    Raises:
        VisionloopError: The error that the run itself would end with before it computes anything.
    """
    settings = parse_settings(arguments["settings"])
    parameters = {**arguments, SETTINGS: json.dumps(settings)}
    task = str(arguments.get("task") or "") or None
    notice(trainer_line(trainers(), settings, task, None, os.environ))
    for text in preflight(arguments, settings, HERE, os.environ):
        notice(text)
    workspace = open_prefix(str(arguments["workspace"]), "results")
    receipt_uris: dict[str, str] = {}
    scalars: dict[str, Mapping[str, Any]] = {}
    reused = True
    for name, call in CALLS.items():
        if call.only_with and not parameters.get(call.only_with):
            receipt_uris[name] = ""
            continue
        if not reused:
            yield StagePlan(name, "follows")
            continue
        if call.unless is not None and _is_left_out(call.unless, receipt_uris):
            continue
        with champion_in_environment(arguments) if name == "snapshot" else contextlib.nullcontext():
            stage_arguments = call.arguments(parameters, receipt_uris)
            plan, resolution = _plan(catalog.stage(name), stage_arguments, workspace, scalars)
        scalars[name] = resolution.run_scalars
        if name == "snapshot":
            for text in resolution.notices:
                notice(text)
            check_for_task(settings, str(resolution.parameters["task"].value), arguments.get("gate"), os.environ)
        if plan.receipt:
            receipt_uris[name] = plan.receipt
        reused = plan.action == "reuse"
        yield plan


def _is_left_out(unless: Unless, receipt_uris: Mapping[str, str]) -> bool:
    """Whether the condition holds, according to its stage's receipt."""
    return bool(
        receipts.load(receipt_uris[unless.stage], unless.stage).receipt.scalars.get(unless.scalar) == unless.value
    )


def _plan(
    stage: Stage, arguments: dict[str, Any], workspace: Prefix, scalars: dict[str, Mapping[str, Any]]
) -> tuple[StagePlan, Resolution]:
    run = RunRecord(workspace, f"plan-{uuid.uuid4().hex[:12]}")
    limits = Limits(stage.name, stage.policy.timeout, 0.0)
    context = Context(workspace, run, "", limits, stage.policy, planning=True, planned=scalars)
    resolution = stage.resolve(context, make_arguments(stage, arguments))
    plan = _compare(stage, resolution, workspace)
    if plan.action == "run":
        plan.reasons.extend(_of_shards(stage, resolution, workspace, arguments))
    return plan, resolution


def _compare(stage: Stage, resolution: Resolution, workspace: Prefix) -> StagePlan:
    key = key_of(stage, resolution)
    existing = resolution.existing or receipts.look(workspace, stage.name, key)
    if existing is not None:
        obstacle = existing.obstacle()
        if obstacle is None:
            return StagePlan(stage.name, "reuse", existing.receipt.key, existing.uri)
        return StagePlan(stage.name, "run", key, None, [obstacle], existing.uri)
    nearest = _nearest(stage, resolution, workspace)
    if nearest is None:
        return StagePlan(stage.name, "run", key, None, ["no earlier result"])
    return StagePlan(stage.name, "run", key, None, _reasons(stage, resolution, nearest), nearest.uri)


def _of_shards(stage: Stage, resolution: Resolution, workspace: Prefix, arguments: Mapping[str, Any]) -> Iterator[str]:
    """How many shards of a stage are to be put together, and how many of them are there already."""
    if not isinstance(stage, shards.Sharded) or not (count := shards.parse_count(arguments.get(SHARDS))):
        return
    done = sum(result is not None for result in shards.standing(stage, workspace, resolution, count).values())
    yield f"from {count} shard{'' if count == 1 else 's'}" + (f", {done} of them there already" if done else "")


def _nearest(stage: Stage, resolution: Resolution, workspace: Prefix) -> Result | None:
    """The earlier result with the fewest differing inputs; the newest if there are several."""
    try:
        keys, _ = workspace.children(stage.name)
    except NotFound:
        raise InvalidConfig(
            f"{workspace.uri}: the workspace does not exist and can't be made there; create its bucket or correct --workspace."
        ) from None
    prefix = workspace.child(stage.name)
    dated = []
    for key, modified in zip(keys, prefix.map(lambda key: _modified(prefix, key), keys), strict=True):
        if modified is not None:
            dated.append((modified, key))
    candidates = [receipts.look(workspace, stage.name, key) for _, key in sorted(dated, reverse=True)[:COMPARED]]
    # The whole is never compared with a part of it.
    readable = [result for result in candidates if result is not None and not shards.is_part(result)]
    return min(readable, key=lambda result: len(_differing(stage, resolution, result)), default=None)


def _modified(prefix: Prefix, key: str) -> float | None:
    try:
        return prefix.head(f"{key}/{receipts.FILE}").modified
    except NotFound:
        return None


def _differing(stage: Stage, resolution: Resolution, result: Result) -> list[str]:
    """Names of the parameters and inputs that differ."""
    old, new = result.receipt.parameters, resolution.parameters
    names = [name for name in {**old, **new} if _value(old.get(name)) != _value(new.get(name))]
    before, now = result.receipt.inputs, resolution.inputs
    names += [f"input {name}" for name in {**before, **now} if _digest(before.get(name)) != _digest(now.get(name))]
    if result.receipt.logic_version != stage.logic_version:
        names.append("logic_version")
    return names


def _reasons(stage: Stage, resolution: Resolution, result: Result) -> list[str]:
    """One short text for each difference; a stage may explain some itself."""
    explained = stage.explain(result, resolution) if isinstance(stage, Explains) else {}
    reasons: list[str] = []
    for name in _differing(stage, resolution, result):
        if name in explained:
            reasons += explained[name]
        elif name == "logic_version":
            reasons.append(f"the stage's logic {result.receipt.logic_version} → {stage.logic_version}")
        elif name.startswith("input "):
            reasons.append(f"another {name.removeprefix('input ')}")
        else:
            old, new = result.receipt.parameters.get(name), resolution.parameters.get(name)
            reasons += changes(name, old.value if old else MISSING, new.value if new else MISSING)
    return reasons or ["its receipt is gone"]


def _value(parameter: receipts.Parameter | None) -> Any:
    return (parameter is not None, parameter.value if parameter else None)


def _digest(reference: receipts.InputReference | None) -> str | None:
    return reference.digest if reference else None


def changes(name: str, old: Any, new: Any) -> list[str]:
    """One short text for each value that differs; of two objects, each field that differs: ``gate.floor 0 → 0.5``.

    Args:
        name: The parameter's name.
        old: The earlier value, MISSING without one.
        new: The value now, MISSING without one.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        fields = dict.fromkeys([*old, *new])
        pairs = [(field, old.get(field, MISSING), new.get(field, MISSING)) for field in fields]
        return [
            text for field, *values in pairs if values[0] != values[1] for text in changes(f"{name}.{field}", *values)
        ]
    before, now = _text(old), _text(new)
    start = next(
        (index for index, (first, second) in enumerate(zip(before, now, strict=False)) if first != second),
        min(len(before), len(now)),
    )
    return [f"{name} {_excerpt(before, start)} → {_excerpt(now, start)}"]


def _text(value: Any) -> str:
    if value is MISSING:
        return "(none)"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return display(value) if value is None or isinstance(value, bool) else str(value)


def _excerpt(text: str, difference: int) -> str:
    """At most LONGEST_TEXT characters of a text, among them those from a difference on."""
    if len(text) <= LONGEST_TEXT:
        return text
    start = max(0, min(difference - LONGEST_TEXT // 3, len(text) - LONGEST_TEXT))
    end = start + LONGEST_TEXT
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
