"""What clients send: images and parameters, in the forms of MLflow's scoring server and of the Open Inference Protocol v2.

No text is ever taken for a path or a URI: it is base64, or an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from visionloop.registry import outputs
from visionloop.training.trainers import PredictionSettings

#: The most images of one request.
MAX_IMAGES = 128

#: The name of the images' column, and of the tensor that the metadata shows.
IMAGE = "image"

#: The parameters of a prediction by task; a classifier takes none.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "detection": (outputs.CONFIDENCE,),
    "segmentation": (outputs.CONFIDENCE, outputs.MASKS),
    "pose": (outputs.CONFIDENCE,),
    "classification": (),
}

#: The most sides of a tensor: a batch of pictures has four, and the product of very many takes minutes.
_SIDES = 8

#: Parameters of the protocol itself, which mean nothing to a model.
_PROTOCOLS_OWN = ("binary_data_output", "binary_data_size", "content_type")

_BASE64 = re.compile(rb"(data:[^,]*,)?[A-Za-z0-9+/=\s]*")

_FORMS = "inputs, instances, dataframe_split or dataframe_records"


class Refused(Exception):
    """A request that is wrong: its HTTP status and the sentence that the client is sent."""

    def __init__(self, status: int, sentence: str) -> None:
        """``status`` is one of 400 to 599."""
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Asked:
    """What a client wants.

    Attributes:
        images: Each a base64 text, the bytes of a file, or an array.
        settings: What is asked for of each.
        id: The request's id, which the answer repeats.
        binary: Whether the answer's tensor is sent behind the JSON.
        output: The name of the answer's tensor.
    """

    images: Sequence[Any]
    settings: PredictionSettings = field(default_factory=PredictionSettings)
    id: str = ""
    binary: bool = False
    output: str = "predictions"


def invocation(body: bytes, task: str) -> Asked:
    """A request as MLflow's scoring server takes it.

    Raises:
        Refused: With 400, if it is not one.
    """
    value = _object(body)
    given = [name for name in ("inputs", "instances", "dataframe_split", "dataframe_records") if name in value]
    if len(given) != 1:
        raise Refused(400, f"The body has {' and '.join(given) or 'no images'}; give one of {_FORMS}.")
    images = value[given[0]]
    if given[0] == "dataframe_split":
        images = _column(images)
    if isinstance(images, Mapping):
        images = images.get(IMAGE, images)
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, list):
        raise Refused(400, f"{given[0]} is not a list of base64 texts, nor one of objects with the field {IMAGE}.")
    return Asked([_text(image) for image in _few(images)], _settings(value.get("params") or {}, task))


def inference(body: bytes, json_length: str | None, task: str) -> Asked:
    """A request of the Open Inference Protocol v2, with the tensor's data in the JSON or, as Triton's client sends it, behind it.

    Args:
        body: The body.
        json_length: The header ``Inference-Header-Content-Length``.
        task: The model's task.

    Raises:
        Refused: With 400, if it is not one.
    """
    length = len(body)
    if json_length is not None:
        if not re.fullmatch(r"[0-9]{1,12}", json_length) or int(json_length) > len(body):
            raise Refused(400, "Inference-Header-Content-Length is not the length of the body's JSON.")
        length = int(json_length)
    value = _object(body[:length])
    tensors = value.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise Refused(400, f"inputs is not a list of one tensor; give one with the images, called {IMAGE}.")
    parameters = _mapping(value.get("parameters"), "parameters")
    output, binary = _output(value.get("outputs"), parameters.get("binary_data_output") is True)
    wanted = {name: given for name, given in parameters.items() if name not in _PROTOCOLS_OWN}
    images = _tensor(tensors[0], body[length:])
    request_id = value.get("id", "")
    if not isinstance(request_id, str):
        raise Refused(400, "id is not a text.")
    return Asked(_few(images), _settings(wanted, task), request_id, binary, output)


def _output(asked: Any, binary: bool) -> tuple[str, bool]:
    """The name of the answer's tensor, and whether it is sent behind the JSON."""
    if asked is None:
        return Asked.output, binary
    if not isinstance(asked, list) or len(asked) != 1 or not isinstance(asked[0], dict):
        raise Refused(400, f"outputs is not a list of one tensor; ask for {Asked.output} or for nothing.")
    if asked[0].get("name") != Asked.output:
        raise Refused(400, f"outputs[0].name is not an output of the model; ask for {Asked.output}.")
    own = _mapping(asked[0].get("parameters"), "outputs[0].parameters").get("binary_data", binary)
    return Asked.output, own is True


def _tensor(tensor: Mapping[str, Any], behind: bytes) -> Sequence[Any]:
    """The images of a tensor of BYTES (an element an image) or UINT8 (height × width × 3, or such pictures in a batch)."""
    shape, kind = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise Refused(400, "inputs[0].shape is not a list of whole numbers.")
    if len(shape) > _SIDES:
        raise Refused(400, f"inputs[0].shape has {len(shape):,} sides; give at most {_SIDES}.")
    count = int(np.prod(shape, dtype=object)) if shape else 0
    size = _mapping(tensor.get("parameters"), "inputs[0].parameters").get("binary_data_size")
    if size is not None and (type(size) is not int or size != len(behind)):
        raise Refused(400, "inputs[0].parameters.binary_data_size is not the length of the data behind the JSON.")
    if kind == "BYTES":
        images = _elements(behind) if size is not None else _flat(tensor.get("data"))
        if len(images) != count:
            raise Refused(400, f"inputs[0] has {len(images):,} elements, and its shape says {count:,}.")
        return [_text(image) if isinstance(image, str | dict) else image for image in images]
    if kind != "UINT8":
        raise Refused(400, f"inputs[0].datatype is {kind!r:.40}; give BYTES (base64 or files) or UINT8 (RGB pixels).")
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise Refused(400, "inputs[0].shape is not height, width, 3 nor a batch of these.")
    pixels = _pixels(behind if size is not None else tensor.get("data"))
    if pixels.size != count:
        raise Refused(400, f"inputs[0] has {pixels.size:,} numbers, and its shape says {count:,}.")
    pictures = pixels.reshape(shape)
    return list(pictures) if len(shape) == 4 else [pictures]


def _pixels(data: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    try:
        numbers = np.asarray(data)
    except ValueError:
        numbers = np.asarray([], object)
    if numbers.dtype.kind not in "iu" or not numbers.size or numbers.min() < 0 or numbers.max() > 255:
        raise Refused(400, "inputs[0].data is not a list of whole numbers from 0 to 255.")
    return numbers.astype(np.uint8).reshape(-1)


def _elements(data: bytes) -> list[Any]:
    """The elements of a tensor of BYTES, each behind its length (four bytes, little-endian): files, or base64 as text."""
    elements: list[Any] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or len(elements) == MAX_IMAGES + 1:
            break
        element = data[at + 4 : end]
        elements.append(element.decode("ascii") if _BASE64.fullmatch(element) else element)
        at = end
    if at != len(data) and len(elements) <= MAX_IMAGES:
        raise Refused(
            400, "The data behind the JSON ends within an element; give each behind its length in four bytes."
        )
    return elements


def _flat(data: Any) -> list[Any]:
    """The elements of a tensor's data, which clients send as a list or, of two dimensions, as lists in one."""
    if not isinstance(data, list):
        raise Refused(400, "inputs[0].data is not a list.")
    return [element for row in data for element in (row if isinstance(row, list) else [row])]


def _text(image: Any) -> str:
    """The base64 of an image, by itself or in the field of an object: ``image``, or ``b64`` as TensorFlow's clients send it."""
    for _ in range(2):
        if isinstance(image, Mapping) and len({IMAGE, "b64"} & set(image)) == 1:
            image = image.get(IMAGE, image.get("b64"))
    if not isinstance(image, str):
        raise Refused(400, f"An image is neither a base64 text nor an object with the field {IMAGE}.")
    return image


def _column(table: Any) -> Any:
    """The column of images of a table as pandas writes it: ``{"columns": […], "data": [[…], …]}``."""
    table = _mapping(table, "dataframe_split")
    columns, rows = table.get("columns"), table.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list) or IMAGE not in columns:
        raise Refused(400, f"dataframe_split has no column {IMAGE}; give columns and data.")
    at = columns.index(IMAGE)
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise Refused(400, "dataframe_split.data has a row of another length than columns.")
    return [row[at] for row in rows]


def _few(images: Sequence[Any]) -> Sequence[Any]:
    if not images:
        raise Refused(400, "There is no image in the request.")
    if len(images) > MAX_IMAGES:
        raise Refused(400, f"There are more than {MAX_IMAGES} images in the request; send several requests.")
    return images


def _settings(parameters: Any, task: str) -> PredictionSettings:
    given, known = _mapping(parameters, "params"), PARAMETERS[task]
    for name, value in given.items():
        if name not in known:
            takes = f"takes {' and '.join(known)}" if known else "takes none"
            raise Refused(400, f"{name!r:.60} is not a parameter: a model for {task} {takes}.")
        if isinstance(value, bool) != (name == outputs.MASKS) or not isinstance(value, bool | int | float):
            kind = "true or false" if name == outputs.MASKS else "a number from 0 to 1"
            raise Refused(400, f"{name} is not {kind}.")
    try:
        return outputs.settings(given)
    except outputs.InvalidParameter as error:
        raise Refused(400, str(error)) from error


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(400, f"The body is not JSON ({str(error)[:100]}).") from error
    return _mapping(value, "The body")


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise Refused(400, f"{name} is not an object.")
    return value or {}
