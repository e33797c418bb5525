"""The check of a training before its hours: the stages before it as in a run, then a trial of one batch. Nothing is trained or registered."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from visionloop.components.calls import CALLS, SETTINGS, SHARDS
from visionloop.components.train.trial import Tried, try_training
from visionloop.core import catalog
from visionloop.core.errors import Defect
from visionloop.core.logs import notice
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix
from visionloop.pipelines.parameters import settings_in
from visionloop.pipelines.preflight import champion_in_environment, check_here

#: The stages before a training, which are done or reused.
BEFORE = ("snapshot", "validate", "convert")


@dataclass(frozen=True)
class Checked:
    """A training that passed its check.

    Attributes:
        run: The run whose record the stages before the training have.
        tried: What was tried and seen.
        seconds: What all of it took.
    """

    run: str
    tried: Tried
    seconds: float

    def summary(self) -> dict[str, Any]:
        """The JSON object of ``visionloop run check``."""
        tried, batch = self.tried, self.tried.batch
        return {
            "run": self.run,
            "trainer": tried.trainer,
            "task": tried.task,
            "model": tried.model,
            "images": batch.images,
            "checks": [asdict(finding) for finding in tried.findings],
            "losses": list(batch.losses),
            "gradients": dict(batch.gradients),
            "weights": batch.weights,
            "trained": batch.trained,
            "seconds": round(self.seconds, 1),
        }


def check_train(arguments: Mapping[str, Any], trace_id: str | None = None) -> Checked:
    """Takes a dataset as far as convert, and tries the training on one batch.

    Args:
        arguments: The training pipeline's.
        trace_id: The trace id; None makes one.

    Raises:
        InvalidDataset: If a check fails.
        VisionloopError: The error that the run itself would end with.
    """
    began, run = time.monotonic(), f"check-{uuid.uuid4().hex[:12]}"
    check_here(arguments)
    parameters = {name: value for name, value in arguments.items() if name != SHARDS}
    parameters[SETTINGS] = json.dumps(settings_in(arguments))
    invocation = Invocation(str(arguments["workspace"]), run, trace_id, run_arguments=dict(arguments))
    receipts: dict[str, str] = {}
    for name in BEFORE:
        with champion_in_environment(arguments) if name == "snapshot" else contextlib.nullcontext():
            outcome = run_stage(catalog.stage(name), CALLS[name].arguments(parameters, receipts), invocation)
        if outcome.result is None:
            raise Defect(f"{name} has no result.")
        receipts[name] = outcome.result.uri
        notice(f"{name}: {'reused' if outcome.reused else f'done in {outcome.seconds:.1f} s'}")
    workspace = open_prefix(str(arguments["workspace"]), "results")
    trace = RunRecord(workspace, run).open({}, trace_id).trace_id
    tried = try_training(workspace, run, trace, CALLS["train"].arguments(parameters, receipts))
    return Checked(run, tried, time.monotonic() - began)
