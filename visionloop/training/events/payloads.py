"""What each event says: its ``data``. docs/events.schema.json is written from these types.

Names are those that receivers know: states as in ``core.runs.EVENT_NAMES``, metrics as in docs/tasks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

#: The first words of an event's type.
TYPE_PREFIX = "visionloop.training."

#: What a token of Visionloop's own is for.
SCOPE = "training-callback"

Phase = Literal["train", "val"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What every event says.

    Attributes:
        job_id: The run.
        trace_id: The run's trace id.
    """

    job_id: str
    trace_id: str


class GpuInfo(msgspec.Struct, frozen=True):
    """A GPU.

    Attributes:
        name: Its name, as its driver has it.
        memory_total_gb: Its memory, in units of 2**30 bytes.
    """

    name: str
    memory_total_gb: float


class Begun(About, frozen=True, kw_only=True):
    """What every event says that tells of an attempt's start.

    Attributes:
        pid: The stage's process.
        hostname: The machine's or pod's name.
        gpu_info: The first GPU that the stage computes on; null without one.
    """

    pid: int
    hostname: str
    gpu_info: GpuInfo | None


class Started(Begun, frozen=True, kw_only=True):
    """An attempt at a training has begun.

    Attributes:
        operation_type: What has begun.
        total_epochs: Epochs that are asked for.
        resumed_after_epoch: The epoch whose checkpoint the attempt goes on from; 0 at the beginning.
    """

    operation_type: Literal["training"]
    total_epochs: int
    resumed_after_epoch: int


class Progress(About, frozen=True, kw_only=True):
    """An epoch is done, and its checkpoint is durable.

    Attributes:
        status: The state of the training.
        epoch: The epoch, from 1.
        current_epoch: The same.
        total_epochs: Epochs that are asked for.
        phase: The part of the epoch that was done last.
        eta_seconds: Seconds that the epochs left will take at the pace of this attempt; null where that is not known.
        metrics: All metrics of the epoch by name.
    """

    status: Literal["running"]
    epoch: int
    current_epoch: int
    total_epochs: int
    phase: Phase
    eta_seconds: int | None
    metrics: dict[str, float]


class Metrics(About, frozen=True, kw_only=True):
    """What was measured in an epoch, of training or of validation.

    Attributes:
        epoch: The epoch, from 1.
        step: Of train: the batches that were trained on so far, over all epochs; null where the trainer does not tell.
        phase: The part of the epoch.
        metrics: Its metrics by name.
    """

    epoch: int
    step: int | None
    phase: Phase
    metrics: dict[str, float]


class Checkpoint(About, frozen=True, kw_only=True):
    """A checkpoint is durable; that of an epoch stays until the second epoch after it is, one within an epoch until the next is.

    Attributes:
        epoch: The epoch, from 1; within one the epoch under way.
        step: Within an epoch: how many of its steps are done; 0 at its end.
        checkpoint_path: Its URI.
        checkpoint_type: Whether its epoch is the best so far; within an epoch always the last.
        is_best: The same.
        metrics: All metrics of the epoch by name; none within it.
        file_size_bytes: Its size.
    """

    epoch: int
    step: int
    checkpoint_path: str
    checkpoint_type: Literal["best", "last"]
    is_best: bool
    metrics: dict[str, float]
    file_size_bytes: int


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log.

    Attributes:
        level: How severe it is.
        message: Its text, without secrets.
        timestamp: When it was written, in UTC.
        source: Who wrote it: the trainer's process, the stage around it, or another library.
        metadata: Values that belong to it.
    """

    level: Level
    message: str
    timestamp: str
    source: Literal["trainer", "sdk", "system"]
    metadata: dict[str, Any] | None = None


class Log(About, frozen=True, kw_only=True):
    """Lines of the log, oldest first.

    Attributes:
        logs: The lines.
    """

    logs: list[LogLine]


class TrainingResults(msgspec.Struct, frozen=True, kw_only=True):
    """What a training came to.

    Attributes:
        total_epochs: Epochs that were done.
        best_epoch: The best of them.
        best_metrics: The metrics of validation in the best epoch, by name.
        final_metrics: Those in the last one.
        training_time_seconds: Seconds over all attempts of all runs that worked on it.
    """

    total_epochs: int
    best_epoch: int
    best_metrics: dict[str, float]
    final_metrics: dict[str, float]
    training_time_seconds: float


class Completed(About, frozen=True, kw_only=True):
    """The training is complete: its receipt is there.

    Attributes:
        status: The state of the training.
        reused: Whether it was there already, or another run did it.
        training_results: What it came to.
        best_checkpoint_path: The URI of the best model.
        final_checkpoint_path: The URI of the last one.
        receipt: The URI of the training's receipt.
        gpu_hours: Hours on GPUs; null where the receipt does not say.
        mlflow_run_id: MLflow's run; null where nothing was tracked.
        dataset_snapshot_id: The snapshot that this run took; null where another run took it.
    """

    status: Literal["completed"]
    reused: bool
    training_results: TrainingResults
    best_checkpoint_path: str
    final_checkpoint_path: str
    receipt: str
    gpu_hours: float | None
    mlflow_run_id: str | None
    dataset_snapshot_id: str | None


class RunFailed(About, frozen=True, kw_only=True):
    """What every event says that tells of a failed run.

    Attributes:
        status: The state of what the events tell of.
        stage: The stage that failed; null where the engine alone says that the run failed.
        error_code: A code of docs/contract.md, "Errors".
        error_message: What is wrong and what to do, in one sentence.
        error_type: The code's family.
        exit_code: The exit code; null where no stage told one.
        traceback: Of a defect, where it happened.
    """

    status: Literal["failed"]
    stage: str | None
    error_code: str
    error_message: str
    error_type: str
    exit_code: int | None
    traceback: str | None


class Failed(RunFailed, frozen=True, kw_only=True):
    """The run has failed before its training was complete.

    Attributes:
        last_successful_epoch: The last epoch whose checkpoint is durable; null without one.
    """

    last_successful_epoch: int | None


class Stopped(About, frozen=True, kw_only=True):
    """A person has stopped the run before its training was complete.

    Attributes:
        status: The state of the training.
        stopped_at_epoch: The last epoch whose checkpoint is durable; null without one.
        best_checkpoint_path: The URI of the best model so far; null where none could be kept.
    """

    status: Literal["stopped"]
    stopped_at_epoch: int | None
    best_checkpoint_path: str | None


Data = TypeVar("Data")


class CloudEvent(msgspec.Struct, Generic[Data], frozen=True, kw_only=True):
    """An event as it is sent: CloudEvents 1.0, structured.

    Attributes:
        specversion: The version of CloudEvents.
        id: The same whenever the same is told again: a receiver drops what it has.
        source: The stage of the run.
        type: What has happened.
        time: When, in UTC.
        datacontenttype: The form of ``data``.
        data: What the event says.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: str
    datacontenttype: Literal["application/json"]
    data: Data


#: Every event by the last word of its type.
KINDS: Mapping[str, type[About]] = {
    "started": Started,
    "progress": Progress,
    "metrics": Metrics,
    "checkpoint": Checkpoint,
    "log": Log,
    "completed": Completed,
    "failed": Failed,
    "stopped": Stopped,
}


#: What stands in an event's id behind its kind: what makes it the same event in every attempt, or another one.
PLACES: Mapping[str, str] = {
    "started": ".{attempt}.{n}",
    "progress": ".{epoch}.{phase}",
    "metrics": ".{epoch}.{phase}",
    "checkpoint": ".{epoch}.{step}",
    "log": ".{attempt}.{n}",
}


@dataclass(frozen=True)
class Family:
    """The events of one stage.

    Attributes:
        stage: The stage.
        prefix: The first words of their types.
        kinds: Each by the last word of its type.
        places: What stands in an id behind its kind, as ``PLACES`` has it.
        bare: Whether receivers of bare data know them: by their address alone they are not told from those of a training.
    """

    stage: str
    prefix: str
    kinds: Mapping[str, type[About]]
    places: Mapping[str, str]
    bare: bool = False

    def kind_of(self, data: About) -> str:
        """The last word of an event's type."""
        return next(kind for kind, of in self.kinds.items() if type(data) is of)

    def identity(self, data: About, attempt: str, number: int) -> str:
        """An event's id.

        Args:
            data: What it says.
            attempt: The attempt's name.
            number: How many events of its kind the attempt has told, this one included.
        """
        kind = self.kind_of(data)
        parts = {"attempt": attempt, "n": number, **msgspec.structs.asdict(data)}
        return f"{data.job_id}.{self.stage}.{kind}{self.places.get(kind, '').format(**parts)}"


#: The events of a training.
TRAINING = Family("train", TYPE_PREFIX, KINDS, PLACES, bare=True)
