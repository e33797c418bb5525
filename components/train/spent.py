"""Seconds that a training has taken over all runs that worked on it.

Each run leaves its name beside the key before it trains, so that one that is killed before its first checkpoint counts too.
"""

from __future__ import annotations

from visionloop.core.progress import Progress
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix

#: The folder of the runs' names beside a key; cleanup removes it once there is a receipt.
FOLDER = "runs"


def begin(prefix: Prefix, run: str) -> None:
    """Leaves a run's name beside the key whose prefix is ``prefix``."""
    prefix.create(f"{FOLDER}/{run}", b"{}")


def forget(prefix: Prefix) -> None:
    """Removes all names: the training is computed anew, and what an earlier one took is in its receipt."""
    prefix.delete([info.key for info in prefix.objects(FOLDER)])


def by_other_runs(earlier: Progress | None, prefix: Prefix, workspace: Prefix, run: str) -> dict[str, float]:
    """Returns the seconds of the runs before, by run: what they recorded last, at their last epoch or after it.

    Args:
        earlier: The training's progress, which names the runs that finished an epoch; None if it starts anew.
        prefix: The prefix of the training's key.
        workspace: The workspace of the runs' records.
        run: The current run, which counts its own seconds.
    """
    named = {info.key.rpartition("/")[2]: 0.0 for info in prefix.objects(FOLDER)}
    named |= earlier.spent if earlier else {}
    return {
        other: max(seconds, RunRecord(workspace, other).state("train").seconds)
        for other, seconds in named.items()
        if other != run
    }
