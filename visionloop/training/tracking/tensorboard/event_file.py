"""The form of TensorBoard's event files: records of protobuf messages, each between its length and checksums.

The messages are tensorboardX's (https://github.com/lanpa/tensorboardX): it needs neither torch nor TensorFlow. A file is kept as
bytes, because a store can only replace a whole one; its beginning never changes while it grows, so a reader that follows it goes on.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

#: Bytes before a record (its length, and that number's checksum), and behind it (its own checksum).
_BEFORE, _BEHIND = 12, 4

#: The tag of the event that says that a training is complete, in the plugin for settings (hparams).
_END = "_hparams_/session_end_info"


class EventFile:
    """The events of one training: what it is, then its epochs in order, then that it is complete."""

    def __init__(self, params: Mapping[str, bool | int | float | str], about: Mapping[str, str]) -> None:
        """A file of a training that begins.

        Args:
            params: The settings by name.
            about: What else people want to know, by name.
        """
        self._params = params
        self._head = b"".join(
            [
                _record(_event(0, file_version="brain.Event:2")),
                _record(_event(0, summary=_text("settings", params))),
                _record(_event(0, summary=_text("training", about))),
                _record(_event(0, summary=_settings(params))),
            ]
        )
        self._epochs: dict[int, bytes] = {}
        self._tail = b""

    def go_on(self, earlier: bytes, last: int) -> None:
        """Takes over what an earlier attempt wrote, as far as the attempt that goes on has it from there.

        Args:
            earlier: The earlier file; a record that was cut off counts as none.
            last: The last epoch that is taken over.
        """
        head, epochs = b"", dict[int, bytes]()
        for step, record in _records(earlier):
            if step == 0 and not epochs:
                head += record
            elif 0 < step <= last:
                epochs[step] = epochs.get(step, b"") + record
        if head and epochs:
            self._head, self._epochs = head, epochs

    def has(self, epoch: int) -> bool:
        """Whether an epoch is in the file."""
        return epoch in self._epochs

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Adds an epoch (from 1)."""
        # Which metrics there are is known with the first epoch.
        first = b"" if self._epochs else _record(_event(epoch, summary=_experiment(self._params, metrics)))
        self._epochs[epoch] = first + _record(_event(epoch, summary=_scalars(metrics)))

    def end(self) -> None:
        """Says that the training is complete."""
        self._tail = self._tail or _record(_event(max(self._epochs, default=0), summary=_end()))

    def content(self) -> bytes:
        """The whole file."""
        return b"".join([self._head, *(self._epochs[epoch] for epoch in sorted(self._epochs)), self._tail])


def measured_once(metrics: Mapping[str, float]) -> bytes:
    """A file with metrics that have no epoch."""
    return _record(_event(0, file_version="brain.Event:2")) + _record(_event(0, summary=_scalars(metrics)))


def _event(step: int, **what: Any) -> Any:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=time.time(), step=step, **what)


def _record(event: Any) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join([length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))])


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file with their steps; what is no event ends them, and that it is complete is left out."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    start = 0
    while start + _BEFORE <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + _BEFORE + length + _BEHIND
        if end > len(content):
            return
        try:
            event = Event.FromString(content[start + _BEFORE : end - _BEHIND])
        except DecodeError:
            return
        if all(value.tag != _END for value in event.summary.value):
            yield event.step, content[start:end]
        start = end


def _scalars(metrics: Mapping[str, float]) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in sorted(metrics.items())])


def _text(tag: str, rows: Mapping[str, object]) -> Any:
    """A table, as the page for texts shows it."""
    from tensorboardX.summary import text

    lines = ["| | |", "| --- | --- |", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in sorted(rows.items()))]
    return text(tag, "\n".join(lines))


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _settings(params: Mapping[str, bool | int | float | str]) -> Any:
    from tensorboardX.summary import hparams

    return hparams(dict(params), {})[1]


def _experiment(params: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> Any:
    from tensorboardX.summary import hparams

    return hparams(dict(params), dict(sorted(metrics.items())))[0]


def _end() -> Any:
    from tensorboardX.summary import hparams

    return hparams({}, {})[2]
