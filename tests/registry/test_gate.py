"""The gate's file and its decision."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.components.evaluate.gate import Gate, decide, resolve_gate
from visionloop.core.errors import InvalidConfig

METRIC = "mAP50"


def test_the_defaults() -> None:
    assert resolve_gate(None, METRIC, "max") == Gate(METRIC, "max", 0.0, 0.0, "keep")
    assert resolve_gate(None, "val_loss", "min") == Gate("val_loss", "min", None, 0.0, "keep")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("gate.json", '{"floor": 0.5, "epsilon": 1e-3}'),
        ("gate.yaml", "floor: 0.5\nepsilon: 1e-3\n"),
        ("gate.yaml", "# comment\nfloor: 0.5\nepsilon: 0.001\nprimary_metric: mAP50\n"),
    ],
)
def test_files_of_both_kinds(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / file
    path.write_text(text)
    expected = Gate(METRIC, "max", 0.5, 0.001, "keep")
    assert resolve_gate(str(path), METRIC, "max") == expected
    assert resolve_gate(path.as_uri(), METRIC, "max") == expected
    assert resolve_gate('{"floor": 0.5, "epsilon": 0.001}', METRIC, "max") == expected


def test_an_empty_file_is_the_default_gate(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("# nothing yet\n")
    assert resolve_gate(str(tmp_path / "gate.yaml"), METRIC, "max") == resolve_gate(None, METRIC, "max")


def test_another_metric_brings_its_own_mode() -> None:
    assert resolve_gate('{"primary_metric": "val_loss"}', METRIC, "max").primary_metric_mode == "min"
    assert resolve_gate('{"primary_metric": "mAP50-95"}', "val_loss", "min").primary_metric_mode == "max"
    assert resolve_gate('{"primary_metric_mode": "min"}', METRIC, "max").primary_metric_mode == "min"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"flor": 0.5}', "flor"),
        ('{"floor": "high"}', "floor"),
        ('{"epsilon": -0.1}', "epsilon"),
        ('{"primary_metric_mode": "best"}', "primary_metric_mode"),
        ('{"incomparable": "reject"}', "incomparable"),
        ("{", "JSON"),
    ],
)
def test_a_wrong_field_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidConfig, match=f"--gate.*{named}"):
        resolve_gate(text, METRIC, "max")


def test_a_list_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("- floor\n")
    (tmp_path / "gate.bin").write_bytes(b"\xff\xfe\x00")
    for path in ("gate.yaml", "gate.bin", "none.yaml", "."):
        with pytest.raises(InvalidConfig, match="--gate"):
            resolve_gate(str(tmp_path / path), METRIC, "max")


scores = st.floats(0, 1)


@given(scores, scores, st.floats(0, 1), st.floats(0, 1), st.sampled_from(["max", "min"]))
def test_the_verdict_follows_the_contract(value: float, theirs: float, floor: float, epsilon: float, mode: str) -> None:
    gate = Gate(METRIC, "max" if mode == "max" else "min", floor, epsilon, "keep")
    verdict, reason = decide(gate, {METRIC: value}, {METRIC: theirs})
    if (value < floor) if mode == "max" else (value > floor):
        assert verdict == "reject"
    elif (value >= theirs - epsilon) if mode == "max" else (value <= theirs + epsilon):
        assert verdict == "promote"
    else:
        assert verdict == "keep"
    assert reason.endswith(".")
    alone, _ = decide(gate, {METRIC: value}, None)
    assert alone == ("reject" if verdict == "reject" else "promote")


@pytest.mark.parametrize("rule", ["keep", "promote"])
def test_a_champion_that_could_not_be_measured(rule: str) -> None:
    gate = resolve_gate(f'{{"incomparable": "{rule}", "floor": 0.5}}', METRIC, "max")
    assert decide(gate, {METRIC: 0.6}, None, "its checkpoint is gone")[0] == rule
    assert decide(gate, {METRIC: 0.6}, {"other": 1.0})[0] == rule
    assert decide(gate, {METRIC: 0.4}, None, "its checkpoint is gone")[0] == "reject"


def test_a_missing_metric_names_those_that_there_are() -> None:
    with pytest.raises(InvalidConfig, match=r"primary_metric is mAP50, .* one of precision, recall"):
        decide(resolve_gate(None, METRIC, "max"), {"recall": 1.0, "precision": 1.0}, None)


@pytest.mark.parametrize("text", ["{floor: 2026-13-45}", '{"floor": ' + "[" * 100_000])
def test_a_text_that_no_reader_takes_is_refused_in_one_sentence(text: str):
    with pytest.raises(InvalidConfig, match=r"^--gate: neither JSON nor YAML; write the fields as in .*\.$"):
        resolve_gate(text, "mAP50", "max")
