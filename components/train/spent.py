"""Seconds that a training has taken over all runs that worked on it."""

from __future__ import annotations

from visionloop.core.progress import Progress
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix


def by_other_runs(earlier: Progress | None, workspace: Prefix, run: str) -> dict[str, float]:
    """Returns the seconds of the runs before, by run: what they recorded last, at their last epoch or after it.

    Args:
        earlier: The training's progress, which names the runs; None if it starts anew.
        workspace: The workspace of the runs' records.
        run: The current run, which counts its own seconds.
    """
    named = earlier.spent if earlier else {}
    return {
        other: max(seconds, RunRecord(workspace, other).state("train").seconds)
        for other, seconds in named.items()
        if other != run
    }
