"""How a snapshot is deleted: what refuses it, what goes, and in which order, so that no half of one is taken for whole.

The receipts go first: without one nothing of a key counts. Then the outputs, then the index, by which a deletion that was cut off
is found again and finished.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from visionloop.components.snapshot import index, taken
from visionloop.core import receipts, reservation
from visionloop.core.errors import InvalidConfig
from visionloop.core.reservation import Reservation, Watcher, this_process
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.storage import ObjectInfo, Prefix
from visionloop.pipelines.snapshots.uses import Uses

#: A running stage reports at least every minute, and ends after five of silence: beyond this many seconds it is gone.
SILENT_SECONDS = 600

#: A whole run's limit in seconds: one that has not ended by then will not go on.
LONGEST_RUN_SECONDS = 25 * 3600


@dataclass(frozen=True)
class Removal:
    """What a deletion takes.

    Attributes:
        id: The snapshot's id.
        keys: The keys of its receipts, and of what a deletion that was cut off has left.
        digest: Its result digest; None where its receipts are gone already.
        objects: The objects below each key.
        results: How many results of each later stage were made from it; they stay.
        runs: The runs that took it.
    """

    id: str
    keys: list[str]
    digest: str | None
    objects: Mapping[str, list[ObjectInfo]]
    results: Mapping[str, int]
    runs: list[str]

    @property
    def count(self) -> int:
        """The number of objects that go."""
        return sum(len(infos) for infos in self.objects.values())

    @property
    def size(self) -> int:
        """Their size in bytes."""
        return sum(info.size for infos in self.objects.values() for info in infos)


def planned(results: Prefix, wanted: str) -> Removal:
    """What deleting a snapshot takes.

    Args:
        results: The workspace.
        wanted: The id.

    Raises:
        InvalidConfig: If the workspace has no such snapshot.
    """
    own = [result for result in taken.every(results) if result.receipt.scalars.get(taken.ID) == wanted]
    indexed = [receipts.KEY_IN_URI.search(uri) for uri in taken.indexed(results, wanted)]
    keys = list(dict.fromkeys([*(result.receipt.key for result in own), *(match[1] for match in indexed if match)]))
    if not keys:
        raise taken.unknown(results, wanted)
    objects = {key: list(results.child(f"snapshot/{key}").objects()) for key in keys}
    uses = Uses(results)
    made = uses.results(own[0].receipt.digest) if own else {}
    return Removal(
        wanted,
        keys,
        own[0].receipt.digest if own else None,
        objects,
        {stage: len(receipts) for stage, receipts in made.items()},
        uses.runs(keys),
    )


def check_unused(results: Prefix, removal: Removal) -> None:
    """Refuses a deletion by which a registered version loses its lineage, or a run that is under way its dataset.

    Raises:
        InvalidConfig: If there is such a version or run; the sentence names it.
    """
    named = _versions(results, removal)
    if named:
        more = f" and {len(named) - 3:,} more" if len(named) > 3 else ""
        raise InvalidConfig(
            f"{removal.id} is not deleted: the registered version {', '.join(named[:3])}{more} was trained on it, and its lineage names it; "
            "delete the version first."
        )
    for run in removal.runs:
        if at := _under_way(RunRecord(results, run)):
            raise InvalidConfig(
                f"{removal.id} is not deleted: the run {run} is under way ({at}) and uses it; wait until it has ended, or stop it."
            )


def remove(results: Prefix, removal: Removal) -> None:
    """Deletes a snapshot: receipts, outputs, index.

    Raises:
        InvalidConfig: If a run computes one of its keys now.
    """
    prefixes = [results.child(f"snapshot/{key}") for key in removal.keys]
    with contextlib.ExitStack() as held:
        for prefix in prefixes:
            held.enter_context(_reserved(prefix, removal.id))
        for prefix in prefixes:
            prefix.delete([receipts.FILE])
        for prefix in prefixes:
            prefix.delete(info.key for info in list(prefix.objects()) if info.key != reservation.FILE)
            prefix.discard_partial()
        ours = [uri for uri in taken.indexed(results, removal.id) if _key(uri) in removal.keys]
        index.remove(results, removal.id, ours)


def _key(uri: str) -> str | None:
    match = receipts.KEY_IN_URI.search(uri)
    return match[1] if match else None


@contextlib.contextmanager
def _reserved(prefix: Prefix, wanted: str) -> Iterator[None]:
    """Holds a key, so that no run computes it meanwhile."""
    watcher = Watcher(prefix)
    held = watcher.look()
    taker = Reservation(prefix, "snapshot delete", uuid.uuid4().hex[:12])
    if held or not taker.take(watcher.etag):
        by = watcher.reserved.run if watcher.reserved else "another process"
        raise InvalidConfig(f"{wanted} is not deleted: {by} computes it now; wait until it has ended.")
    try:
        yield
    finally:
        taker.release()


def _versions(results: Prefix, removal: Removal) -> list[str]:
    """The registered versions whose lineage, in this workspace, names the snapshot: NAME/VERSION each."""
    if not results.children("register")[0]:
        return []
    from visionloop.registry.versions import EVALUATION, Registry

    registry = Registry(os.environ, "snapshot delete")
    # A registration that was cut off has a version and no receipt.
    evaluated = {version.label: _key(version.tags.get(EVALUATION, "")) for version in registry.of_snapshot(removal.id)}
    named = [label for label, key in evaluated.items() if key and results.exists(f"evaluate/{key}/{receipts.FILE}")]
    for version in Uses(results).versions(removal.digest or ""):
        if registry.version(version.name, version.number) is not None:
            named.append(version.label)
        elif not registry.has_model(version.name):
            raise InvalidConfig(
                f"{removal.id} is not deleted: register's receipt names {version.label}, which was trained on it, and the registry that is asked "
                f"has no model {version.name}; set MLFLOW_TRACKING_URI to the one that has, or if the model is gone for good remove "
                f"{results.uri}/register/{version.key}."
            )
    return sorted(set(named))


def _under_way(record: RunRecord) -> str | None:
    """What a run is doing, or None if it has ended: cleanup is the last stage, and a running stage reports."""
    states = {state.stage: state for state in record.stages()}
    if "cleanup" in states or not states:
        return None
    every = [*states.values(), *record.shards()]
    for state in every:
        if state.key and _is_held(record.workspace.child(f"{state.stage}/{state.key}"), record.name):
            return state.stage
    running = [state for state in every if state.state == "running"]
    if any(state.key and _left_behind(record, state) for state in running):
        return None
    newest = max(every, key=lambda state: state.updated_at or "")
    if running:
        return running[-1].stage if _age(newest) < SILENT_SECONDS else None
    # Between two stages: a pod may wait for a node. A stage that somebody called by itself has no pipeline's arguments.
    run = record.read()
    waits = run is not None and "model_name" in run.arguments and _age(newest) < LONGEST_RUN_SECONDS
    return f"after {newest.stage}" if waits else None


def _is_held(prefix: Prefix, run: str) -> bool:
    """Whether a live process of a run holds a key. Of another machine's, a minute decides."""
    watcher = Watcher(prefix)
    while watcher.look():
        reserved = watcher.reserved
        if reserved is None or reserved.run != run:
            return False
        holder, mine = reserved.holder, this_process()
        if (holder.host, holder.boot, holder.namespace) == (mine.host, mine.boot, mine.namespace):
            return True
        beat = reserved.heartbeat
        time.sleep(1.0)
        if watcher.look() and watcher.reserved is not None and watcher.reserved.heartbeat != beat:
            return True
    return False


def _left_behind(record: RunRecord, state: StageState) -> bool:
    """Whether the process that worked on a stage's key is known to be dead."""
    watcher = Watcher(record.workspace.child(f"{state.stage}/{state.key}"))
    return not watcher.look() and watcher.reserved is not None and watcher.reserved.run == record.name


def _age(state: StageState) -> float:
    """Seconds since a stage last reported."""
    try:
        updated = datetime.fromisoformat(state.updated_at or "")
    except ValueError:
        return float("inf")
    return (datetime.now(UTC) - updated).total_seconds()
