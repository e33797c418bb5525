"""Every error that Visionloop ends with: one class per cause, one exit code per remedy.

The engines decide by the exit code, a person reads the one sentence. The table is in docs/contract.md.
"""

from __future__ import annotations

from typing import ClassVar

from visionloop.core import texts


class VisionloopError(Exception):
    """The base class of all errors. Its text is one sentence that names the file, the field and the remedy.

    ``exit_code`` is the process's exit code, ``error_code`` a short code, ``error_type`` its family and ``remedy``
    what to do about any error of the class.

    Attributes:
        last_successful_epoch: The last epoch whose checkpoint is durable, for an error that ended a training.
        batch: The batch size of the next attempt after the GPU ran out of memory.
        receipt: URI of the receipt of the best checkpoint so far, for a training that was stopped.
        already_recorded: Whether this is an earlier failure, raised again from the run's record.
    """

    last_successful_epoch: int | None = None
    batch: int | None = None
    receipt: str | None = None
    already_recorded: bool = False

    exit_code: ClassVar[int] = 70
    error_code: ClassVar[str] = "INTERNAL"
    error_type: ClassVar[str] = "INTERNAL_ERROR"
    remedy: ClassVar[str] = "Report it with the log: it is a defect of Visionloop."

    @property
    def sentence(self) -> str:
        """The message on one line, without secrets and control characters."""
        return texts.sentence(str(self))


class InvalidDataset(VisionloopError):
    """The data is wrong: no format that is read, changed since its snapshot, an input without a valid receipt. Never retried."""

    exit_code = 65
    error_code = "INVALID_DATASET"
    error_type = "DATASET_ERROR"
    remedy = "Correct the dataset, then start a new run."


class DatasetNotFound(InvalidDataset):
    """Nothing, or no annotation file, lies at the dataset's URI."""

    error_code = "DATASET_NOT_FOUND"


class DatasetChanged(InvalidDataset):
    """The dataset, or an image in it, is not what the snapshot froze."""

    error_code = "DATASET_CHANGED"


class InvalidReceipt(InvalidDataset):
    """An input has no valid receipt, or its outputs are gone."""

    error_code = "INVALID_RECEIPT"


class Defect(VisionloopError):
    """A defect in Visionloop itself; the traceback is kept."""


class SickMachine(VisionloopError):
    """The node is sick: GPU lost, driver that does not fit, disk full. Retried on another node."""

    exit_code = 71
    error_code = "MACHINE"
    error_type = "RESOURCE_ERROR"
    remedy = "Look at the node: GPU, driver, disk; the stage is retried on another one."


class Transient(VisionloopError):
    """A store, tracker or network does not answer at the moment. Retried with backoff."""

    exit_code = 75
    error_code = "TRANSIENT"
    error_type = "STORAGE_ERROR"
    remedy = "See that the store, the tracker and the network answer; the stage is retried."


class CheckpointUploadFailed(Transient):
    """A checkpoint could not be made durable."""

    error_code = "CHECKPOINT_UPLOAD_FAILED"


class OutOfMemory(VisionloopError):
    """The GPU's memory is used up. Retried with half the batch."""

    exit_code = 76
    error_code = "OOM"
    error_type = "RESOURCE_ERROR"
    remedy = "Lower batch or imgsz; the stage is retried with half the batch."


class AccessDenied(VisionloopError):
    """Wrong keys, a 403 or an expired URL. Never retried by itself."""

    exit_code = 77
    error_code = "ACCESS_DENIED"
    error_type = "ACCESS_ERROR"
    remedy = "Correct the keys or the rights, then retry."


class InvalidConfig(VisionloopError):
    """The configuration is wrong. Never retried."""

    exit_code = 78
    error_code = "INVALID_CONFIG"
    error_type = "CONFIG_ERROR"
    remedy = "Correct the configuration, then start a new run."


class TimeLimit(VisionloopError):
    """The stage's own time limit is used up, over all attempts. Never retried."""

    exit_code = 79
    error_code = "TIMEOUT"
    error_type = "TIMEOUT_ERROR"
    remedy = "Raise the stage's timeout in the policy or train less; the best so far is kept."


class Silent(VisionloopError):
    """No finished work for five minutes. Retried, resumes."""

    exit_code = 124
    error_code = "TIMEOUT"
    error_type = "TIMEOUT_ERROR"
    remedy = "Look for a hanging disk, store or GPU; the stage is retried and resumes."


class UserStopped(VisionloopError):
    """A person asked to stop. Not retried; the best checkpoint so far is kept."""

    exit_code = 130
    error_code = "USER_STOPPED"
    error_type = "INTERRUPTED"
    remedy = "Start the run again to resume; the best so far is kept."


class Killed(VisionloopError):
    """A process was killed by the kernel or the engine. Retried, resumes."""

    exit_code = 137
    error_code = "KILLED"
    error_type = "INTERRUPTED"
    remedy = "Give the stage more memory if it happens again; it is retried and resumes."


class Terminated(VisionloopError):
    """The stage was asked to end by SIGTERM: evicted or pre-empted. Retried, resumes."""

    exit_code = 143
    error_code = "TERMINATED"
    error_type = "INTERRUPTED"
    remedy = "Nothing to do: the stage is retried and resumes."


def is_panic(error: BaseException) -> bool:
    """Whether an extension written in Rust ended with a panic, which derives from BaseException; each has a class of its own."""
    return type(error).__module__ == "pyo3_runtime" and type(error).__name__ == "PanicException"


class PreconditionFailed(Exception):
    """A conditional write met another state than it named (HTTP 412): read again. Never leaves the package."""


class NotFound(Exception):
    """An object does not exist. Callers turn it into the error that names what was looked for."""


#: Exit codes that an engine retries (docs/contract.md, "Errors"); all others are final.
RETRYABLE = (71, 75, 76, 124, 137, 143)

#: Exit codes after which a stage may run itself again on the same machine.
RETRYABLE_IN_PLACE = (75, 76, 124, 137, 143)


def shortened(text: str, longest: int) -> str:
    """The text, cut behind a whole word and ended by ``…`` where it is longer; a single long word is cut inside."""
    if len(text) <= longest:
        return text
    start = text[: longest - 1]
    whole = start if text[longest - 1].isspace() else start.rpartition(" ")[0]
    return (whole or start).rstrip(" ,;:(") + "…"


def all_errors() -> list[type[VisionloopError]]:
    """Every error class, parents before children."""
    classes: list[type[VisionloopError]] = [VisionloopError]
    for error in classes:
        classes.extend(error.__subclasses__())
    return classes


def by_code(exit_code: int, error_code: str | None = None) -> type[VisionloopError]:
    """The class with this exit code, and with this ``error_code`` if there is such a class; Defect when unknown."""
    matching = [error for error in all_errors()[1:] if error.exit_code == exit_code]
    exact = [error for error in matching if error.error_code == error_code]
    return (exact or matching or [Defect])[0]
