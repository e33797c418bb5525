"""The formats that a model can be written in, and the list of them that a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import Exports, Trainer

#: How the names of files of each format end.
ENDINGS = {"onnx": ".onnx", "torchscript": ".torchscript"}

#: The precisions of each format; the first one is the default.
PRECISIONS: dict[str, tuple[str, ...]] = {"onnx": ("fp32", "fp16", "int8"), "torchscript": ("fp32",)}

#: What a list may name: a format alone is its default precision.
CHOICES = tuple(
    name if precision == own[0] else f"{name}:{precision}" for name, own in PRECISIONS.items() for precision in own
)

#: What is made in place of an export whose precision costs too much.
FALLBACKS = {"int8": "fp32"}


@dataclass(frozen=True)
class Wanted:
    """One export that is asked for: a format in a precision."""

    format: str
    precision: str

    @property
    def text(self) -> str:
        """``onnx:fp32``, as a list and a key have it."""
        return f"{self.format}:{self.precision}"

    @property
    def folder(self) -> str:
        """``onnx-fp32``, as folders are called."""
        return f"{self.format}-{self.precision}"

    @property
    def fallback(self) -> Wanted | None:
        """What is made where this one is refused; None where nothing is."""
        precision = FALLBACKS.get(self.precision)
        return Wanted(self.format, precision) if precision else None

    @property
    def file(self) -> str:
        """What its file is called in a folder of its own."""
        return f"model{ENDINGS[self.format]}"


def parse_exports(text: str | None) -> tuple[Wanted, ...]:
    """The exports that ``--export`` names, such as ``onnx,onnx:fp32``: each once, in the order of the list; none for an empty one.

    Raises:
        InvalidConfig: If a name is empty, or no format or precision has it.
    """
    if not text:
        return ()
    return tuple(dict.fromkeys(_parsed(text, word.strip().lower()) for word in text.split(",")))


def _parsed(text: str, word: str) -> Wanted:
    name, _, precision = word.partition(":")
    if name not in PRECISIONS:
        raise InvalidConfig(
            f"--export {text!s:.80}: {word!r:.40} is not a format that a run writes; give some of {', '.join(PRECISIONS)}, separated by commas."
        )
    own = PRECISIONS[name]
    if ":" in word and precision not in own:
        raise InvalidConfig(
            f"--export {text!s:.80}: {name} is not written in {precision!r:.40}; give one of {', '.join(own)}."
        )
    return Wanted(name, precision or own[0])


def exporter(trainer: Trainer, format: str, option: str = "--format") -> Exports:
    """The trainer, which can write this format.

    Raises:
        InvalidConfig: If it can't; the sentence names the formats that it has.
    """
    formats = trainer.formats if isinstance(trainer, Exports) else ()
    if not isinstance(trainer, Exports) or format not in formats or format not in ENDINGS:
        able = f"give {' or '.join(formats)}" if formats else "its models can't be exported"
        raise InvalidConfig(f"{option} {format}: the trainer {trainer.name} does not write it; {able}.")
    return trainer
