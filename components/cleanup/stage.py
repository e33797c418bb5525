"""The cleanup stage. It has no key and no receipt: it acts on the world as it is, and a second run changes nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from visionloop.components.cleanup.events import publish_end
from visionloop.components.cleanup.notify import notify
from visionloop.core import damage, progress, receipts, stop
from visionloop.core.logs import LOGGER
from visionloop.core.policy import ABANDONED_CHECKPOINT_DAYS, POLICIES
from visionloop.core.reservation import Watcher
from visionloop.core.runs import StageState
from visionloop.core.stage import Context, argument
from visionloop.core.storage import Prefix
from visionloop.training.tracking import end_left_open

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Arguments:
    """The arguments of cleanup."""

    abandoned_days: str = argument(
        "Age in days from which checkpoints of a training that never finished are removed.",
        default=str(ABANDONED_CHECKPOINT_DAYS),
    )
    engine_status: str | None = argument(
        "What the engine says of the run's end (Succeeded, Failed, Error).", default=None
    )
    engine_failure: str | None = argument(
        "Which step failed first, and why, as the engine tells it; it counts where no stage tells a failure.",
        default=None,
    )


class CleanupStage:
    """Removes attempts that are not results, and checkpoints that nothing will resume from."""

    name = "cleanup"
    logic_version = 1
    policy = POLICIES["cleanup"]
    arguments = Arguments
    description = "Removes what a run left behind: attempts that did not win, checkpoints of finished trainings."

    def act(self, context: Context, arguments: Arguments) -> dict[str, Any]:
        """Sends the message about the run, tells what its training could not, and cleans up after its stages.

        Returns how many objects and bytes were removed.
        """
        notified = notify(context.run, arguments.engine_status, arguments.engine_failure)
        publish_end(context, arguments.engine_status, arguments.engine_failure)
        removed = size = 0
        for state in (*context.run.stages(), *context.run.shards()):
            if state.stage == self.name or not state.key:
                continue
            prefix = context.workspace.child(f"{state.stage}/{state.key}")
            result = receipts.look(context.workspace, state.stage, state.key)
            watcher = Watcher(prefix)
            held = watcher.look()
            if not held or (watcher.reserved is not None and watcher.reserved.run == context.run.name):
                # This run is over: what still holds the key for it is a pod that was lost.
                end_left_open(os.environ, prefix, _ended_as(context, state, result))
            if held:
                continue
            damaged = result is not None and damage.of_attempt(prefix, result.receipt.attempt) is not None
            doomed = _doomed(prefix, state, result, float(arguments.abandoned_days), damaged=damaged)
            removed += prefix.delete(key for key, _ in doomed)
            size += sum(bytes_ for _, bytes_ in doomed)
            # Another run may be starting on the key right now, unless there is a receipt.
            for under in [""] if result and not damaged else state.attempts:
                halves, half_bytes = prefix.discard_partial(under)
                removed, size = removed + halves, size + half_bytes
            context.alive()
        LOGGER.info("cleanup removed %d objects (%.1f MB)", removed, size / 1e6)
        return {"removed": removed, "removed_bytes": size, "notified": notified}


def _ended_as(context: Context, state: StageState, result: receipts.Result | None) -> str:
    """The state with which a stage's run in a tracker is ended, where the stage itself could not."""
    if result is not None:
        return "succeeded"
    return "cancelled" if state.state == "cancelled" or stop.is_cancelled(context.run) else "failed"


def _doomed(
    prefix: Prefix, state: StageState, result: receipts.Result | None, abandoned_days: float, *, damaged: bool
) -> list[tuple[str, int]]:
    """Returns the objects of a key that do not belong to a result: key relative to the key's folder, and size in bytes.

    With a receipt: everything but the receipt and the outputs that it names.
    Without one: the objects of this run's own attempts, but never checkpoints younger than the retention.
    A result that is marked as damaged counts as none, and its attempt is left alone until another receipt replaces it.
    """
    kept = {entry.path for entry in result.receipt.outputs.values()} if result else set()
    oldest = time.time() - abandoned_days * 86400
    doomed = []
    for info in prefix.objects():
        attempt, _, rest = info.key.partition("/")
        if not rest:
            # Outside the attempts are the receipt, a stale reservation, the progress record and an earlier receipt's mark.
            if result and not damaged and info.key in (progress.FILE, damage.FILE):
                doomed.append((info.key, info.size))
            continue
        if damaged and result and (attempt == result.receipt.attempt or info.key in kept):
            continue
        if result and not damaged:
            if info.key not in kept:
                doomed.append((info.key, info.size))
        elif rest.startswith(f"{CHECKPOINTS}/"):
            if info.modified and info.modified < oldest:
                doomed.append((info.key, info.size))
        elif attempt in state.attempts:
            doomed.append((info.key, info.size))
    return doomed


STAGE = CleanupStage()
