"""A stage from outside the package: counts a snapshot's objects by class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.policy import StagePolicy
from visionloop.core.receipts import Parameter
from visionloop.core.stage import Attempt, Computed, Context, Resolution, argument
from visionloop.data.annotations.images import images


@dataclass(frozen=True)
class Arguments:
    """What inventory is told."""

    snapshot: str = argument("URI of the snapshot's receipt.")
    least: str = argument("Classes with fewer objects are left out.", default="1")


class InventoryStage:
    """Counts."""

    name = "inventory"
    logic_version = 1
    policy = StagePolicy(image="example-stage", timeout=120)
    arguments = Arguments
    description = "Counts a snapshot's objects by class."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution:
        """Reads the snapshot's receipt."""
        result = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        return Resolution(
            inputs={"snapshot": result.reference},
            parameters={"least": Parameter(int(arguments.least), "argument")},
            loaded=Snapshot(result),
        )

    def compute(self, context: Context, resolution: Resolution, attempt: Attempt) -> Computed:
        """Writes the counts."""
        snapshot: Snapshot = resolution.loaded
        names = {entry.id: entry.name for entry in snapshot.annotations.classes}
        counts = Counter(names[item.class_id] for image in images(snapshot.annotations) for item in image.annotations)
        least = int(resolution.parameters["least"].value)
        kept = {name: number for name, number in sorted(counts.items()) if number >= least}
        attempt.write("inventory", "inventory.json", msgspec.json.encode(kept), result=True)
        return Computed(scalars={"objects": sum(kept.values()), "classes": len(kept)})


STAGE = InventoryStage()
