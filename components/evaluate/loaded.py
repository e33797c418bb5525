"""What evaluate works on: the model, the data, and whom it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visionloop.components.evaluate.costs import Costs
from visionloop.components.evaluate.gate import Gate
from visionloop.components.evaluate.measuring import Candidate
from visionloop.components.evaluate.must_pass import MustPass
from visionloop.components.evaluate.seen import Lineage
from visionloop.components.evaluate.slicing import Sliced
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.registry import Registry, Version
from visionloop.training.trainers import Trainer

#: The split on which a training is judged.
SPLIT = "test"


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` loaded."""

    candidate: Candidate
    snapshot: Snapshot
    trainer: Trainer
    config: dict[str, Any]
    gate: Gate
    registry: Registry | None = None
    champion: Version | None = None
    unavailable: str | None = None
    lineage: Lineage = Lineage()
    sliced: Sequence[Sliced] = ()
    split: str = SPLIT
    costs: Costs | None = None
    required: MustPass | None = None
    tile: int | None = None
