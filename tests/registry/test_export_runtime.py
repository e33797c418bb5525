"""The program that lies beside an export: it needs no library of a trainer, and finds what the trainer's predictor finds."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from untrained import CLASSES, KEYPOINTS, PAIRS, SIDE, checkpoint

from visionloop.components.export.comparison import overlaps
from visionloop.components.export.formats import MODEL, PROGRAM, WEIGHTS, Wanted
from visionloop.components.export.making import PROGRAM_SOURCE, Described, drawn, make
from visionloop.data.annotations.masks import runs
from visionloop.training import catalog
from visionloop.training.trainers import Prediction, PredictionSettings, Trainer

#: How many objects are compared on each picture, the most confident, and the part of them that must be found: a pixel of an input differs
#: by a unit where a library rounds on its way, and which of two like boxes of random weights hides the other may hang on it.
COMPARED, LEAST_FOUND = 12, 0.85

#: Most of them behind the mark.
TRIED = [
    pytest.param(*pair, marks=[] if pair[0] == "timm" or pair == ("torchvision", "pose") else pytest.mark.slow)
    for pair in PAIRS
]


def program(file: Path) -> Any:
    """The program as a module of its own."""
    specification = importlib.util.spec_from_file_location("visionloop_runtime", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_is_short_and_needs_numpy_and_one_runtime() -> None:
    source = PROGRAM_SOURCE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {entry.name.partition(".")[0] for entry in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "openvino"}
    assert "SPDX-License-Identifier: Apache-2.0" in source


@pytest.mark.parametrize(("trainer", "task"), TRIED)
def test_it_finds_what_the_trainers_own_predictor_finds(trainer: str, task: str, tmp_path: Path) -> None:
    own: Trainer = catalog.trainer(trainer)
    file = checkpoint(trainer, task, tmp_path, sure=True)
    predictor = own.predictor(file)
    described = Described(
        task=task,
        classes=list(CLASSES),
        keypoints=list(KEYPOINTS) if task == "pose" else [],
        training_digest="",
        checkpoint_sha256="",
        operating_point={CLASSES[0]: 0.0, CLASSES[1]: 1.1},
    )
    for format in ("onnx", "openvino"):
        folder = tmp_path / format
        folder.mkdir()
        files, result, _ = make(own, file, Wanted(format, "fp32"), described, drawn(), folder)
        assert result.accepted, result.reason
        assert set(files) == ({MODEL, PROGRAM} if format == "onnx" else {MODEL, WEIGHTS, PROGRAM})
        model = program(files[PROGRAM]).Model(files[MODEL])
        assert model.about["classes"] == list(CLASSES)
        counted = []
        for pixels in pictures(trainer):
            settings = PredictionSettings(confidence=0.0001, masks=True, classes=len(CLASSES))
            (expected,) = predictor.predict([pixels], settings)
            if task == "classification":
                found = model(pixels)
                assert [entry.class_index for entry in expected] == found["classes"].tolist()
                assert np.allclose([entry.confidence for entry in expected], found["scores"], atol=0.01)
                continue
            counted += [agree(entry, model(pixels, 0.0001), pixels.shape) for entry in expected[:COMPARED]]
            # Without a confidence that of each class counts: of the second no object is so sure.
            assert set(model(pixels)["classes"].tolist()) <= {0}
        if task != "classification":
            assert len(counted) > COMPARED
            assert np.mean(counted) >= LEAST_FOUND


def pictures(trainer: str) -> list[NDArray[np.uint8]]:
    """In several shapes; Ultralytics predicts on others than squares with less border than its exports have."""
    some = [pixels[:160, :160] for pixels in drawn()[:3]]
    return some if trainer == "ultralytics" else [*some, *drawn()[:2]]


def agree(entry: Prediction, found: dict[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether an object is among those that the program found, with its confidence, keypoints and mask."""
    # Half a pixel is much of a box that has only a few.
    like = (overlaps(np.array(entry.box), found["boxes"]) > 0.95) | (np.abs(found["boxes"] - entry.box).max(1) < 0.5)
    like &= (found["classes"] == entry.class_index) & (np.abs(found["scores"] - entry.confidence) < 0.01)
    for row in np.flatnonzero(like):
        points = np.array(list((entry.keypoints or {}).values()))
        if entry.keypoints and np.abs(found["keypoints"][row] - points).max() > 3:
            continue
        if entry.mask is not None:
            area = runs(entry.mask)
            mask = np.repeat(np.arange(len(area)) % 2, area).astype(bool).reshape(shape[1], shape[0]).T
            either, both = (found["masks"][row] | mask).sum(), (found["masks"][row] & mask).sum()
            if both < 0.95 * either:
                continue
        return True
    return False


#: Pictures of all shapes: as large as the input, smaller, long, a pixel, larger.
SIZES = [(SIDE, SIDE), (30, 50), (333, 100), (100, 777), (1, 1), (640, 480)]


@pytest.mark.parametrize(("trainer", "task"), [pair for pair in PAIRS if pair[1] in ("detection", "classification")])
def test_an_input_is_prepared_as_the_trainer_prepares_it(trainer: str, task: str, tmp_path: Path) -> None:
    own: Any = catalog.trainer(trainer)
    exported = own.export(checkpoint(trainer, task, tmp_path), "torchscript", tmp_path)
    # A unit of 8 bits: libraries round on the way.
    most = 1.01 / 255 / min(exported.preprocessing["std"])
    for size in SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        inputs, _, _ = program(PROGRAM_SOURCE)._prepared(pixels, exported.preprocessing)
        expected = exported.prepared(pixels)
        assert inputs.shape == expected.shape, size
        assert np.abs(inputs - expected).max() <= most, size


def test_a_classifier_that_does_not_say_how_its_inputs_are_prepared_gets_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionloop.training.trainers.timm.model import Description

    monkeypatch.setattr(Description, "preprocessing", lambda self: {})
    described = Described(
        task="classification",
        classes=list(CLASSES),
        keypoints=[],
        training_digest="",
        checkpoint_sha256="",
        operating_point={},
    )
    file = checkpoint("timm", "classification", tmp_path)
    files, result, _ = make(catalog.trainer("timm"), file, Wanted("onnx", "fp32"), described, drawn(), tmp_path)
    assert (result.accepted, set(files)) == (True, {MODEL})
