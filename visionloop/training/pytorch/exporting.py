"""Models of torch as ONNX and as TorchScript. Importing this module imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visionloop.core.errors import InvalidConfig
from visionloop.core.packages import not_installed
from visionloop.training.trainers import Exported, Rows

#: Of the graph's operators: every runtime of the last years has them.
OPSET = 18

#: Boxes of the input of a picture of this height and width, in pixels of the picture.
Located = Callable[[NDArray[Any], tuple[int, int]], NDArray[Any]]

#: The overlap from which on two boxes of a class are one object, and the most objects of a picture: as Ultralytics predicts.
OVERLAP, MOST = 0.7, 300

#: The name of the graph's input, 1 × 3 × side × side.
INPUT = "images"

#: Of an archive of torch: the ending of records for debuggers, and those that its writer adds by itself.
_DEBUGGERS = ".debug_pkl"
_WRITERS = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")

#: The formats that ``exported`` writes, and how the names of their files end.
FORMATS = {"onnx": ".onnx", "torchscript": ".torchscript"}


@dataclass(frozen=True)
class Graph:
    """What is exported.

    Attributes:
        module: Takes 1 × 3 × side × side, and gives tensors.
        outputs: Their names.
        rows: What they say.
        form: The same as a word that docs/export.md explains: ``classes``, ``places``, ``rows``, ``objects``, ``queries``.
        ragged: Whether the outputs' first side is the number of objects, and not the picture's.
        suppressed: Whether no two rows are the same object.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    rows: Callable[[Sequence[NDArray[Any]]], Rows]
    form: str
    ragged: bool = False
    suppressed: bool = True


class _Probabilities(nn.Module):
    """A classifier whose output is the probability of each class."""

    def __init__(self, scores: Callable[[nn.Module, Tensor], Tensor], model: nn.Module) -> None:
        super().__init__()
        self.scores, self.model = scores, model

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.model, images).softmax(1)


def classifying(scores: Callable[[nn.Module, Tensor], Tensor], model: nn.Module) -> Graph:
    """The graph of a classifier, of whose inputs ``scores`` gives the logits."""
    return Graph(_Probabilities(scores, model), ("probabilities",), lambda outputs: Rows(outputs[0]), "classes")


def exported(
    graph: Graph,
    side: int,
    preprocessing: Mapping[str, Any],
    prepared: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    folder: Path,
    located: Located | None = None,
    format: str = "onnx",
) -> Exported:
    """Writes a graph as a file into a folder.

    Args:
        graph: The graph, on the CPU.
        side: Of its square input, in pixels.
        preprocessing: How a picture becomes an input, made by `preprocessing_of`.
        prepared: The same as a function.
        folder: Where ``model.onnx`` or ``model.torchscript`` is written.
        located: Where boxes of an input lie in its picture.
        format: One of ``FORMATS``.

    Raises:
        InvalidConfig: If a package is missing, or torch can't write the graph.
    """
    module = graph.module.cpu().float().eval().requires_grad_(False)
    file = folder / f"model{FORMATS[format]}"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Both warn of each branch of the model that depends on a tensor, and of their own age.
            warnings.simplefilter("ignore")
            (_as_onnx if format == "onnx" else _as_torchscript)(graph, module, torch.zeros(1, 3, side, side), file)
    except ImportError as error:
        raise not_installed(error, "model export") from error
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        what = f"ONNX with opset {OPSET}" if format == "onnx" else "TorchScript"
        raise InvalidConfig(
            f"The model can't be written as {what} ({str(error).splitlines()[0][:200]}); use it as it is."
        ) from error

    @torch.no_grad()
    def reference(inputs: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs = module(torch.from_numpy(inputs))
        return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    # Who can't prepare an input from the fields has no use for the outputs either.
    followed = "resize" in preprocessing
    outputs = {"form": graph.form, "overlap": None if graph.suppressed else OVERLAP, "most": MOST} if followed else {}
    return Exported(file, preprocessing, prepared, reference, graph.rows, located, graph.suppressed, outputs)


def preprocessing_of(
    side: int,
    *,
    resize: Literal["longer", "shorter", "both"],
    round: Literal["up", "down", "nearest"],
    place: Literal["middle", "corner"] = "middle",
    to: int | None = None,
    filter: str = "bilinear",
    antialias: bool = False,
    fill: int | Sequence[int] = 0,
    thin: int | None = None,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> dict[str, Any]:
    """How a picture becomes an input, as fields that a program can follow.

    Args:
        side: Of the square input, in pixels.
        resize: The side of a picture that is scaled to ``to``; the other one keeps the ratio, or both are.
        round: How that other side is rounded to whole pixels.
        place: Where the scaled picture lies in the square; what is larger is cut off.
        to: In pixels; as the square's side where it is not named.
        filter: ``bilinear``, or ``bicubic`` …
        antialias: Whether a pixel of a shrunk picture is a mean of all that it covers.
        fill: What the rest of the square holds, from 0 to 255, of each channel or of all.
        thin: Before it is scaled, a picture is cut to its middle so that its longer side is at most this many times the shorter one.
        mean: What is taken from each channel, after the division by 255.
        std: By what each channel is then divided.
    """
    scaled = {"resize": resize, "to": to or side, "round": round, "filter": filter, "antialias": antialias}
    square = {"place": place, "fill": fill if isinstance(fill, int) else list(fill), "thin": thin}
    values = {"order": "RGB", "layout": "NCHW", "mean": list(mean), "std": list(std)}
    return {"size": [side, side], **scaled, **square, **values}


def _as_onnx(graph: Graph, module: nn.Module, inputs: Tensor, file: Path) -> None:
    torch.onnx.export(
        module,
        (inputs,),
        str(file),
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(graph.outputs),
        dynamic_axes={name: {0: "objects"} for name in graph.outputs} if graph.ragged else None,
        dynamo=False,  # the other exporter needs onnxscript, and writes weights into a second file
    )


def _as_torchscript(graph: Graph, module: nn.Module, inputs: Tensor, file: Path) -> None:
    # What it computes is compared afterwards, on pictures that show something.
    traced = torch.jit.trace(module, (inputs,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(file))


def script(file: Path) -> Callable[[NDArray[np.float32]], list[NDArray[Any]]]:
    """What a file of TorchScript computes: its outputs for an input, on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def computed(inputs: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs = module(torch.from_numpy(inputs))
        return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    return computed


def describe_script(file: Path, name: str, content: str) -> None:
    """Puts a text into a file of TorchScript, as ``extra/NAME`` of its archive (``_extra_files`` of ``torch.jit.load``).

    The records for debuggers go: they hold the paths of this machine's sources, and would make the bytes differ from another one's.
    """
    reader, whole = torch._C.PyTorchFileReader(str(file)), file.with_suffix(".described")
    writer = torch._C.PyTorchFileWriter(str(whole))
    for record in reader.get_all_records():
        if not record.endswith(_DEBUGGERS) and record not in _WRITERS:
            data = reader.get_record(record)
            writer.write_record(record, data, len(data))
    text = content.encode()
    writer.write_record(f"extra/{name}", text, len(text))
    writer.write_end_of_file()
    whole.replace(file)
