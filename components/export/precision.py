"""Files made from ONNX: of half precision, of eight bits, for OpenVINO; and the images of train that say how large the numbers within a model are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionloop.core.canonical import sha256
from visionloop.data.annotations.tables import Annotations, column

#: How many images of train a model is calibrated on at most, and how many it takes at least.
MOST, LEAST = 256, 8


def chosen(annotations: Annotations, names: Sequence[str]) -> list[str]:
    """The images of a calibration set: of each class in turn the next one, so that rare classes are in it, then those without an object.

    Within a class the order is that of the SHA-256 of the file names, so the same dataset gives the same set.

    Args:
        annotations: The dataset.
        names: The file names of train.

    Returns:
        At most ``MOST`` file names, sorted; none where train has fewer than ``LEAST``.
    """
    if len(names) < LEAST:
        return []
    rows = {name: row for row, name in enumerate(annotations.images["file_name"].to_pylist())}
    of_train = {rows[name]: name for name in names}
    classes: dict[int, list[str]] = {}
    objects = annotations.objects.filter(pc.is_valid(annotations.objects["class_id"]))
    pairs = np.unique(np.stack([column(objects, "class_id"), column(objects, "image")]), axis=1)
    for kind, row in pairs.T.tolist():
        if row in of_train:
            classes.setdefault(kind, []).append(of_train[row])
    seen = {name for some in classes.values() for name in some}
    queues = [sorted(some, key=_order) for _, some in sorted(classes.items())]
    rest = sorted((name for name in names if name not in seen), key=_order)
    return sorted(_in_turn(queues, rest, min(MOST, len(names))))


def _in_turn(queues: Sequence[Sequence[str]], rest: Sequence[str], number: int) -> set[str]:
    """So many names: round after round one of each queue that has a further one, then the rest."""
    taken: dict[str, None] = {}
    left: list[Iterator[str]] = [iter(queue) for queue in queues]
    while left and len(taken) < number:
        further = []
        for queue in left:
            name = next((name for name in queue if name not in taken), None)
            if name is not None and len(taken) < number:
                taken[name] = None
                further.append(queue)
        left = further
    for name in rest[: number - len(taken)]:
        taken[name] = None
    return set(taken)


def _order(name: str) -> str:
    return sha256(name.encode())


class _Inputs:
    """The calibration's inputs as onnxruntime asks for them, one after the other (``CalibrationDataReader``)."""

    def __init__(self, name: str, inputs: Iterable[NDArray[np.float32]]) -> None:
        self._inputs = ({name: each} for each in inputs)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._inputs, None)


def quantized(file: Path, inputs: Iterable[NDArray[np.float32]]) -> Path:
    """Writes a file whose convolutions compute with whole numbers of eight bits, beside the one of full precision.

    Weights have a scale for each channel, activations the range that the calibration's inputs show; other operators stay as they are, since
    in eight bits they move boxes by several pixels.

    Args:
        file: The ONNX file of full precision, with one input.
        inputs: The calibration's inputs, prepared as the model takes them.

    Returns:
        The file in eight bits.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready, made = file.with_name("prepared.onnx"), file.with_name("int8.onnx")
    options: dict[str, Any] = {"quant_format": quantization.QuantFormat.QDQ, "per_channel": True}
    options |= {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its symbolic shapes need another package, and the shapes of these files are known.
        quant_pre_process(str(file), str(ready), skip_symbolic_shape=True)
        (entry,) = onnx.load(str(ready)).graph.input
        reader = _Inputs(entry.name, inputs)
        quantization.quantize_static(str(ready), str(made), reader, op_types_to_quantize=["Conv"], **options)
    return made


def halved(file: Path) -> Path:
    """Writes a file with weights of 16 bits, beside the one of full precision; what it takes and gives stays of 32.

    Args:
        file: The ONNX file of full precision.

    Returns:
        The file in half precision.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    made = file.with_name("fp16.onnx")
    with warnings.catch_warnings():
        # It warns of each weight that is rounded to nothing, or to the largest number of 16 bits.
        warnings.simplefilter("ignore")
        graph = OnnxModel(convert_float_to_float16(onnx.load(str(file)), keep_io_types=True))
    # It puts the casts of inputs behind the nodes that take them, which is no valid file.
    graph.topological_sort()
    onnx.save(graph.model, str(made))
    return made


def as_openvino(file: Path, half: bool) -> Path:
    """Writes OpenVINO's form of an ONNX file beside it: ``model.xml`` and, for the weights, ``model.bin``.

    Its reader takes the file itself, eight bits included; its converter, which could send what users do to its makers, is not called.

    Args:
        file: The ONNX file.
        half: Whether weights are stored in 16 bits.

    Returns:
        The file ``model.xml``.
    """
    import openvino

    made = file.with_name("model.xml")
    openvino.save_model(openvino.Core().read_model(str(file)), str(made), compress_to_fp16=half)
    return made
