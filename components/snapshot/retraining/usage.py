"""What a model's earlier runs used, counted from their records and the receipts of their trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from visionloop.components.snapshot.retraining.policy import Usage
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, InvalidReceipt
from visionloop.core.names import sanitise
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.storage import Prefix

#: How far ``max_runs_per_week`` looks back.
WEEK = timedelta(days=7)

#: How much a store's clock may differ from this machine's when old records are skipped unread.
CLOCK_SLACK = timedelta(days=1)


def usage_of(workspace: Prefix, model: str, own_run: str, now: datetime) -> Usage:
    """Returns what a model's earlier runs in a workspace used.

    A run counts if its train stage computed: one that found a finished training, that was skipped, or whose settings were
    refused used nothing. A training that failed midway counts as a run; its GPU hours count if it left a receipt.

    Args:
        workspace: The results' prefix.
        model: The registered model's name.
        own_run: The current run, which does not count.
        now: The time, in UTC.
    """
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    runs, gpu_hours = 0, 0.0
    for record, state in _trained(workspace, min(now - WEEK, month) - CLOCK_SLACK):
        if record.name == own_run or not _is_of(record, model):
            continue
        runs += _time(state.started_at) >= now - WEEK
        if _time(state.updated_at) >= month:
            gpu_hours += _gpu_hours(record, state)
    return Usage(runs, gpu_hours)


def _trained(workspace: Prefix, since: datetime) -> Iterator[tuple[RunRecord, StageState]]:
    """Yields the runs whose train stage has computed, and was last updated since a time."""
    for info in workspace.child("runs").objects():
        run, _, file = info.key.partition("/")
        if file == "train.json" and info.modified >= since.timestamp():
            record = RunRecord(workspace, run)
            state = record.state("train")
            if state.attempts:
                yield record, state


def _is_of(record: RunRecord, model: str) -> bool:
    run = record.read()
    name = model_name(run.arguments) if run else ""
    try:
        return bool(name) and sanitise(name) == model
    except InvalidConfig:
        return False


def model_name(arguments: Mapping[str, Any]) -> str:
    """Returns the model's name in the arguments of a run's pipeline or of one of its stages; empty if there is none."""
    mappings = [arguments, *(value for value in arguments.values() if isinstance(value, Mapping))]
    return next((str(mapping["model_name"]) for mapping in mappings if mapping.get("model_name")), "")


def _gpu_hours(record: RunRecord, state: StageState) -> float:
    """Returns the GPU hours of the training that a run computed itself, even if it was stopped early."""
    failure = None if state.receipt else record.failure("train")
    uri = state.receipt or (failure.receipt if failure else None)
    if not uri:
        return 0.0
    try:
        receipt = receipts.nearest(uri, "train", record.workspace, outputs=False).receipt
    except InvalidReceipt:
        return 0.0
    return receipt.timings.get("gpu_hours", 0.0) if receipt.attempt in state.attempts else 0.0


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)
