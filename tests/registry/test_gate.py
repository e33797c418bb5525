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
    assert resolve_gate(None, METRIC, "max") == Gate(METRIC, "max", None, 0.0, "keep")
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
        ('{"epsilon": 2}', "epsilon is 2; give a number from 0 to 1: mAP50 goes from 0 to 1"),
        ('{"epsilon": Infinity}', "epsilon"),
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
floors = st.none() | st.just(0.0) | scores


@pytest.mark.parametrize(
    "text",
    [
        '{"floor": 50}',
        '{"floor": -0.1}',
        "{floor: .nan}",
        '{"floor": 2, "primary_metric": "mask_mAP50"}',
        '{"floor": -1, "primary_metric": "box_loss"}',
        '{"floor": 1e999, "primary_metric": "distance"}',
    ],
)
def test_a_floor_outside_the_metrics_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^--gate: floor is .*, which \S+ can't be; give .*\.$"):
        resolve_gate(text, METRIC, "max")


@pytest.mark.parametrize("text", ['{"floor": 0}', '{"floor": 1}', '{"floor": 7, "primary_metric": "box_loss"}'])
def test_a_floor_within_the_metrics_range_is_taken(text: str) -> None:
    assert resolve_gate(text, METRIC, "max").floor is not None


def test_a_metric_that_the_task_does_not_yield_is_refused() -> None:
    names = ("mAP50-95", "mAP50")
    with pytest.raises(InvalidConfig, match=r"primary_metric is accuracy_top1, .* one of mAP50-95, mAP50"):
        resolve_gate('{"primary_metric": "accuracy_top1"}', METRIC, "max", names)
    assert resolve_gate(None, METRIC, "max", names).primary_metric == METRIC


def test_a_floor_that_is_left_out_is_null_in_the_key() -> None:
    assert resolve_gate(None, METRIC, "max").content()["floor"] is None
    assert resolve_gate('{"floor": 0}', METRIC, "max").content()["floor"] == 0


def test_the_order_of_the_verdict() -> None:
    """Each rule against the ones behind it (docs/contract.md, "Gate")."""
    free, floored = resolve_gate(None, METRIC, "max"), resolve_gate('{"floor": 0.5}', METRIC, "max")
    reason = {METRIC: "the split has no object"}
    assert decide(floored, {}, {METRIC: 0.0}, own=True, not_measured=reason) == (
        "keep",
        f"{METRIC} is not measured: the split has no object.",
    )
    assert decide(floored, {METRIC: 0.0}, None, own=True)[0] == "reject"
    assert decide(free, {METRIC: 0.0}, None, own=True)[0] == "keep"
    assert decide(free, {METRIC: 0.0}, None)[0] == "keep"
    assert decide(resolve_gate('{"floor": 0}', METRIC, "max"), {METRIC: 0.0}, None)[0] == "promote"
    assert decide(free, {METRIC: 0.1}, {METRIC: 0.1}, own=True)[0] == "promote"
    assert decide(free, {METRIC: 0.9}, None, obstacle="other classes")[0] == "keep"
    assert decide(free, {METRIC: 0.5}, {METRIC: 0.5}) == ("keep", f"{METRIC} 0.5 equals the champion's 0.5.")
    assert decide(resolve_gate(None, "loss", "min"), {"loss": 0.0}, None)[0] == "promote"


@given(scores, scores, floors, st.just(0.0) | scores, st.sampled_from(["max", "min"]))
def test_the_verdict_follows_the_contract(
    value: float, theirs: float, floor: float | None, epsilon: float, mode: str
) -> None:
    gate = Gate(METRIC, "max" if mode == "max" else "min", floor, epsilon, "keep")
    verdict, reason = decide(gate, {METRIC: value}, {METRIC: theirs})
    alone, _ = decide(gate, {METRIC: value}, None)
    if floor is not None and ((value < floor) if mode == "max" else (value > floor)):
        assert verdict == alone == "reject"
    elif floor is None and value == 0 and mode == "max":
        assert verdict == alone == "keep"
    else:
        better = (value > theirs - epsilon) if mode == "max" else (value < theirs + epsilon)
        assert verdict == ("promote" if better else "keep")
        assert alone == "promote"
    assert reason.endswith(".")


@pytest.mark.parametrize(
    ("value", "epsilon", "words"),
    [
        (0.6, 0.0, "is better than the champion's 0.5"),
        (0.5, 0.0, "equals the champion's 0.5"),
        (0.4, 0.0, "is worse than the champion's 0.5"),
        (0.5, 0.2, "equals the champion's 0.5, and epsilon is 0.2"),
        (0.4, 0.2, "is worse than the champion's 0.5 by less than 0.2"),
        (0.2, 0.2, "is worse than the champion's 0.5 by 0.2 or more"),
    ],
)
def test_the_reason_says_how_the_two_compare(value: float, epsilon: float, words: str) -> None:
    assert decide(Gate(METRIC, "max", None, epsilon, "keep"), {METRIC: value}, {METRIC: 0.5})[1].endswith(f"{words}.")


@pytest.mark.parametrize("rule", ["keep", "promote"])
def test_a_champion_that_could_not_be_measured(rule: str) -> None:
    gate = resolve_gate(f'{{"incomparable": "{rule}", "floor": 0.5}}', METRIC, "max")
    assert decide(gate, {METRIC: 0.6}, None, obstacle="its checkpoint is gone")[0] == rule
    assert decide(gate, {METRIC: 0.6}, {"other": 1.0})[0] == rule
    assert decide(gate, {METRIC: 0.4}, None, obstacle="its checkpoint is gone")[0] == "reject"


@pytest.mark.parametrize("text", ["{floor: 2026-13-45}", '{"floor": ' + "[" * 100_000])
def test_a_text_that_no_reader_takes_is_refused_in_one_sentence(text: str):
    with pytest.raises(InvalidConfig, match=r"^--gate: neither JSON nor YAML \(.+\); write the fields as in .*\.$"):
        resolve_gate(text, "mAP50", "max")
