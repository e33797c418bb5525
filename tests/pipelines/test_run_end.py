"""How a run begins and ends for a person and for a program: the same facts as text and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from laptop import file_prefix

from visionloop.core.canonical import stage_key
from visionloop.core.receipts import Output, Receipt, digest_of, publish
from visionloop.core.runs import StageState
from visionloop.pipelines import engines
from visionloop.pipelines.cli.beginning import started, trainer_of
from visionloop.pipelines.cli.ending import lines, show_end
from visionloop.pipelines.completion import mlflow_address
from visionloop.pipelines.engines import Order
from visionloop.pipelines.reports import save_reports

STAGE = {"key": "k", "receipt": "r", "reused": False, "seconds": 1.0}

PROMOTED: dict[str, Any] = {
    "run": "run-1",
    "trace_id": "t",
    "model_name": "bottle-detector",
    "given_name": "Bottle Detector",
    "version": 3,
    "alias": "champion",
    "alias_reason": None,
    "verdict": "promote",
    "reason": "mAP50-95 0.6 reaches the floor.",
    "metrics": {"mAP50-95": 0.6, "mAP50": 0.8},
    "warnings": {"validate": {"class_absent": 2, "exif_orientation": 1}, "convert": {}},
    "reports": {"validate": "/home/reports/validate.html", "evaluate": "s3://results/evaluate/k/a/report.html"},
    "mlflow": "http://127.0.0.1:5000/#/experiments/1/runs/2",
    "seconds": 255.7,
    "timings": {"seconds": 200.0, "gpu_hours": 0.0, "download_seconds": 3.0, "epochs_seconds": 180.0},
    "stages": {"snapshot": STAGE, "train": {**STAGE, "reused": True}, "cleanup": STAGE},
}


def text(**changed: Any) -> list[str]:
    return [line.plain.rstrip() for line in lines({**PROMOTED, **changed})]


def test_a_run_ends_with_all_that_a_person_asks_next():
    assert text() == [
        "",
        "Model    bottle-detector, version 3, alias champion",
        "Verdict  promote: mAP50-95 0.6 reaches the floor.",
        "Metrics  mAP50 0.800, mAP50-95 0.600 on the test split",
        "Warnings 3: validate class_absent (2), exif_orientation (1)",
        "Report   /home/reports/validate.html",
        "Report   s3://results/evaluate/k/a/report.html",
        "Time     256 s, 1 of 2 stages reused",
        "MLflow   http://127.0.0.1:5000/#/experiments/1/runs/2",
    ]


def test_it_says_where_the_time_of_its_own_training_went():
    assert "Training in all 200.0 s; download 3.0 s; epochs 180.0 s" in text(stages={"train": STAGE})
    answers = {"latency_median_seconds": 0.0123, "latency_p95_seconds": 0.02}
    assert "Speed    one image 12.3 ms (95 % within 20.0 ms)" in text(stages={"train": STAGE}, timings=answers)
    assert not [line for line in text(stages={"train": STAGE}) if line.startswith("Speed")]
    assert not [line for line in text(stages={"train": {**STAGE, "reused": True}}) if line.startswith("Training")]
    assert not [line for line in text(stages={"train": STAGE}, timings={}) if line.startswith("Training")]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"verdict": "keep", "alias": "challenger"}, "Verdict  keep: mAP50-95 0.6 reaches the floor."),
        ({"verdict": "reject", "version": None, "alias": None}, "Model    bottle-detector, no new version"),
        ({"verdict": None, "version": None, "reason": "nothing is new"}, "Reason   nothing is new"),
        (
            {"alias_reason": "The champion moved."},
            "Model    bottle-detector, version 3, alias champion (The champion moved)",
        ),
        ({"warnings": {"validate": {}}}, "Warnings none"),
        ({"stages": {"train": {**STAGE, "reused": None}}}, "Time     256 s"),
        ({"exports": {"onnx": "accepted"}}, "Export   onnx accepted"),
        ({"exports": {"onnx": "refused: boxes differ."}}, "Export   onnx refused: boxes differ."),
    ],
)
def test_each_verdict_and_gap_has_its_line(changed: dict[str, Any], line: str):
    assert line in text(**changed)


def test_pages_are_links_where_a_terminal_knows_them():
    (page,) = [line for line in lines(PROMOTED) if line.plain.startswith("Report   /home")]
    assert [span.style for span in page.spans] == ["link file:///home/reports/validate.html"]


def test_a_pipe_gets_json_and_a_terminal_text_unless_the_option_says_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    show_end(PROMOTED, None)
    assert json.loads(capsys.readouterr().out) == PROMOTED
    show_end(PROMOTED, "text")
    assert "Model    bottle-detector" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_end(PROMOTED, None)
    assert "Model    bottle-detector" in capsys.readouterr().out
    show_end(PROMOTED, "json")
    assert json.loads(capsys.readouterr().out) == PROMOTED


def test_a_run_that_was_left_alone_ends_with_its_page(capsys: pytest.CaptureFixture[str]):
    show_end({"run": "u", "engine": "kfp", "name": "Digits 1", "page": "https://kfp/#/runs/details/u"}, "text")
    assert capsys.readouterr().out == "Run      Digits 1  kfp\nPage     https://kfp/#/runs/details/u\n"


def published(workspace: Path, stage: str, page: bytes) -> StageState:
    """A stage's state in a workspace with a receipt that has a page."""
    key = stage_key(stage, 1, {}, {})
    prefix = file_prefix(workspace).child(f"{stage}/{key}")
    sent = prefix.write("a/report.html", page)
    outputs = {"report": Output("a/report.html", sent.size, sent.sha256, True)}
    receipt = Receipt(
        stage=stage,
        logic_version=1,
        key=key,
        attempt="a",
        inputs={},
        parameters={},
        outputs=outputs,
        digest=digest_of(outputs),
        scalars={},
        metrics={},
        timings={},
        versions={},
        trace_id="t",
        tracking="not tracked",
    )
    return StageState(stage=stage, state="succeeded", receipt=publish(prefix, receipt, None).uri)


def test_the_pages_of_a_run_are_copied_with_links_to_each_other(tmp_path: Path):
    states = {
        stage: published(tmp_path / "my work", stage, b"<nav><a>gone</a></nav><p>kept</p>")
        for stage in ("validate", "evaluate")
    }
    pages = save_reports("run-1", states)
    assert Path(pages["validate"]).parent == Path(pages["evaluate"]).parent
    for stage, other in (("validate", "evaluate"), ("evaluate", "validate")):
        text = Path(pages[stage]).read_text()
        assert f'<nav><a href="{other}.html">' in text
        assert text.endswith("</a></nav><p>kept</p>")
        assert (Path(pages[stage]).parent / f"{other}.html").is_file()


def test_a_page_alone_links_nowhere(tmp_path: Path):
    (page,) = save_reports("run-1", {"validate": published(tmp_path / "w", "validate", b"<nav></nav>")}).values()
    assert Path(page).read_bytes() == b"<nav></nav>"


def test_a_page_that_cannot_be_copied_is_named_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path / "home"))
    state = published(tmp_path / "my work", "validate", b"<html></html>")
    (page,) = save_reports("run-1", {"validate": state}).values()
    assert Path(page).read_bytes() == b"<html></html>"
    assert Path(page).is_relative_to(tmp_path / "my work")


def test_a_run_without_a_page_or_receipt_ends_without_one(tmp_path: Path):
    gone = StageState(stage="validate", state="succeeded", receipt=(tmp_path / "gone" / "receipt.json").as_uri())
    assert save_reports("run-1", {"validate": gone, "evaluate": StageState(stage="evaluate")}) == {}


def test_the_address_of_mlflow_is_told_without_a_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@mlflow.example.com/base?token=x")
    assert mlflow_address() == "https://mlflow.example.com/base"


@pytest.mark.parametrize(
    ("engine", "changed", "words"),
    [
        (
            "local",
            {},
            "train bottle-detector: dataset s3://d/bottles, the dataset's own task, engine local (this machine), ",
        ),
        ("local", {}, "workspace s3://r/w, registry the embedded MLflow in "),
        ("argo", {"task": "detection"}, "task detection, engine argo, workspace s3://r/w, registry that of its pods"),
        ("kfp", {"dataset": None, "snapshot": "snap_0123456789ab"}, "bottle-detector: snapshot snap_0123456789ab, "),
    ],
)
def test_a_run_says_what_it_starts(monkeypatch: pytest.MonkeyPatch, engine: str, changed: dict[str, Any], words: str):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    arguments = {"dataset": "s3://d/bottles", "workspace": "s3://r/w", "model_name": "Bottle Detector", **changed}
    assert words in started(engines.engine(engine), Order("train", arguments))


@pytest.mark.parametrize(
    ("engine", "options", "arguments", "line"),
    [
        ("argo", {}, {}, "trainer ultralytics: the run's form names it where --set does not"),
        ("local", {"runner": "docker"}, {}, "trainer ultralytics: the run's form names it where --set does not"),
        ("kfp", {}, {"trainer": "timm"}, "trainer timm: named by --set"),
        ("local", {}, {"advanced_config": {"trainer": "ultralytics"}}, "trainer ultralytics: named by --set"),
        ("local", {}, {"task": "pose"}, "trainer ultralytics: the first of ultralytics"),
    ],
)
def test_a_run_says_which_trainer_it_takes(
    engine: str, options: dict[str, Any], arguments: dict[str, Any], line: str
) -> None:
    assert trainer_of(engines.engine(engine), Order("train", arguments, options)).startswith(line)
