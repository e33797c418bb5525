"""``visionloop model export``: what it writes for each trainer and task, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decided import command
from decided import register as register_toy
from laptop import CLOSED_NETWORK
from toy_detector import Prepared
from untrained import CLASSES, KEYPOINTS, PAIRS, SIDE, checkpoint, photograph, register

from visionloop.components.export import comparison, making
from visionloop.components.export.comparison import Difference, difference
from visionloop.components.export.formats import PROGRAM_FILE
from visionloop.registry import Registry
from visionloop.training import catalog
from visionloop.training.trainers import Rows

#: Each trainer with its tasks; most of them behind the mark.
TRIED = [
    pair if pair[0] == "timm" or pair == ("ultralytics", "pose") else pytest.param(*pair, marks=pytest.mark.matrix)
    for pair in PAIRS
]


@pytest.mark.parametrize(("trainer", "task"), TRIED)
def test_each_trainer_exports_what_it_finds_itself(
    registry: Registry, name: str, trainer: str, task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnx
    import onnxruntime

    register(registry, trainer, task, name, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other").write_text("stays")
    code, out, sentence = command(capfd, "export", f"{name}@champion", "--format", "onnx", "--out", tmp_path / "out")
    assert code == 0, sentence
    (report,) = json.loads(out)["exports"]
    assert (report["model"], report["version"], report["format"], report["precision"]) == (name, 1, "onnx", "fp32")
    assert report["accepted"]
    assert report["pictures"] == making.DRAWN
    assert (report["objects"] > 0) == (task != "classification")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"other", f"{name}-1.onnx", PROGRAM_FILE}
    assert report["beside"] == [str(tmp_path / "out" / PROGRAM_FILE)]
    file = Path(report["file"])
    assert report["size"] == file.stat().st_size
    (entry,) = onnx.load(str(file)).metadata_props
    described = json.loads(entry.value)
    assert (described["task"], described["classes"]) == (task, list(CLASSES))
    assert described["keypoints"] == (list(KEYPOINTS) if task == "pose" else [])
    assert described["preprocessing"]["size"] == [SIDE, SIDE]
    assert described["training_digest"] == "0" * 64
    assert described["operating_point"] == dict.fromkeys(CLASSES, 0.25)
    assert described["licence"] == catalog.trainer(trainer).licence  # type: ignore[attr-defined]
    # The runtime alone answers, with neither the trainer nor torch.
    session = onnxruntime.InferenceSession(str(file))
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape) == ("images", [1, 3, SIDE, SIDE])
    assert session.run(None, {"images": np.zeros((1, 3, SIDE, SIDE), np.float32)})


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize(("trainer", "task"), TRIED)
def test_as_torchscript_each_trainers_model_finds_what_it_finds_itself(
    trainer: str,
    task: str,
    registry: Registry,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import torch

    register(registry, trainer, task, name, tmp_path)
    words = ("export", f"{name}/1", "--format", "torchscript", "--out", tmp_path / "out")
    code, out, sentence = command(capfd, *words)
    assert code == 0, sentence
    (report,) = json.loads(out)["exports"]
    assert (report["accepted"], report["format"], report["precision"]) == (True, "torchscript", "fp32")
    file = tmp_path / "out" / f"{name}-1.torchscript"
    assert (report["file"], report["size"]) == (str(file), file.stat().st_size)
    # torch alone answers, without the trainer, and the file describes itself.
    extra = {"visionloop": ""}
    module = torch.jit.load(str(file), _extra_files=extra)  # type: ignore[no-untyped-call]
    described = json.loads(extra["visionloop"])
    assert (described["task"], described["classes"], described["trainer"]) == (task, list(CLASSES), trainer)
    assert module(torch.zeros(1, 3, SIDE, SIDE)) is not None
    with zipfile.ZipFile(file) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    # Nothing says where this machine keeps its sources, so another one's bytes are the same.
    sources = [str(Path(catalog.__file__).parent).encode(), str(Path(torch.__file__).parent).encode()]
    assert not [record for record, data in records.items() if any(source in data for source in sources)]


@pytest.mark.usefixtures("registry")
def test_a_checkpoint_is_exported_without_being_registered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = checkpoint("timm", "classification", tmp_path)
    words = ("export", file, "--set", "trainer=timm", "--format", "openvino", "--out", tmp_path / "out")
    code, out, sentence = command(capfd, *words)
    assert code == 0, sentence
    (report,) = json.loads(out)["exports"]
    assert (report["model"], report["version"], report["accepted"]) == (str(file), None, True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"best.xml", "best.bin", PROGRAM_FILE}
    import openvino

    model = openvino.Core().read_model(tmp_path / "out/best.xml")
    described = json.loads(model.get_rt_info("visionloop").astype(str))
    assert (described["task"], described["classes"]) == ("classification", list(CLASSES))
    for more, part in (
        (("--format", "onnx:int8"), "a checkpoint comes without labels; take onnx, or export the version"),
        (("--format", "onnx", "--set", "epochs=3"), "epochs"),
    ):
        code, _, sentence = command(capfd, "export", file, "--set", "trainer=timm", *more)
        assert (code, part in sentence) == (78, True), sentence
    code, _, sentence = command(capfd, "export", tmp_path / "none.pt", "--format", "onnx")
    assert (code, "none.pt" in sentence) == (78, True), sentence


@pytest.mark.usefixtures("registry")
def test_equal_models_give_equal_files(
    registry: Registry, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    register(registry, "timm", "classification", name, tmp_path)
    picture = photograph(tmp_path / "a.jpg")
    files = []
    for folder in ("first", "second"):
        words = ("export", f"{name}/1", "--format", "onnx", "--out", tmp_path / folder, "--images", picture)
        code, out, sentence = command(capfd, *words)
        assert code == 0, sentence
        (report,) = json.loads(out)["exports"]
        assert report["pictures"] == 1
        files.append((tmp_path / folder / f"{name}-1.onnx").read_bytes())
    assert files[0] == files[1]


def test_one_that_differs_is_refused_and_not_copied(
    registry: Registry, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "timm", "classification", name, tmp_path)
    monkeypatch.setattr(making, "difference", lambda first, second: Difference(score=0.5))
    code, out, sentence = command(capfd, "export", f"{name}/1", "--format", "onnx", "--out", tmp_path / "out")
    assert code == 65
    assert sentence == f"The export of {name}/1 is refused: confidences differ by 0.5000 (0.01 at most)."
    (report,) = json.loads(out)["exports"]
    assert (report["accepted"], report["file"]) == (False, None)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("registry")
def test_what_can_not_be_exported_is_told_before_anything_is_loaded(
    registry: Registry,
    prepared: Prepared,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(registry, "timm", "classification", f"{name}-own", tmp_path)
    register_toy(prepared, name, 0)
    monkeypatch.setattr("visionloop.registry.loaded.loaded", pytest.fail)
    for words, part in (
        (
            (f"{name}-own/1", "--format", "tflite"),
            "--format: LiteRT's converter can't be installed beside this version of torch; convert the ONNX file",
        ),
        ((f"{name}-own/1", "--format", "tensorrt"), "build it there from the ONNX file (trtexec --onnx=…)."),
        ((f"{name}-own/1", "--format", "coreml"), "convert the TorchScript file where the model will run."),
        (
            (f"{name}-own/1", "--format", "onnx:int4"),
            "--format: onnx is not written in 'int4'; give one of fp32, fp16, int8.",
        ),
        (
            (f"{name}-own/1", "--format", "paddle"),
            "is not a format of exports; give one of onnx, onnx:fp16, onnx:int8,",
        ),
        ((f"{name}-own/1", "--format", "onnx:int8"), "no run registered it, so there are no labels by which onnx:int8"),
        ((f"{name}-own/1", "--format", "onnx", "--set", "trainer=timm"), "--set is for a checkpoint"),
        ((f"{name}/1", "--format", "onnx"), "the trainer toy does not write it; its models can't be exported"),
        ((f"{name}/9", "--format", "onnx"), f"there is {name}/1"),
    ):
        code, out, sentence = command(capfd, "export", *words)
        assert (code, out, part in sentence) == (78, "", True), sentence
    code, _, sentence = command(capfd, "export", f"{name}-own/1", "--format", "onnx", "--images", tmp_path / "none.png")
    assert (code, "there is no such file" in sentence) == (65, True)


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_installed(
    registry: Registry, name: str, mlflow_uri: str, tmp_path: Path
) -> None:
    register(registry, "ultralytics", "detection", name, tmp_path)
    pip = tmp_path / "bin/pip"
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\ntouch {tmp_path}/installed\nexit 1\n")
    pip.chmod(0o755)
    for other in ("pip3", "uv"):
        (pip.parent / other).symlink_to(pip)
    environment = {
        **os.environ,
        "PATH": f"{pip.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": mlflow_uri,
    }
    environment["PYTHONPATH"] = str(CLOSED_NETWORK)
    words = ["model", "export", f"{name}/1", "--format", "onnx", "--out", str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, "-c", "from visionloop.pipelines.cli import main; main()", *words],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert not (tmp_path / "installed").exists()


# The comparison


def rows(boxes: Any, scores: Any, further: Any = None) -> Rows:
    more = None if further is None else np.array(further, np.float32)
    return Rows(np.array(scores, np.float32), np.array(boxes, np.float32), more)


A, B = [0, 0, 10, 10], [40, 40, 60, 80]


def test_the_order_of_the_rows_counts_for_nothing() -> None:
    first = rows([A, B, B], [[0.9, 0], [0.4, 0], [0.1, 0.2]], [[1], [2], [3]])
    second = rows([B, B, A], [[0.1, 0.2], [0.4, 0], [0.9, 0]], [[3], [2], [1]])
    assert difference(first, second) == Difference(objects=12)


def test_what_differs_is_measured() -> None:
    first = rows([A, B], [[0.9], [0.5]], [[1], [2]])
    assert difference(first, rows([A], [[0.9]], [[1]])).overlap == 0
    assert difference(rows([A], [[0.9]], [[1]]), first).overlap == 0
    assert difference(first, rows([A, [40, 40, 60, 79]], [[0.9], [0.5]], [[1], [2]])).overlap == pytest.approx(0.975)
    assert difference(first, rows([A, B], [[0.9], [0.3]], [[1], [2]])).score == pytest.approx(0.2)
    assert difference(first, rows([A, B], [[0.9], [0.5]], [[1], [9]])).further == pytest.approx(7)
    assert difference(Rows(np.ones((1, 3))), Rows(np.ones((1, 3)) / 2)).score == 0.5
    assert difference(Rows(np.ones((1, 3))), Rows(np.ones((1, 2)))).score == np.inf


@pytest.mark.parametrize("wrong", [Difference(overlap=np.nan), Difference(score=np.nan), Difference(further=np.inf)])
def test_what_is_not_a_number_is_refused(wrong: Difference) -> None:
    assert making.refusal(wrong)
    assert not making.refusal(Difference(comparison.SAME + 0.09, 0.01, 0.5))
