"""Stopping a run's training, and cancelling a run: whether there is such a run, and anything left to end."""

from __future__ import annotations

from visionloop.core import stop
from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.runs import RunRecord, run_name
from visionloop.core.storage import open_prefix
from visionloop.pipelines.completion import has_ended, outcome
from visionloop.pipelines.engines import Engine
from visionloop.pipelines.environment import workspace_store
from visionloop.pipelines.following.state import Place


def stop_run(place: Place, request: stop.Stop) -> str | None:
    """Asks a run to stop its training after the epoch under way.

    Args:
        place: Where its record lies.
        request: What is asked for.

    Returns:
        How the run has ended already (succeeded, failed or cancelled), or None if it was asked.

    Raises:
        InvalidConfig: If there is no such run, or it trains nothing.
        VisionloopError: If the store can't be read or written.
    """
    with workspace_store(place.workspace):
        record = _record(place)
        ended = _ended(record, place)
        if ended is None and record.state("predict").key:
            raise InvalidConfig(
                f"the run {place.run} predicts and trains nothing; visionloop run cancel {place.run} ends it, and the shards that are done stay."
            )
        if ended is None:
            stop.ask(record, request)
        return ended


def cancel_run(
    run: str, engine: Engine, *, workspace: str | None = None, host: str | None = None, namespace: str | None = None
) -> str | None:
    """Ends a run at once.

    Args:
        run: Its name.
        engine: The engine that runs it.
        workspace: Its workspace; asked where the engine does not know the run any more.
        host: The engine's address.
        namespace: Its namespace there.

    Returns:
        How the run has ended already (succeeded, failed or cancelled), or None if it was ended now.

    Raises:
        InvalidConfig: If there is no such run, or not on this machine.
        AccessDenied: If the caller may not end it.
        Transient: If the engine does not answer, or the run does not end.
    """
    try:
        ended = engine.cancel(run, host=host, namespace=namespace)
        if ended != "":
            return ended
        place = engine.place(run, workspace=workspace, host=host, namespace=namespace)
    except InvalidConfig:
        if workspace is None or (how := _how(Place(workspace, run))) is None:
            raise
        return how
    return _how(place)


def _how(place: Place) -> str | None:
    """How a run has ended; None while it has not."""
    with workspace_store(place.workspace):
        return _ended(_record(place), place)


def _record(place: Place) -> RunRecord:
    """A run's record. Raises InvalidConfig if there is none."""
    record = RunRecord(open_prefix(place.workspace, "results"), run_name(place.run))
    if record.read() is None:
        raise InvalidConfig(
            f"{place.workspace} has no run {place.run}; give the name of its folder below runs/, and its own --workspace."
        )
    return record


def _ended(record: RunRecord, place: Place) -> str | None:
    try:
        recorded = record.stages()
    except NotFound:
        recorded = []
    states = {state.stage: state for state in recorded if (state.updated_at or "") >= place.since}
    over = has_ended(states) if place.alive is None else not place.alive
    return outcome(states) if over else None
