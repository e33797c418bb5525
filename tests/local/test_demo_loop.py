"""``visionloop demo-loop``: each changed dataset ends as it is told, and what ends otherwise is not passed over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from visionloop.core.errors import Defect, InvalidConfig
from visionloop.pipelines.cli import demo_loop
from visionloop.pipelines.cli.demo_loop import CASES, FIRST, Case

KEPT, REFUSED, BETTER = CASES


def ends(monkeypatch: pytest.MonkeyPatch, code: int, summary: dict[str, Any], said: str = "") -> list[list[str]]:
    """Has each command end so; returns the commands."""
    commands: list[list[str]] = []

    def run(words: list[str], codes: tuple[int, ...] = (0,)) -> tuple[int, str, str]:
        commands.append(words)
        assert code in codes
        return code, json.dumps(summary), said

    monkeypatch.setattr(demo_loop, "_run", run)
    return commands


def test_a_case_starts_from_the_champions_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = f"mAP50-95 0.6 {BETTER.said} 0.5."
    commands = ends(monkeypatch, 0, {"verdict": "promote", "reason": reason, "version": 3, "alias": "champion"})
    row = demo_loop._retrained(BETTER)
    assert row == {"case": "more", "verdict": "promote", "reason": reason, "version": 3, "alias": "champion"}
    (words,) = commands
    assert words[:4] == ["run", "train", "--dataset", BETTER.dataset]
    assert f"model=models:/{FIRST}" in words
    assert json.loads(words[words.index("--gate") + 1])["max_class_drop"] == 0.2


def test_refused_data_end_with_their_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, 65, {}, f"train/000001.png: bbox {REFUSED.said} of 160 × 160; draw the box again.")
    row = demo_loop._retrained(REFUSED)
    assert (row["verdict"], row["version"]) == (None, None)
    assert REFUSED.said in row["reason"]


@pytest.mark.parametrize(
    ("case", "code", "verdict", "reason"),
    [
        (KEPT, 0, "promote", "it is better"),
        (KEPT, 0, "keep", "for another reason"),
        (KEPT, 65, None, "the data are refused"),
        (REFUSED, 0, "promote", "it is better"),
        (REFUSED, 65, None, "for another reason"),
        (BETTER, 0, "keep", BETTER.said),
    ],
)
def test_another_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, case: Case, code: int, verdict: str | None, reason: str
) -> None:
    ends(monkeypatch, code, {"verdict": verdict, "reason": reason}, reason)
    with pytest.raises(Defect, match=f"demo-loop: {case.name} ended with {verdict or 'refused'}"):
        demo_loop._retrained(case)


def test_a_command_is_shown_and_its_error_is_the_demos(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="visionloop")
    code, printed, _ = demo_loop._run(["trainer", "list", "--output", "json"])
    assert code == 0
    assert "ultralytics" in printed
    with pytest.raises(InvalidConfig, match="--gate"):
        demo_loop._run(["plan", "train", "--dataset", "a", "--workspace", "b", "--model-name", "m", "--gate", "{"])
    assert caplog.messages[0] == "$ visionloop trainer list --output json"
    assert "--gate" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.matrix
@pytest.mark.timeout(3000)
def test_the_loop_from_nothing_and_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path / "home"))
    words = [str(Path(sys.executable).with_name("visionloop")), "demo-loop", "--output", "json"]
    champions = []
    for _ in range(2):
        ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
        rows = json.loads(ended.stdout)
        assert [row["verdict"] for row in rows["cases"]] == [case.verdict for case in CASES]
        champions.append(rows["champion"])
    assert champions == [FIRST, FIRST]
    assert " epoch " not in ended.stderr
    assert len(list((tmp_path / "home/exports").iterdir())) == 1
