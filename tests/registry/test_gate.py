"""The gate's file and its decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from visionloop.components.evaluate.conditions import examine
from visionloop.components.evaluate.gate import CONDITIONS, Gate, decide, resolve_gate
from visionloop.components.evaluate.interval import difference, with_difference
from visionloop.core.errors import InvalidConfig
from visionloop.training.trainers import Evaluation

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
        ('{"max_class_drop": -0.1}', "max_class_drop is -0.1; give a number from 0 to 1"),
        ('{"max_class_drop": 2}', "max_class_drop is 2; give a number from 0 to 1"),
        ('{"min_images": 0}', "min_images is 0; give a number from 1"),
        ('{"min_objects": 1.5}', "min_objects"),
        ('{"max_size_mb": 1e999}', "max_size_mb"),
        ('{"max_latency_ms": -1}', "max_latency_ms is -1; give a number from 0"),
        ('{"max_seen": 1.1}', "max_seen is 1.1; give a number from 0 to 1"),
        ('{"evidence": "sure"}', "evidence"),
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


def test_a_condition_is_in_the_key_only_where_it_is_given() -> None:
    assert not set(CONDITIONS) & set(resolve_gate(None, METRIC, "max").content())
    assert resolve_gate('{"min_images": 3, "evidence": "better"}', METRIC, "max").content()["min_images"] == 3


def measured(value: float, per_class: dict[str, float], images: int = 20, **more: Any) -> Evaluation:
    return Evaluation({METRIC: value}, {name: {METRIC: each} for name, each in per_class.items()}, images, **more)


def unmet(text: str, candidate: Evaluation, champion: Evaluation | None, **more: Any) -> tuple[str, ...]:
    objects, size = more.pop("objects", {"cat": 9, "dog": 4}), more.pop("size", 6_000_000)
    gate = resolve_gate(text, METRIC, more.pop("mode", "max"))
    return examine(gate, candidate, champion, objects, size, more.pop("milliseconds", 20.0)).unmet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"min_images": 20, "min_objects": 4, "max_size_mb": 6}', ()),
        ('{"min_images": 21}', ("20 images decide, fewer than 21 (min_images)",)),
        ('{"min_objects": 5}', ("dog has 4 true objects, fewer than 5 (min_objects)",)),
        ('{"max_latency_ms": 20}', ()),
        ('{"max_latency_ms": 19.5}', ("one image takes it more than 19.5 ms (max_latency_ms)",)),
        ('{"max_size_mb": 5.9}', ("its file has 6 MB, more than 5.9 (max_size_mb)",)),
        ('{"max_class_drop": 0.2}', ()),
        ('{"max_class_drop": 0.1}', ("dog has 0.5, and the champion 0.7: worse than max_class_drop 0.1 allows",)),
        ('{"min_images": 99, "min_objects": 99, "max_class_drop": 0}', None),
    ],
)
def test_conditions(text: str, expected: tuple[str, ...] | None) -> None:
    candidate, champion = measured(0.7, {"cat": 0.9, "dog": 0.5}), measured(0.6, {"cat": 0.5, "dog": 0.7})
    found = unmet(text, candidate, champion)
    if expected is None:
        assert len(found) == 3
        return
    assert found == expected
    verdict, reason = decide(resolve_gate(text, METRIC, "max"), candidate.metrics, champion.metrics, unmet=found)
    assert verdict == ("keep" if expected else "promote")
    assert all(clause in reason for clause in expected)


def test_a_class_that_is_not_measured_any_more_is_worse_and_one_that_never_was_is_not() -> None:
    candidate, champion = measured(0.7, {"cat": 0.9}), measured(0.6, {"cat": 0.9, "dog": 0.1})
    assert unmet('{"max_class_drop": 1}', candidate, champion) == (
        "dog is not measured: worse than max_class_drop 1 allows",
    )
    assert unmet('{"max_class_drop": 0}', champion, candidate) == ()
    bare = measured(0.7, {})
    assert "no class has mAP50" in unmet('{"max_class_drop": 0}', bare, bare)[0]


def test_without_a_comparable_champion_what_compares_is_passed_over() -> None:
    assert unmet('{"max_class_drop": 0, "evidence": "better"}', measured(0.7, {"cat": 0.1}), None) == ()


def test_less_is_better_for_a_class_of_a_loss() -> None:
    gate = resolve_gate('{"primary_metric": "box_loss", "max_class_drop": 0.1}', METRIC, "max")
    worse, better = (Evaluation({"box_loss": v}, {"cat": {"box_loss": v}}, 5) for v in (0.5, 0.3))
    assert examine(gate, worse, better, {}, 0, 0).unmet == (
        "cat has 0.5, and the champion 0.3: worse than max_class_drop 0.1 allows",
    )
    assert examine(gate, better, worse, {}, 0, 0).unmet == ()


def sampled(by_image: ArrayLike, files: Sequence[str] | None = None) -> Evaluation:
    """Of each image a share; the metric is their mean."""
    shares = np.asarray(by_image, float)

    def resampled(name: str, weights: Any) -> float:
        return float(shares @ weights / weights.sum())

    names = [f"images/test/{number:03}.png" for number in range(len(shares))] if files is None else files
    return measured(float(shares.mean()), {}, len(shares), resampled=resampled, files=names)


NOISE = np.random.default_rng(1).random(200)


@pytest.mark.parametrize(
    ("gain", "noise", "evidence", "verdict"),
    [
        (0.05, 0.0, "better", "promote"),
        (0.01, 0.6, "point", "promote"),
        (0.01, 0.6, "better", "keep"),  # noise alone
        (0.01, 0.6, "not_worse", "keep"),  # epsilon 0
        (-0.05, 0.0, "better", "keep"),
    ],
)
def test_noise_alone_is_no_evidence(gain: float, noise: float, evidence: str, verdict: str) -> None:
    difficulty = np.linspace(0, 0.3, 200)  # the same for both models
    change = noise * (NOISE - NOISE.mean())
    candidate, champion = sampled(0.5 + difficulty + gain + change), sampled(0.5 + difficulty)
    gate = resolve_gate(f'{{"evidence": "{evidence}"}}', METRIC, "max")
    outcome = examine(gate, candidate, champion, {}, 0, 0)
    found, reason = decide(gate, candidate.metrics, champion.metrics, unmet=outcome.unmet)
    assert found == verdict, reason
    assert (outcome.difference is None) == (evidence == "point")
    if outcome.difference is not None:
        low, high = outcome.difference
        assert low <= gain + 1e-9
        assert high >= gain - 1e-9
        assert "the difference lies between" in with_difference(reason, outcome.difference)


def test_samples_that_are_no_number_are_no_evidence() -> None:
    candidate, champion = sampled(0.9 + 0 * NOISE), sampled(0.1 + 0 * NOISE)
    broken = replace(candidate, resampled=lambda name, weights: float("nan"))
    assert "measure no samples of mAP50" in unmet('{"evidence": "better"}', broken, champion)[0]


def test_not_worse_allows_what_epsilon_does() -> None:
    candidate, champion = sampled(0.5 + 0.1 * NOISE - 0.01), sampled(0.5 + 0.1 * NOISE)
    assert unmet('{"evidence": "not_worse", "epsilon": 0.02}', candidate, champion) == ()
    assert "worse by epsilon" in unmet('{"evidence": "not_worse", "epsilon": 0.005}', candidate, champion)[0]


def test_images_are_paired_by_their_files() -> None:
    files = [f"{number}.png" for number in range(50)]
    values = np.linspace(0, 1, 50)
    same = difference(sampled(values, files), sampled(values[::-1], files[::-1]), METRIC)
    assert same == pytest.approx((0, 0))
    assert difference(sampled(values, files), sampled(values, [*files[:-1], "x.png"]), METRIC) is None
    assert difference(sampled(values, []), sampled(values, files), METRIC) is None
    assert (
        "measure no samples of mAP50" in unmet('{"evidence": "better"}', sampled(values, []), sampled(values, files))[0]
    )


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
