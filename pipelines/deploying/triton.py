"""NVIDIA Triton: a model repository with a version's accepted ONNX file, and a configuration made from what that file takes and gives.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html and …/model_configuration.html
state the layout and the fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.export.formats import Wanted
from visionloop.components.export.result import ExportResult
from visionloop.components.register.exports import FOLDER
from visionloop.core import structs
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.logs import notice
from visionloop.core.packages import not_installed
from visionloop.core.storage import Prefix, open_prefix
from visionloop.pipelines.deploying.order import Order
from visionloop.registry.versions import STORAGE_URI

#: The export that is served.
EXPORT = Wanted("onnx", "fp32")

#: The files of a model in a repository.
MODEL, CONFIGURATION = "model.onnx", "config.pbtxt"

#: The largest batch that requests are put together to where the file takes any, and how long one waits for others, in microseconds.
LARGEST_BATCH, DELAY = 8, 5000

#: ONNX's types of elements (onnx.TensorProto.DataType) as Triton calls them.
TYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING", 9: "BOOL", 10: "FP16", 11: "FP64",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Attributes:
        name: Its name.
        type: As Triton calls it.
        sides: Its sides; -1 for one of any length.
    """

    name: str
    type: str
    sides: tuple[int, ...]


def version_folder(order: Order) -> str:
    """The folder of a version in a repository."""
    return f"{order.name}/{order.version.number}"


def write(order: Order, folder: Path) -> Sequence[str]:
    """Writes a model repository of one version; returns its files, the configuration last: by it the version is served.

    Raises:
        InvalidConfig: If the version has no accepted export as ONNX, its file can't be served, or the package onnx is missing.
        InvalidReceipt: If the file is not the one that was accepted.
    """
    model, configuration = f"{version_folder(order)}/{MODEL}", f"{order.name}/{CONFIGURATION}"
    (folder / model).parent.mkdir(parents=True)
    _fetch(order, folder / model)
    inputs, outputs = tensors(folder / model)
    (folder / configuration).write_text(config(order, inputs, outputs), encoding="utf-8")
    if not batched(inputs, outputs):
        notice(
            f"{order.version.label}: its ONNX file takes one picture at a time, so Triton puts no requests together."
        )
    return [model, configuration]


def _fetch(order: Order, local: Path) -> None:
    """Downloads the accepted file of a version."""
    version = order.version
    exports = f"{version.tags.get(STORAGE_URI) or order.uri}/{FOLDER}"
    there = open_prefix(f"{exports}/{EXPORT.folder}", "results")
    found = _result(there)
    if found is None or not found.accepted:
        raise InvalidConfig(
            f"{version.label} has no accepted export {EXPORT.text} at {exports}; run its training again with --export {EXPORT.format}, "
            "which reuses all else."
        )
    (name,) = EXPORT.files().values()
    sent = there.download(name, local)
    if sent.sha256 != found.sha256:
        raise InvalidReceipt(
            f"{there.uri}/{name}: not the file that was accepted; run the model's run again with --force export."
        )


def _result(there: Prefix) -> ExportResult | None:
    """What an export's result says; None where there is none."""
    try:
        return structs.decode(there.read("export.json"), ExportResult)
    except NotFound:
        return None
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{there.uri}/export.json: not one ({error}); run again with --force export.") from error


def tensors(file: Path) -> tuple[list[Tensor], list[Tensor]]:
    """What a file takes and gives. Raises InvalidConfig if the package onnx is missing, or it is of a type that Triton lacks."""
    try:
        import onnx
    except ImportError as error:
        raise not_installed(error, "deploy --to triton") from error
    graph = onnx.load(str(file)).graph
    constants = {entry.name for entry in graph.initializer}
    inputs = [_tensor(entry) for entry in graph.input if entry.name not in constants]
    return inputs, [_tensor(entry) for entry in graph.output]


def _tensor(entry: Any) -> Tensor:
    kind = entry.type.tensor_type
    if kind.elem_type not in TYPES:
        raise InvalidConfig(
            f"{entry.name}: elements of the type {kind.elem_type} of ONNX can't be served by Triton; export again."
        )
    sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
    return Tensor(entry.name, TYPES[kind.elem_type], sides)


def batched(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether the first side of all is a batch of any length, so that requests can be put together."""
    return all(tensor.sides[:1] == (-1,) for tensor in (*inputs, *outputs))


def config(order: Order, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
    """The configuration, in protobuf's text form."""
    together = batched(inputs, outputs)
    kind = "KIND_GPU" if order.wanted.gpus else "KIND_CPU"
    lines = [
        f"name: {json.dumps(order.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {LARGEST_BATCH if together else 0}",
        *_described("input", inputs, together),
        *_described("output", outputs, together),
        *([f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}"] if together else []),
        f"instance_group [ {{ count: {max(1, order.wanted.gpus)} kind: {kind} }} ]",
        f"version_policy: {{ specific: {{ versions: [ {order.version.number} ] }} }}",
    ]
    return "\n".join(lines) + "\n"


def _described(field: str, of: Sequence[Tensor], together: bool) -> Iterator[str]:
    for tensor in of:
        sides = ", ".join(map(str, tensor.sides[1:] if together else tensor.sides))
        yield f"{field} [ {{ name: {json.dumps(tensor.name)} data_type: TYPE_{tensor.type} dims: [ {sides} ] }} ]"
