"""How a training ended, from its receipt or from the run's record: whoever tells it, train or cleanup, says the same."""

from __future__ import annotations

from typing import Any

from visionloop.core import receipts
from visionloop.core.errors import Killed, VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.runs import Failure, RunRecord
from visionloop.training.events.payloads import Completed, Failed, Stopped, TrainingResults
from visionloop.training.tracking import record

#: Before the names of the last epoch's metrics in a training's receipt.
FINAL = "final_"

#: What ``RunFailed`` takes from the record of a failure, under the same names.
_RECORDED = ("stage", "error_code", "error_message", "error_type", "exit_code", "traceback")


def completed(run: RunRecord, trace_id: str, result: Result, *, reused: bool) -> Completed:
    """That a training is complete.

    Args:
        run: The run's record.
        trace_id: Its trace id.
        result: The training's receipt.
        reused: Whether it was there already, or another run did it.
    """
    receipt = result.receipt
    best = {name: value for name, value in receipt.metrics.items() if not name.startswith(FINAL)}
    final = {name.removeprefix(FINAL): value for name, value in receipt.metrics.items() if name.startswith(FINAL)}
    snapshot_id = run.state("snapshot").scalars.get("snapshot_id")
    return Completed(
        job_id=run.name,
        trace_id=trace_id,
        status="completed",
        reused=reused,
        training_results=TrainingResults(
            total_epochs=int(receipt.scalars["epochs"]),
            best_epoch=int(receipt.scalars["best_epoch"]),
            best_metrics=best,
            final_metrics=final,
            training_time_seconds=receipt.timings["seconds"],
        ),
        best_checkpoint_path=result.output_uri("best"),
        final_checkpoint_path=result.output_uri("last"),
        receipt=result.uri,
        gpu_hours=receipt.timings.get("gpu_hours"),
        mlflow_run_id=record.mlflow_run_id(receipt.tracking),
        dataset_snapshot_id=str(snapshot_id) if snapshot_id else None,
    )


def ended(run: RunRecord, trace_id: str, failure: Failure) -> Failed | Stopped:
    """That a run failed, or was stopped by a person, before its training was complete."""
    if failure.event == "stopped":
        return Stopped(
            job_id=run.name,
            trace_id=trace_id,
            status="stopped",
            stopped_at_epoch=failure.last_successful_epoch,
            best_checkpoint_path=_best(run, failure),
        )
    return Failed(**of_failure(run, trace_id, failure), last_successful_epoch=failure.last_successful_epoch)


def lost(run: RunRecord, trace_id: str, why: str, epoch: int | None) -> Failed:
    """That a run failed of which the engine alone says so; ``epoch`` is the last durable one."""
    return Failed(**of_lost(run, trace_id, why), last_successful_epoch=epoch)


def of_failure(run: RunRecord, trace_id: str, failure: Failure) -> dict[str, Any]:
    """The fields of ``RunFailed`` for what a stage has recorded."""
    fields = {name: getattr(failure, name) for name in _RECORDED}
    return {"job_id": run.name, "trace_id": trace_id, "status": "failed", **fields}


def of_lost(run: RunRecord, trace_id: str, why: str) -> dict[str, Any]:
    """The fields of ``RunFailed`` where no stage could record why."""
    told = {"error_code": Killed.error_code, "error_message": why, "error_type": Killed.error_type}
    return {"job_id": run.name, "trace_id": trace_id, "status": "failed", **dict.fromkeys(_RECORDED), **told}


def _best(run: RunRecord, failure: Failure) -> str | None:
    """The URI of the best checkpoint that a stopped training kept."""
    if not failure.receipt:
        return None
    try:
        return receipts.load(failure.receipt, "train", run.workspace).output_uri("best")
    except VisionloopError:  # it may have been removed since
        return None
