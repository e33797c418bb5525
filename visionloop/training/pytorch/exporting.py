"""Models of torch as ONNX. Importing this module imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

#: The name of the graph's input, 1 × 3 × side × side.
INPUT = "images"


@dataclass(frozen=True)
class Graph:
    """What is exported.

    Attributes:
        module: Takes 1 × 3 × side × side, and gives tensors.
        outputs: Their names.
        rows: What they say.
        ragged: Whether the outputs' first side is the number of objects, and not the picture's.
        suppressed: Whether no two rows are the same object.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    rows: Callable[[Sequence[NDArray[Any]]], Rows]
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
    return Graph(_Probabilities(scores, model), ("probabilities",), lambda outputs: Rows(outputs[0]))


def exported(
    graph: Graph,
    side: int,
    preprocessing: Mapping[str, Any],
    prepared: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    folder: Path,
    located: Located | None = None,
) -> Exported:
    """Writes a graph as ONNX into a folder.

    Args:
        graph: The graph, on the CPU.
        side: Of its square input, in pixels.
        preprocessing: How a picture becomes an input, in words.
        prepared: The same as a function.
        folder: Where ``model.onnx`` is written.
        located: Where boxes of an input lie in its picture.

    Raises:
        InvalidConfig: If a package is missing, or torch can't write the graph.
    """
    module = graph.module.cpu().float().eval().requires_grad_(False)
    file = folder / "model.onnx"
    axes = {name: {0: "objects"} for name in graph.outputs} if graph.ragged else None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # The exporter warns of each branch of the model that depends on a tensor, and of its own age.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (torch.zeros(1, 3, side, side),),
                str(file),
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(graph.outputs),
                dynamic_axes=axes,
                dynamo=False,  # the other exporter needs onnxscript, and writes weights into a second file
            )
    except ImportError as error:
        raise not_installed(error, "model export") from error
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise InvalidConfig(
            f"The model can't be written as ONNX with opset {OPSET} ({str(error).splitlines()[0][:200]}); use it as it is."
        ) from error

    @torch.no_grad()
    def reference(inputs: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs = module(torch.from_numpy(inputs))
        return [output.numpy() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    described = {"size": [side, side], **preprocessing}
    return Exported(file, described, prepared, reference, graph.rows, located, graph.suppressed)
