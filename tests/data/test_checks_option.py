"""``--checks``: severities and thresholds by code, and what of it is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from visionloop.components.validate.options import resolve_checks, training_size
from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.codes import CODES, DEFAULTS, Checks
from visionloop.data.annotations.findings import Finding

PACKAGE = Path(__file__).resolve().parents[2] / "visionloop"


def test_every_code_that_the_source_names_is_in_the_table() -> None:
    named = set()
    for path in (PACKAGE / "data").rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r'"(?:error|warning)",\s*"([a-z_]+)"', text))
    assert named - set(CODES) - {"error", "warning"} == set()
    assert len(named) > 30


def finding(code: str, severity: str = "warning") -> Finding:
    return Finding("error" if severity == "error" else "warning", code, None, "images[]", "…")


def test_a_severity_is_a_word_or_a_field() -> None:
    checks = resolve_checks(
        '{"same_bytes": "warning", "area": "off", "close_boxes": {"severity": "error", "threshold": 0.8}}'
    )
    assert checks == Checks({"same_bytes": "warning", "area": "off", "close_boxes": "error"}, {"close_boxes": 0.8})
    applied = checks.applied(
        [finding("same_bytes", "error"), finding("area"), finding("close_boxes"), finding("statistics")]
    )
    assert [(entry.code, entry.severity) for entry in applied] == [
        ("same_bytes", "warning"),
        ("close_boxes", "error"),
        ("statistics", "warning"),
    ]
    assert checks.content() == {
        "area": {"severity": "off"},
        "close_boxes": {"severity": "error", "threshold": 0.8},
        "same_bytes": {"severity": "warning"},
    }


def test_yaml_whose_off_is_false_and_a_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text("area: off\nnear_duplicate: {threshold: 2}\n")
    assert resolve_checks(str(path)) == Checks({"area": "off"}, {"near_duplicate": 2})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"same_bytes": "off", "same_bytes": "error"}', '"same_bytes" is written twice'),
        ('{"drift": {"threshold": 0.1,\t"threshold": 0.9}}', '"threshold" is written twice'),
        ("same_bytes: off\nsame_bytes: error", 'line 2: "same_bytes" is written twice'),
        ("drift: {threshold: &a [1, 2]}\nclose_boxes: {threshold: *a}", "line 2: an alias (*a) stands there"),
    ],
)
def test_a_key_twice_and_an_alias_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        resolve_checks(text)
    assert reason in refused.value.sentence


def test_what_is_the_default_is_not_in_the_key() -> None:
    assert resolve_checks(None) == resolve_checks("{}") == DEFAULTS
    spelled = {
        code: {"severity": entry.severities[0]} | ({"threshold": entry.threshold.default} if entry.threshold else {})
        for code, entry in CODES.items()
        if len(entry.severities) == 1
    }
    assert resolve_checks(json.dumps(spelled)).content() == {}
    assert resolve_checks('{"near_duplicate": {"threshold": 4.0}}').content() == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"same_byte": "off"}', "same_byte is not a code of a finding; the nearest one is same_bytes."),
        ('{"same_bytes": "fatal"}', 'the severity of same_bytes is "fatal"; give one of off, warning, error.'),
        ('{"same_bytes": true}', "the severity of same_bytes is True; give one of off, warning, error."),
        ('{"same_bytes": {"level": "off"}}', "same_bytes.level does not exist; the fields are severity, threshold."),
        ('{"same_bytes": {"threshold": 1}}', "same_bytes has no threshold; give it a severity alone."),
        ('{"close_boxes": {"threshold": "0.9"}}', 'the threshold of close_boxes is "0.9"; give a number from 0.5 to 1'),
        ('{"close_boxes": {"threshold": true}}', "the threshold of close_boxes is True; give a number from 0.5 to 1"),
        ('{"close_boxes": {"threshold": [0.9]}}', "the threshold of close_boxes is [0.9]; give a number from 0.5 to 1"),
        ('{"close_boxes": {"threshold": 1.5}}', "the threshold of close_boxes is 1.5; give a number from 0.5 to 1"),
        ('{"close_boxes": {"threshold": NaN}}', "the threshold of close_boxes is nan; give a number from 0.5 to 1"),
        ('{"near_duplicate": {"threshold": 2.5}}', "near_duplicate is 2.5; give a whole number from 0 to 7"),
        ('{"missing_image": "off"}', 'missing_image can\'t be "off", because there is nothing to train on'),
        ('{"no_labels": {"severity": "warning"}}', 'no_labels can\'t be "warning", because there is nothing to learn'),
        ("[1]", "no text file can be read there"),
        ("checks:", "checks is not a code of a finding; the nearest one is"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        resolve_checks(text)
    assert sentence in refused.value.sentence
    assert refused.value.sentence.startswith("--checks")
    assert "\n" not in refused.value.sentence


def test_a_file_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checks.json").write_text("[1]")
    with pytest.raises(InvalidConfig, match="not an object"):
        resolve_checks(str(tmp_path / "checks.json"))


def test_the_training_size_is_that_of_the_settings() -> None:
    assert training_size(None) == training_size("{}") == 640
    assert training_size('{"imgsz": "1280"}') == training_size('{"imgsz": 1280.0}') == 1280
    for wrong in ('{"imgsz": "large"}', '{"imgsz": 0}', '{"imgsz": 12.5}'):
        with pytest.raises(InvalidConfig, match="imgsz is"):
            training_size(wrong)
