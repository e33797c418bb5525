"""Runs a model that Visionloop exported; needs numpy, and onnxruntime or openvino. SPDX-License-Identifier: Apache-2.0."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: How much a pixel at a distance counts, and how far away the last one is (bicubic: Keys 1981, a = -0.5).
KERNELS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "bilinear": (1, lambda far: np.clip(1 - far, 0, None)),
    "bicubic": (2, lambda far: np.select([far < 1, far < 2], [(1.5 * far - 2.5) * far**2 + 1, ((2.5 - 0.5 * far) * far - 4) * far + 2])),
}  # fmt: skip


class Model:
    """A model in a file of ONNX or of OpenVINO (.xml); ``about`` is what the file says of it."""

    def __init__(self, file: str | Path) -> None:
        """Opens a file."""
        self._run, self.about = (_openvino if Path(file).suffix == ".xml" else _onnx)(str(file))

    def __call__(self, pixels: Any, confidence: float | None = None) -> dict[str, Any]:
        """What a picture (height × width × 3 bytes, RGB) shows: ``classes`` (by number) and ``scores``, the most confident first.

        Of objects also ``boxes`` (N × 4: x1, y1, x2, y2 in pixels), ``masks`` (N × height × width), ``keypoints`` (N × K × x, y,
        confidence), from the least ``confidence`` on, without it that of the operating point.
        """
        about, (height, width) = self.about, pixels.shape[:2]
        inputs, scale, border = _prepared(pixels, about["preprocessing"])
        outputs, form, names = self._run(inputs), about["outputs"]["form"], about["classes"]
        if form == "classes":
            order = np.argsort(-outputs[0][0], kind="stable")
            return {"classes": order, "scores": outputs[0][0][order]}
        least = np.array([about["operating_point"][name] if confidence is None else confidence for name in names])
        boxes, classes, scores, more = _objects(outputs, form, len(names))
        located = np.clip((boxes.reshape(-1, 2, 2) - border) / scale, 0, [width, height])
        shown = (scores >= least[classes]) & (located[:, 1] > located[:, 0]).all(1)
        order = np.flatnonzero(shown)[np.argsort(-scores[shown], kind="stable")]
        kept = _unsuppressed(order, boxes, classes, about["outputs"]["overlap"] or 2)[: about["outputs"]["most"]]
        found = {"classes": classes[kept], "scores": scores[kept], "boxes": located[kept].reshape(-1, 4)}
        if about["task"] == "pose":
            points = more[kept].reshape(len(kept), len(about["keypoints"]), 3)
            seen, points = points[..., 2:], np.clip((points[..., :2] - border) / scale, 0, [width, height])
            found["keypoints"] = np.concatenate([points, seen], -1)
        if about["task"] == "segmentation":
            if form == "objects":  # a mask is stretched over its box
                grids, regions, edge = more[kept] - 0.5, boxes[kept], ("constant", {"constant_values": -0.5})
            else:  # a mask is a sum of prototypes, which are stretched over the input
                grids, edge = np.tensordot(more[kept], outputs[1][0], 1), ("edge", {})
                regions = [[0, 0, *inputs.shape[:1:-1]]] * len(kept)
            regions = (np.reshape(regions, (-1, 2, 2)) - border) / scale
            masks = [_mask(*each, edge, height, width) for each in zip(grids, regions, found["boxes"], strict=True)]
            found["masks"] = np.array(masks, bool).reshape(-1, height, width)
        return found


def _onnx(file: str) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    name, said = session.get_inputs()[0].name, session.get_modelmeta().custom_metadata_map
    return lambda inputs: session.run(None, {name: inputs}), json.loads(said["visionloop"])


def _openvino(file: str) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    import openvino

    model = openvino.Core().read_model(file)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # not bfloat16
    return lambda inputs: compiled(inputs).to_tuple(), json.loads(model.get_rt_info("visionloop").astype(str))


def _prepared(pixels: Any, how: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The input of a picture, by how much it was scaled across and down, and where its left upper corner lies."""
    if how["thin"]:  # of a long picture the middle
        cut = [max(0, side - how["thin"] * min(pixels.shape[:2])) // 2 for side in pixels.shape[:2]]
        pixels = pixels[cut[0] : pixels.shape[0] - cut[0], cut[1] : pixels.shape[1] - cut[1]]
    fill, scale, border = np.array(how["fill"], np.float32), [1.0, 1.0], [0, 0]
    rounded: Any = {"up": math.ceil, "down": int, "nearest": round}[how["round"]]
    decisive, pixels = (max if how["resize"] == "longer" else min)(pixels.shape[:2]), pixels - fill
    for axis in (1, 0):
        before, whole = pixels.shape[axis], how["size"][axis]
        side = how["to"] if how["resize"] == "both" else max(1, rounded(before * how["to"] / decisive))
        pixels = np.clip(np.round(_resized(pixels, side, axis, how)), -fill, 255 - fill)
        middle = round((whole - side) / 2 - 0.1) if whole > side else -round((side - whole) / 2)
        start = middle * (how["place"] == "middle")
        pixels = pixels.take(np.arange(max(0, -start), min(side, whole - start)), axis)
        edges = (max(0, start), whole - max(0, start) - pixels.shape[axis])
        pixels = np.pad(pixels, [edges if other == axis else (0, 0) for other in range(3)])
        scale[1 - axis], border[1 - axis] = side / before, start
    inputs = ((pixels + fill) / np.float32(255) - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(inputs.transpose(2, 0, 1)[None], np.float32), np.array(scale), np.array(border)


def _resized(pixels: Any, side: int, axis: int, how: dict[str, Any]) -> Any:
    """A picture scaled along one axis: each pixel is a mean of those near it, of all that it covers with ``antialias``."""
    before = pixels.shape[axis]
    wide = max(before / side, 1.0) if how["antialias"] else 1.0
    reach, kernel = KERNELS[how["filter"]]
    centres = (np.arange(side) + 0.5)[:, None] * before / side
    places = np.floor(centres - reach * wide).astype(int) + np.arange(2 * math.ceil(reach * wide) + 1)
    inside = (places >= 0) & (places < before) | (not how["antialias"])
    weights = kernel(np.abs(places + 0.5 - centres) / wide) * inside
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32).T[..., None, None]
    lines = np.moveaxis(pixels, axis, 0)[np.clip(places, 0, before - 1).T]
    return np.moveaxis(sum(line * weight for line, weight in zip(lines, weights, strict=True)), 0, axis)


def _objects(outputs: Any, form: str, classes: int) -> tuple[Any, Any, Any, Any]:
    """The boxes in the input, class numbers, scores, and what else belongs to each object."""
    if form == "objects":
        return outputs[0], outputs[2].astype(int), outputs[1], outputs[-1]
    if form == "queries":
        rows, numbers = np.divmod(np.argsort(-outputs[1][0], axis=None, kind="stable")[:1000], classes)
        return outputs[0][0][rows], numbers, outputs[1][0][rows, numbers], None
    found = outputs[0][0]
    if form == "rows":
        return found[:, :4], found[:, 5].astype(int), found[:, 4], found[:, 6:]
    centre, sides, scores, more = np.split(found.T, [2, 4, 4 + classes], 1)
    return np.concatenate([centre - sides / 2, centre + sides / 2], 1), scores.argmax(1), scores.max(1), more


def _unsuppressed(left: Any, boxes: Any, classes: Any, most: float) -> Any:
    """Those that no more confident box of their class overlaps by more."""
    kept, areas = [], np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        inner = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2])
        shared = np.prod(np.clip(inner, 0, None), 1)
        left = left[(classes[left] != classes[first]) | (shared <= most * (areas[first] + areas[left] - shared))]
    return np.array(kept, int)


def _mask(grid: Any, region: Any, box: Any, edge: Any, height: int, width: int) -> Any:
    """The pixels of a box in which a grid, stretched over a region of the picture, is above 0."""
    mask, grid = np.zeros((height, width), bool), np.pad(grid, 1, edge[0], **edge[1])
    start, end = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    for axis, side in ((1, 0), (0, 1)):
        at = (np.arange(start[side], end[side]) + 0.5 - region[0, side]) / (region[1, side] - region[0, side])
        at = np.clip(at * (grid.shape[axis] - 2) + 0.5, 0, grid.shape[axis] - 1.001)
        first, part = at.astype(int), np.expand_dims(at % 1, 1 - axis)
        grid = grid.take(first, axis) * (1 - part) + grid.take(first + 1, axis) * part
    mask[start[1] : end[1], start[0] : end[0]] = grid >= 0
    return mask
