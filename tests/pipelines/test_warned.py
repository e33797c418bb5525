"""Warnings are counted: in a stage's scalars, in the run's result, and in one line on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from small_datasets import BOX, dataset, stage

from visionloop.core.runs import WARNINGS, Run, StageState
from visionloop.core.storage import open_prefix
from visionloop.pipelines.completion import RunResult
from visionloop.pipelines.engines.laptop.display import Display
from visionloop.pipelines.following.record import Record
from visionloop.pipelines.following.rows import rows
from visionloop.pipelines.following.state import RemoteState, Step
from visionloop.pipelines.warned import warnings_text

COUNTS = {"class_absent": 2, "exif_orientation": 1}
LINE = "3 warnings: class_absent (2), exif_orientation (1); report: file:///report.html"


def test_the_line_counts_each_code_and_links_the_report():
    assert warnings_text(COUNTS, "file:///report.html") == LINE
    assert warnings_text({"area": 1}, None) == "1 warning: area (1)"
    assert warnings_text({}, "file:///report.html") == ""


def test_a_run_on_this_machine_shows_it_once_a_stage():
    display = Display(("validate",))
    display.console = Console(file=io.StringIO(), soft_wrap=True)
    event = {"kind": "stage", "stage": "validate", "state": "succeeded", "reused": True, "seconds": 1.0}
    for _ in range(2):
        display.event(event | {"warnings": COUNTS, "report": "file:///report.html"})
    assert isinstance(display.console.file, io.StringIO)
    assert display.console.file.getvalue().count(LINE) == 1


def test_the_runs_result_counts_them_by_stage_and_code(tmp_path: Path):
    stages = {
        "snapshot": StageState(stage="snapshot"),
        "validate": StageState(stage="validate", scalars={WARNINGS: COUNTS}),
        "convert": StageState(stage="convert", scalars={WARNINGS: {}}),
    }
    run = Run(run="one", trace_id="", arguments={}, created_at="")
    summary = RunResult(run, stages, 1.0, open_prefix(str(tmp_path), "results")).summary()
    assert summary["warnings"] == {"validate": COUNTS}


def test_validate_counts_its_warnings_and_a_followed_run_shows_them(tmp_path: Path):
    workspace = tmp_path / "workspace"
    snapshot = stage("snapshot", workspace, dataset=str(dataset(tmp_path / "set", "detection", [BOX, BOX])))
    report = stage("validate", workspace, snapshot=snapshot.uri)
    assert report.receipt.scalars[WARNINGS] == {"duplicate": 1}
    records = Record(str(workspace), "one").read(["validate"])
    (row,) = rows(RemoteState("succeeded", (Step("validate", "succeeded"),)), records, ("validate",))
    assert row.notices == (f"1 warning: duplicate (1); report: {report.report_uri()}",)
    assert str(report.report_uri()).endswith("/report.html")
