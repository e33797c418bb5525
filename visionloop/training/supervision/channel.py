"""The messages between the train stage and its child process: JSON lines over a socket pair.

The child reports finished work and its end; the stage answers each finished epoch once its checkpoint is set aside.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec


class Batch(msgspec.Struct, tag="batch", frozen=True):
    """A batch is done."""

    epoch: int
    batch: int
    batches: int


class Images(msgspec.Struct, tag="images", frozen=True):
    """Images of a split that the trainer uses, as paths below the dataset's folder; ``complete`` with the last part."""

    split: str
    paths: list[str]
    complete: bool


class Epoch(msgspec.Struct, tag="epoch", frozen=True, kw_only=True):
    """An epoch is done and its checkpoint is in a file; ``seconds`` by part, and the GPU's memory, where they are known.

    JSON has neither NaN nor infinity: ``left_out`` names the metrics that were not finite; a ``best_value`` that was not is None.
    """

    epoch: int
    train_metrics: dict[str, float]
    val_metrics: dict[str, float]
    checkpoint: str
    best_epoch: int
    best_value: float | None
    stopping: bool
    seconds: dict[str, float] = {}
    left_out: list[str] = []
    peak_gpu_bytes: int | None = None
    train_batches: int | None = None


class Step(msgspec.Struct, tag="step", frozen=True):
    """So many steps of an epoch are done, and a checkpoint within it is in a file."""

    epoch: int
    step: int
    checkpoint: str


class Line(msgspec.Struct, tag="line", frozen=True):
    """A line of the child's log, as it may leave the process; the child has written it to stderr too."""

    level: str
    message: str
    timestamp: str


class Done(msgspec.Struct, tag="done", frozen=True, kw_only=True):
    """Training has ended; the files lie in the job's work folder."""

    best: str
    last: str
    best_epoch: int
    epochs: int
    history: list[dict[str, Any]]
    plots: list[str]
    batch: int | None
    versions: dict[str, str]
    devices: list[str]


class Tried(msgspec.Struct, tag="tried", frozen=True, kw_only=True):
    """A trial of one batch has ended, as `visionloop.training.trainers.BatchTrial` has it; a loss that is not finite is None."""

    losses: list[float | None]
    gradients: dict[str, float]
    weights: int
    trained: int
    images: int
    chance: float | None
    devices: list[str]


class Failed(msgspec.Struct, tag="failed", frozen=True, kw_only=True):
    """Training ended with an error; ``traceback`` is set for a defect only."""

    exit_code: int
    error_code: str
    sentence: str
    traceback: str | None = None


Message = Batch | Images | Epoch | Step | Line | Done | Tried | Failed

_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Answer(msgspec.Struct, frozen=True):
    """The stage's answer to an epoch, or to a step with a checkpoint: whether to go on."""

    proceed: bool


class Channel:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        """Takes over the socket."""
        self._socket = end
        self._buffer = b""
        self._sending = threading.Lock()

    def send(self, message: Message | Answer) -> None:
        """Sends one message, from any thread. Raises BrokenPipeError if nobody listens any more."""
        with self._sending:
            self._socket.sendall(msgspec.json.encode(message) + b"\n")

    def lines(self, timeout: float | None) -> Iterator[bytes | None]:
        """Yields each line as it arrives, None whenever ``timeout`` seconds bring none; ends when the other end closes."""
        self._socket.settimeout(timeout)
        while True:
            line, separator, rest = self._buffer.partition(b"\n")
            if separator:
                self._buffer = rest
                yield line
                continue
            try:
                block = self._socket.recv(65536)
            except TimeoutError:
                yield None
                continue
            except ConnectionResetError:
                return
            if not block:
                return
            self._buffer += block

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()


def decode(line: bytes) -> Message:
    """Decodes a message of the child."""
    return _DECODER.decode(line)
