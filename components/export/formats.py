"""The formats that a model can be written in, and the list of them that a run is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import Exports, Trainer

#: The outputs of an export that are files: the one that is opened, its weights where they lie beside it, and what runs both with numpy
#: and the format's runtime alone.
MODEL, WEIGHTS, PROGRAM = "model", "weights", "program"

#: What the program is called, everywhere.
PROGRAM_FILE = "visionloop_runtime.py"


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        endings: How the names of its files end, by output.
        precisions: What it is written in; the first is the default.
        fallbacks: By precision the one that is made in its place where it costs too much.
        source: The format that it is made from, where trainers don't write it themselves.
    """

    endings: Mapping[str, str]
    precisions: tuple[str, ...] = ("fp32",)
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None


#: The formats, by name.
FORMATS: Mapping[str, Format] = {
    "onnx": Format({MODEL: ".onnx"}, ("fp32", "fp16", "int8"), {"int8": "fp32"}),
    "torchscript": Format({MODEL: ".torchscript"}),
    "openvino": Format({MODEL: ".xml", WEIGHTS: ".bin"}, ("fp32", "fp16", "int8"), {"int8": "fp16"}, source="onnx"),
}

#: What is not written here, with what to do instead.
ELSEWHERE: Mapping[str, str] = {
    "litert": "LiteRT's converter can't be installed beside this version of torch; convert the ONNX file in an environment of its own",
    "tensorrt": "TensorRT builds a file for the one kind of GPU that it then runs on; build it there from the ONNX file (trtexec --onnx=…)",
    "coreml": "Core ML's converter can't be installed beside this version of numpy; convert the TorchScript file where the model will run",
}

#: Other words for them.
ALIASES: Mapping[str, str] = {"tflite": "litert", "engine": "tensorrt", "mlmodel": "coreml"}

#: What a list may name: a format alone is its default precision.
CHOICES = tuple(
    name if precision == row.precisions[0] else f"{name}:{precision}"
    for name, row in FORMATS.items()
    for precision in row.precisions
)


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
        precision = FORMATS[self.format].fallbacks.get(self.precision)
        return Wanted(self.format, precision) if precision else None

    @property
    def written(self) -> str:
        """The format that the trainer writes, from which this one is made."""
        return FORMATS[self.format].source or self.format

    def files(self, stem: str = "model") -> dict[str, str]:
        """What its files are called, by output."""
        return {output: f"{stem}{ending}" for output, ending in FORMATS[self.format].endings.items()}


def parse_exports(text: str | None) -> tuple[Wanted, ...]:
    """The exports that ``--export`` names, such as ``onnx,onnx:fp32``: each once, in the order of the list; none for an empty one.

    Raises:
        InvalidConfig: If a name is empty, or no format or precision has it.
    """
    if not text:
        return ()
    return tuple(dict.fromkeys(parse_export(word, f"--export {text!s:.80}") for word in text.split(",")))


def parse_export(word: str, option: str) -> Wanted:
    """One export, such as ``onnx:fp16``.

    Args:
        word: What is asked for.
        option: Where, as the sentence begins.

    Raises:
        InvalidConfig: If no format or precision has this name.
    """
    name, _, precision = word.strip().lower().partition(":")
    name = ALIASES.get(name, name)
    if name in ELSEWHERE:
        raise InvalidConfig(f"{option}: {ELSEWHERE[name]}.")
    if name not in FORMATS:
        raise InvalidConfig(f"{option}: {name!r:.40} is not a format of exports; give one of {', '.join(CHOICES)}.")
    own = FORMATS[name].precisions
    if ":" in word and precision not in own:
        raise InvalidConfig(f"{option}: {name} is not written in {precision!r:.40}; give one of {', '.join(own)}.")
    return Wanted(name, precision or own[0])


def exporter(trainer: Trainer, wanted: Wanted, option: str = "--format") -> Exports:
    """The trainer, which can write what an export is made from.

    Raises:
        InvalidConfig: If it can't; the sentence names the formats that it has.
    """
    formats = trainer.formats if isinstance(trainer, Exports) else ()
    if not isinstance(trainer, Exports) or wanted.written not in formats:
        able = [name for name, row in FORMATS.items() if (row.source or name) in formats]
        instead = f"give {' or '.join(able)}" if able else "its models can't be exported"
        raise InvalidConfig(f"{option} {wanted.format}: the trainer {trainer.name} does not write it; {instead}.")
    return trainer
