"""A run that exports what it registers, with a real trainer: the file beside the version, and what a second run reuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from laptop import TINY, Ended, Trained

pytestmark = pytest.mark.matrix


def actions(ended: Ended) -> dict[str, str]:
    """What a plan says of each stage."""
    return {entry["stage"]: entry["action"] for entry in ended.summary["stages"]}


def test_a_run_exports_what_it_registers_and_does_it_once(trained: Trained) -> None:
    laptop, before = trained.laptop, trained.summary["stages"]
    reused = {stage: "reuse" for stage in before if stage not in ("register", "cleanup")}
    words = laptop.train_command(trained.dataset.uri, "--export", "onnx", settings=TINY)
    plan = ["plan", *words[1:]]
    assert actions(laptop.run(*plan).expect()) == {**reused, "export": "run", "register": "follows"}
    first = laptop.run(*words).expect().summary
    assert [stage for stage, entry in first["stages"].items() if not entry["reused"]] == [
        "export",
        "register",
        "cleanup",
    ]
    assert first["exports"] == {"onnx:fp32": "accepted"}
    assert (first["version"], first["alias"]) == (trained.summary["version"], "champion")
    (result,) = json.loads(laptop.result("export", first["stages"]["export"]["key"]).read("exports"))
    assert result["result"]["accepted"], result
    assert result["result"]["pictures"] > 0
    registered = laptop.receipt("register", first["stages"]["register"]["key"])
    assert list(registered.inputs) == ["evaluation", "exports"]
    folder = f"models/tiny-digits/{first['version']}/exports/onnx-fp32"
    assert sorted(Path(info.key).name for info in laptop.workspace.objects(folder)) == ["export.json", "model.onnx"]

    assert actions(laptop.run(*plan).expect()) == {**reused, "export": "reuse", "register": "reuse"}
    second = laptop.run(*words).expect().summary
    assert second["exports"] == first["exports"]
    assert {stage for stage, entry in second["stages"].items() if not entry["reused"]} == {"cleanup"}
    # Without it nothing has changed.
    plain = laptop.train(trained.dataset.uri, settings=TINY).expect().summary
    assert {stage: entry["key"] for stage, entry in plain["stages"].items()} == {
        stage: entry["key"] for stage, entry in before.items()
    }
    assert "export" not in plain["stages"]
    assert "exports" not in plain


def test_a_wrong_format_is_told_before_anything_starts(trained: Trained) -> None:
    words = trained.laptop.train_command(trained.dataset.uri, "--export", "onnx,tflite", settings=TINY)
    sentence = trained.laptop.run(*words).refused(78)
    assert sentence.startswith("--export onnx,tflite: 'tflite' is not a format that a run writes; give some of onnx")
    sentence = trained.laptop.train(trained.dataset.uri, "--export", "onnx").refused(78)
    assert sentence == "--export onnx: the trainer toy does not write it; its models can't be exported."
