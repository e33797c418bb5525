"""ONNX in half precision and in eight bits: the images that it is calibrated on, the files, and by what they are accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from untrained import checkpoint

from visionloop.components.export.comparison import Difference
from visionloop.components.export.making import refusal, tolerance
from visionloop.components.export.precision import LEAST, MOST, chosen, halved, quantized
from visionloop.data.annotations.tables import Annotations
from visionloop.pipelines.cli.dataset import read_dataset
from visionloop.training import catalog


def many(folder: Path, number: int) -> Annotations:
    """So many images: three in four have a cat, one a dog, the others nothing."""
    images, annotations = [], []
    for index in range(number):
        images.append({"id": index, "file_name": f"{index}.png", "width": 20, "height": 20})
        if index % 4:
            annotations.append({"id": index, "image_id": index, "category_id": 0, "bbox": [1, 1, 9, 9]})
    annotations.append({"id": number, "image_id": number // 2, "category_id": 1, "bbox": [2, 2, 9, 9]})
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    Image.new("RGB", (20, 20)).save(folder / "0.png")
    return read_dataset(str(folder), "coco", None, folder).annotations


def test_a_calibration_set_has_every_class_and_is_always_the_same(tmp_path: Path) -> None:
    read = many(tmp_path, 2000)
    train = [name for name in read.images["file_name"].to_pylist() if not name.endswith("7.png")]
    some = chosen(read, train)
    assert len(some) == MOST == len(set(some))
    assert some == chosen(read, train[::-1])
    assert "1000.png" in some  # the only dog
    assert set(some) <= set(train)
    assert chosen(read, train[: LEAST - 1]) == []
    # Of few images all are taken, those without an object too.
    assert set(chosen(read, train[:40])) == set(train[:40])


@pytest.mark.parametrize(
    ("trainer", "task"),
    [
        ("timm", "classification"),
        pytest.param("ultralytics", "detection", marks=pytest.mark.slow),
        pytest.param("torchvision", "detection", marks=pytest.mark.slow),
    ],
)
def test_a_file_in_eight_bits_is_smaller_and_gives_nearly_the_same(trainer: str, task: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    own: Any = catalog.trainer(trainer)
    exported = own.export(checkpoint(trainer, task, tmp_path), "onnx", tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (LEAST, 64, 64, 3), np.uint8)
    file = quantized(exported.file, map(exported.prepared, pictures))
    operators = {node.op_type for node in onnx.load(str(file)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert file.stat().st_size < 0.6 * exported.file.stat().st_size

    def outputs(path: Path) -> list[NDArray[Any]]:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return list(session.run(None, {session.get_inputs()[0].name: exported.prepared(pictures[0])}))

    if task == "classification":
        assert np.abs(outputs(file)[0] - outputs(exported.file)[0]).max() < 0.1
    assert all(np.isfinite(output).all() for output in outputs(file))


def test_a_file_in_half_precision_has_half_the_size_and_takes_and_gives_the_same(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    own: Any = catalog.trainer("timm")
    exported = own.export(checkpoint("timm", "classification", tmp_path), "onnx", tmp_path)
    file = halved(exported.file)
    onnx.checker.check_model(onnx.load(str(file)))
    assert file.stat().st_size < 0.7 * exported.file.stat().st_size
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    full, half = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"images": exported.prepared(pixels)}
        )[0]
        for path in (exported.file, file)
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.01


def test_eight_bits_are_accepted_by_their_metric_alone() -> None:
    apart = Difference(overlap=0.4, score=0.3, further=9.0, objects=5)
    assert refusal(apart, "int8", 0.50, 0.51) == ""
    assert refusal(apart, "int8", 0.48, 0.51) == "its metric is 0.4800, the model's 0.5100 (0.02 more or less at most)"
    assert refusal(apart, "int8") == "int8 is accepted by its metric alone, and there are no labels to measure it by"
    assert "boxes overlap by 0.4000 only" in refusal(apart, "fp32", 0.5, 0.5)
    assert tolerance("int8") == {"metric": 0.02}
