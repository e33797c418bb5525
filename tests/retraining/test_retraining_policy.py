"""The retraining policy: how its file is read, and what follows from the figures."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.components.snapshot.retraining.policy import (
    ALWAYS,
    Comparison,
    Decision,
    RetrainingPolicy,
    Usage,
    decide,
    parse_policy,
)
from visionloop.core.errors import InvalidConfig
from visionloop.core.storage import open_prefix

FIELDS = RetrainingPolicy.__struct_fields__
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "min_new_images": st.integers(1, 10**6),
    "drift_above": st.floats(0, 1),
    "champion_older_than_days": st.floats(0, 10_000),
    "max_runs_per_week": st.integers(0, 100),
    "max_gpu_hours_per_month": st.floats(0, 10_000),
}
CONTENT = st.fixed_dictionaries({}, optional=MEMBERS)
POLICIES = CONTENT.map(lambda content: RetrainingPolicy(**content))
COMPARISONS = st.builds(
    Comparison,
    snapshot=st.just("snap_0123456789ab"),
    unchanged=st.booleans(),
    new_images=st.integers(0, 10**6),
    drift=st.floats(0, 1),
    champion_age=st.floats(0, 10_000),
)
USAGES = st.builds(Usage, runs=st.integers(0, 100), gpu_hours=st.floats(0, 10_000))


def changed(**figures: Any) -> Comparison:
    """A changed dataset with figures that give no reason but those named."""
    unchanged = Comparison(snapshot="snap_1", unchanged=False, new_images=0, drift=0.0, champion_age=0.0)
    return replace(unchanged, **figures)


# --- the file ---


@given(CONTENT)
def test_json_and_yaml_are_read_alike(content: Mapping[str, Any]) -> None:
    wanted = RetrainingPolicy(**content)
    assert parse_policy(json.dumps(content)) == wanted
    assert parse_policy(json.dumps(content, indent=2)) == wanted
    if content:
        assert parse_policy(yaml.safe_dump(dict(content))) == wanted


def test_a_file_and_a_uri_are_read(tmp_path: Path, s3_workspace: str) -> None:
    wanted = RetrainingPolicy(min_new_images=50, max_runs_per_week=2)
    file = tmp_path / "retraining.yaml"
    file.write_text("# nightly\nmin_new_images: 50\nmax_runs_per_week: 2\n")
    assert parse_policy(str(file)) == parse_policy(file.as_uri()) == wanted
    open_prefix(s3_workspace, "results").write("retraining.json", b'{"min_new_images": 50, "max_runs_per_week": 2}')
    assert parse_policy(f"{s3_workspace}/retraining.json") == wanted
    file.write_text("# nothing yet\n")
    assert parse_policy(str(file)) == RetrainingPolicy()


@given(st.text(st.characters(categories=["Ll"]), min_size=1).filter(lambda name: name not in FIELDS), st.integers())
def test_an_unknown_field_is_refused_and_the_known_ones_are_named(name: str, value: int) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_policy(json.dumps({name: value}))
    assert name in caught.value.sentence
    assert all(field in caught.value.sentence for field in FIELDS)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"min_new_images": 0}', "min_new_images"),
        ('{"min_new_images": 1.5}', "min_new_images"),
        ('{"min_new_images": "many"}', "min_new_images"),
        ('{"drift_above": 1.01}', "drift_above"),
        ("drift_above: -0.1", "drift_above"),
        ('{"champion_older_than_days": -1}', "champion_older_than_days"),
        ('{"max_runs_per_week": -1}', "max_runs_per_week"),
        ('{"max_gpu_hours_per_month": "-2"}', "max_gpu_hours_per_month"),
        ('{"max_gpu_hours_per_month": NaN}', "max_gpu_hours_per_month"),
        ('{"max_gpu_hours_per_month": Infinity}', "max_gpu_hours_per_month"),
        ("champion_older_than_days: .nan", "champion_older_than_days"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_field(text: str, field: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"^--retraining: .*{field}.*; the fields are .*\.$"):
        parse_policy(text)


@pytest.mark.parametrize("text", ["{", "min_new_images: [", "{min_new_images: 50"])
def test_what_is_neither_json_nor_yaml_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidConfig, match=r"^--retraining: neither JSON nor YAML \(.+\); write the fields as in .*\.$"
    ):
        parse_policy(text)


@pytest.mark.parametrize("content", [b"[50]", b"50", b'"fifty"'])
def test_a_file_with_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "retraining.json"
    file.write_bytes(content)
    with pytest.raises(InvalidConfig, match=rf"^--retraining {file}: Expected `object`"):
        parse_policy(str(file))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone.yaml"
    with pytest.raises(InvalidConfig, match=rf"^--retraining {gone}: no text file can be read there; "):
        parse_policy(str(gone))
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InvalidConfig, match="no text file can be read there"):
        parse_policy(str(tmp_path / "image.png"))


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("{}[]:, -.01e\n\"'&*!abc"))
@example("min_new_images: 2001-13-40}")
@example('"' * 3 + "\\ud800")
def test_any_text_is_a_policy_or_a_sentence(text: str) -> None:
    with contextlib.suppress(InvalidConfig):
        assert isinstance(parse_policy("{" + text), RetrainingPolicy)


# --- the decision ---


@pytest.mark.parametrize(
    ("policy", "comparison", "usage", "reason"),
    [
        ({"min_new_images": 50}, changed(new_images=12), Usage(), "skipped: 12 new images, 50 needed"),
        ({"min_new_images": 50}, changed(new_images=1), Usage(), "skipped: 1 new image, 50 needed"),
        ({"min_new_images": 50}, changed(new_images=50), Usage(), "retraining: 50 new images, 50 needed"),
        ({"drift_above": 0.1}, changed(drift=0.1), Usage(), "skipped: drift 0.1, more than 0.1 needed"),
        ({"drift_above": 0.1}, changed(drift=0.2), Usage(), "retraining: drift 0.2, more than 0.1 needed"),
        (
            {"min_new_images": 50, "champion_older_than_days": 30},
            changed(new_images=3, champion_age=7.25),
            Usage(),
            "skipped: 3 new images, 50 needed; champion 7.25 days old, more than 30 needed",
        ),
        (
            {"min_new_images": 50, "champion_older_than_days": 30},
            changed(new_images=3, champion_age=31),
            Usage(),
            "retraining: champion 31 days old, more than 30 needed",
        ),
        ({}, changed(), Usage(runs=9), "retraining: the dataset is no longer the champion's snap_1"),
        ({}, changed(unchanged=True), Usage(), "skipped: the dataset is still the champion's snap_1"),
        ({"max_runs_per_week": 2}, changed(), Usage(runs=2), "skipped: 2 runs in 7 days, 2 allowed"),
        ({"max_runs_per_week": 1}, changed(), Usage(runs=1), "skipped: 1 run in 7 days, 1 allowed"),
        (
            {"max_gpu_hours_per_month": 20},
            changed(),
            Usage(gpu_hours=20.375),
            "skipped: 20.38 GPU hours this month, 20 allowed",
        ),
        ({"min_new_images": 50}, "digits has no champion", Usage(), "retraining: digits has no champion"),
        (
            {"max_runs_per_week": 1},
            "digits has no champion",
            Usage(runs=3),
            "skipped: 3 runs in 7 days, 1 allowed",
        ),
    ],
)
def test_the_reason_is_a_sentence_with_the_figures(
    policy: dict[str, Any], comparison: Comparison | str, usage: Usage, reason: str
) -> None:
    decision = decide(RetrainingPolicy(**policy), comparison, usage)
    assert decision == Decision(reason.startswith("retraining"), reason)


@given(POLICIES, COMPARISONS, USAGES)
def test_a_run_goes_on_for_one_reason_within_all_limits(
    policy: RetrainingPolicy, comparison: Comparison, usage: Usage
) -> None:
    reasons = [
        policy.min_new_images is not None and comparison.new_images >= policy.min_new_images,
        policy.drift_above is not None and comparison.drift > policy.drift_above,
        policy.champion_older_than_days is not None and comparison.champion_age > policy.champion_older_than_days,
        (policy.min_new_images, policy.drift_above, policy.champion_older_than_days) == (None, None, None),
    ]
    runs = math.inf if policy.max_runs_per_week is None else policy.max_runs_per_week
    hours = math.inf if policy.max_gpu_hours_per_month is None else policy.max_gpu_hours_per_month
    wanted = not comparison.unchanged and any(reasons) and usage.runs < runs and usage.gpu_hours < hours
    decision = decide(policy, comparison, usage)
    assert decision.go == wanted
    assert decision.reason.startswith("retraining: " if wanted else "skipped: ")
    assert decision.scalars() == {"go": "true" if wanted else "false", "reason": decision.reason}


@given(POLICIES, COMPARISONS, USAGES)
def test_a_skipped_run_names_the_figure_and_what_was_asked(
    policy: RetrainingPolicy, comparison: Comparison, usage: Usage
) -> None:
    decision = decide(policy, comparison, usage)
    if not decision.go and not comparison.unchanged:
        reasons = decision.reason.removeprefix("skipped: ").split("; ")
        assert all(re.search(r"\d.*, .*\d.* (needed|allowed)$", entry) for entry in reasons), decision.reason


@given(POLICIES, USAGES)
def test_without_a_champion_only_the_limits_hold(policy: RetrainingPolicy, usage: Usage) -> None:
    unlimited = RetrainingPolicy(policy.min_new_images, policy.drift_above, policy.champion_older_than_days)
    assert decide(unlimited, "digits has no champion", usage) == Decision(True, "retraining: digits has no champion")
    assert decide(policy, "digits has no champion", Usage()).go == (
        policy.max_runs_per_week != 0 and policy.max_gpu_hours_per_month != 0
    )


@given(POLICIES, COMPARISONS, USAGES, USAGES)
def test_more_usage_never_starts_a_run(
    policy: RetrainingPolicy, comparison: Comparison, usage: Usage, more: Usage
) -> None:
    later = Usage(usage.runs + more.runs, usage.gpu_hours + more.gpu_hours)
    assert decide(policy, comparison, usage).go >= decide(policy, comparison, later).go


def test_without_a_policy_every_run_goes_on() -> None:
    assert ALWAYS.scalars() == {"go": "true", "reason": "no retraining policy"}
