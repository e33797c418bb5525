"""Translates what torch raises into the error with the matching remedy."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionloop.core.errors import (
    InvalidConfig,
    OutOfMemory,
    SickMachine,
    Transient,
    VisionloopError,
    shortened,
)

#: Messages about a failed allocation; cuDNN and cuBLAS have some of their own.
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "unable to find an engine",
)

_DEVICE = (
    "CUDA error",
    "CUDA driver",
    "CUDA initialization",
    "CUDA unknown error",
    "cudaErr",
    "NVIDIA driver",
    "NVML",
    "NCCL",
    "ECC error",
    "Xid",
    "GPU is lost",
    "fallen off the bus",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "cuDNN error",
    "No CUDA GPUs are available",
)

#: A failed assertion in a kernel means a wrong input or a defect, not a sick machine.
_NOT_THE_DEVICE = ("device-side assert",)

#: torch's messages about a file that could not be written completely.
_DISK = ("unexpected pos", "PytorchStreamWriter failed")

#: A process that loads images died, or had no shared memory for its batch. Other errors in such a process have other messages.
_WORKER = ("exited unexpectedly", "is killed by signal", "Pin memory thread exited", "</torch_")

#: A normalisation has a single number to take the mean of.
_ONE_VALUE = ("Expected more than 1 value per channel", "Expected more than 1 spatial element")

#: Looks at an exception that is not torch's own.
Further = Callable[[BaseException], VisionloopError | None]


def nothing_further(error: BaseException) -> None:
    """Recognises no exception."""


@contextmanager
def translated(batch: int, imgsz: int, further: Further = nothing_further) -> Iterator[None]:
    """Raises exceptions of its body as the error with the matching remedy; unrecognised ones pass unchanged.

    Args:
        batch: The batch in use, for the sentence about memory.
        imgsz: The image size in use.
        further: Recognises what the library itself raises.

    Raises:
        InvalidConfig: If a batch is too small for the model.
        OutOfMemory: If the memory of the GPU (or of the CPU) is used up.
        SickMachine: If the GPU is lost or its driver does not fit, or the disk is full.
        Transient: If a data loader's worker died.
        VisionloopError: What ``further`` recognised.
    """
    try:
        yield
    except VisionloopError:
        raise
    except Exception as error:
        mapped = classify(error, batch, imgsz) or further(error)
        if mapped is None:
            raise
        raise mapped from error


def classify(error: BaseException, batch: int, imgsz: int) -> VisionloopError | None:
    """The error of `visionloop.core.errors` for an exception of torch, None if it is not recognised."""
    text = first_line(error)
    everything = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SickMachine(
            f"No space is left on this machine's disk ({error.filename or text}): free some, or use another."
        )
    if isinstance(error, RuntimeError) and has(everything, _DISK):
        return SickMachine(f"A file could not be written whole on this machine ({text}): free space, or use another.")
    if has(everything, _WORKER):
        return Transient(
            f"A process that loads images died ({text}): it is tried again; give more memory or /dev/shm, or fewer workers."
        )
    if isinstance(error, MemoryError) or has(everything, _OUT_OF_MEMORY) or "OutOfMemoryError" in everything:
        device = "CPU" if isinstance(error, MemoryError) or "CPUAllocator" in everything else "CUDA"
        return OutOfMemory(f"{device} out of memory. Try reducing batch size: batch is {batch}, imgsz {imgsz}.")
    if isinstance(error, RuntimeError | AssertionError) and has(everything, _DEVICE):
        if has(everything, _NOT_THE_DEVICE):
            return None
        return SickMachine(f"The GPU of this machine failed ({text}): use another machine, or a driver that fits.")
    if isinstance(error, ValueError) and has(everything, _ONE_VALUE):
        return InvalidConfig(
            f"A normalisation of the model needs more than one value to train: batch is {batch}, imgsz {imgsz}; give a larger batch or "
            "imgsz, or more images than one in train."
        )
    return None


def picklable(error: Exception) -> Exception:
    """The error itself if another process can raise it too, else a RuntimeError with its class and text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    except Exception:  # noqa: BLE001 - an error may hold anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def diverged(epoch: int, lr0: object) -> InvalidConfig:
    """The error of a training whose loss or weights are no longer finite, with its learning rate."""
    return InvalidConfig(
        f"Training diverged in epoch {epoch}: the loss or the weights are no longer finite; lower lr0 (now {lr0})."
    )


def has(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether a text holds one of the patterns, in upper or lower case."""
    lowered = text.lower()
    return any(pattern.lower() in lowered for pattern in patterns)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0].rstrip("."), 300) if lines else type(error).__name__
