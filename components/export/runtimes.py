"""What reads the files of each format: how one is described, and run on the CPU. A format is a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Computes the outputs of an input.
Run = Callable[[NDArray[np.float32]], list[NDArray[Any]]]


@dataclass(frozen=True)
class Runtime:
    """A format's runtime.

    Attributes:
        packages: What writes a file and runs it, by their names as distributions.
        describe: Puts a text under a name into a file, where its readers look for such texts.
        load: Opens a file. Raises ImportError if a package is missing.
    """

    packages: tuple[str, ...]
    describe: Callable[[Path, str, str], None]
    load: Callable[[Path], Run]


def _describe_onnx(file: Path, name: str, content: str) -> None:
    """Writes an entry of ``metadata_props``, after a check of the whole file."""
    import onnx

    graph = onnx.load(str(file))
    onnx.checker.check_model(graph)
    onnx.helper.set_model_props(graph, {name: content})
    onnx.save(graph, str(file))


def _load_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return lambda inputs: list(session.run(None, {entry.name: inputs}))


def _describe_openvino(file: Path, name: str, content: str) -> None:
    """Writes an entry of ``rt_info``."""
    import openvino

    model = openvino.Core().read_model(str(file))
    model.set_rt_info(content, name)
    described = file.with_name(f"described{file.suffix}")
    # As they are: what is of 16 bits stays so, and what is not does not become it.
    openvino.save_model(model, str(described), compress_to_fp16=False)
    del model  # it maps the weights' file, which is replaced
    for path in (described, described.with_suffix(".bin")):
        path.replace(file.with_suffix(path.suffix))


def _load_openvino(file: Path) -> Run:
    """In full precision, for processors with bfloat16 would compute in that; outputs in their order."""
    import openvino

    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    places = range(len(compiled.outputs))

    def computed(inputs: NDArray[np.float32]) -> list[NDArray[Any]]:
        found = compiled(inputs)
        return [np.array(found[place]) for place in places]

    return computed


def _describe_torchscript(file: Path, name: str, content: str) -> None:
    from visionloop.training.pytorch import exporting

    exporting.describe_script(file, name, content)


def _load_torchscript(file: Path) -> Run:
    from visionloop.training.pytorch import exporting

    return exporting.script(file)


#: The runtime of each format.
RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime(("onnx", "onnxruntime"), _describe_onnx, _load_onnx),
    "openvino": Runtime(("onnx", "onnxruntime", "openvino"), _describe_openvino, _load_openvino),
    "torchscript": Runtime(("torch",), _describe_torchscript, _load_torchscript),
}
