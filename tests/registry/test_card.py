"""The model card: what it tells, where it stands, and that no name of somebody's becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_detector import Prepared, published

from visionloop.components.evaluate.operating import AtPoint, OperatingPoint, default_point
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.register.card import CLASSES, Card, escape, render
from visionloop.core.receipts import Parameter, Receipt, Result
from visionloop.core.storage import open_prefix
from visionloop.registry import Registry

RESULT = EvaluationResult(
    training="d" * 64,
    snapshot="e" * 64,
    champion="none",
    split="test",
    images=80,
    metrics={"box_loss": 0.5, "mAP50": 0.75, "mAP50-95": 0.5},
    per_class={},
    verdict="promote",
    reason="mAP50 0.75 reaches the floor, and there is no champion yet.",
    gate={"primary_metric": "mAP50"},
)


def result_of(stage: str, **more: object) -> Result:
    values = {"stage": stage, "logic_version": 1, "key": "k" * 64, "attempt": "a" * 12, "inputs": {}, "outputs": {}}
    values |= {"parameters": {}, "digest": "d" * 64, "trace_id": "trace", "tracking": "not tracked"}
    values |= {"scalars": {}, "metrics": {}, "timings": {}, "versions": {}, **more}
    prefix = open_prefix(f"file:///workspace/{stage}", "results")
    return Result(Receipt(**values), f"{prefix.uri}/receipt.json", prefix)  # type: ignore[arg-type]


CARD = Card(
    name="digits",
    original_name="Digits",
    task="detection",
    classes=("zero", "one"),
    result=RESULT,
    evaluation=result_of("evaluate"),
    training=result_of(
        "train",
        parameters={
            "seed": Parameter(0, "default"),
            "epochs": Parameter(14, "EPOCHS"),
            "mosaic": Parameter(0.0, "argument"),
            "fliplr": Parameter(0.5, "default"),
        },
        tracking={"mlflow": {"run_id": "r1", "url": "http://mlflow/r1"}},
    ),
    snapshot_id="snap_0123456789ab",
    dataset_hash="f" * 64,
    dataset="s3://datasets/digits",
    point=default_point(["zero", "one"]),
)


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each table's row by its first one."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines}


def test_it_tells_what_the_model_is() -> None:
    text = render(replace(CARD, version=3, alias="champion", storage="s3://models/digits/3"))
    assert text.startswith("# Digits, version 3\n\nVerdict **promote**: ")
    assert "Registered as **champion**." in text
    cells = rows(text)
    assert cells["snapshot"] == ["snap_0123456789ab"]
    assert cells["content"] == ["f" * 64]
    assert cells["classes"] == ["2: zero, one"]
    assert cells["epochs"] == ["14", "EPOCHS"]
    assert cells["mosaic"] == ["0.0", "argument"]
    assert "fliplr" not in cells
    assert cells["mlflow"] == ["http://mlflow/r1"]
    assert cells["files"] == ["s3://models/digits/3"]
    assert 'mlflow.pyfunc.load_model("models:/digits/3")' in text


def test_the_primary_metric_comes_first_and_the_champion_beside_it() -> None:
    lines = render(CARD).splitlines()
    start = lines.index("| metric | value |")
    assert [line.split(" | ")[0] for line in lines[start + 2 : start + 5]] == ["| mAP50", r"| box\_loss", "| mAP50-95"]
    compared = render(replace(CARD, result=_with(champion_metrics={"mAP50": 0.5})))
    assert "| mAP50 | 0.7500 | 0.5000 |" in compared
    assert "| mAP50-95 | 0.5000 |  |" in compared


def _with(**more: object) -> EvaluationResult:
    return EvaluationResult(**{name: getattr(RESULT, name) for name in RESULT.__struct_fields__} | more)  # type: ignore[arg-type]


def test_before_the_registration_it_names_no_version() -> None:
    text = render(CARD)
    assert text.startswith("# Digits\n")
    assert "Registered" not in text
    assert "load_model" not in text


def test_of_many_classes_it_names_some() -> None:
    text = render(replace(CARD, classes=[f"class{number}" for number in range(CLASSES + 7)]))
    (cell,) = rows(text)["classes"]
    assert cell.startswith("57: class0, class1,")
    assert cell.endswith("class49 and 7 more")


@given(st.text(), st.lists(st.text(max_size=20), max_size=5), st.text())
def test_no_name_becomes_markup_or_breaks_a_table(given_name: str, classes: list[str], reason: str) -> None:
    plain = render(replace(CARD, original_name="x", classes=["x"] * len(classes), result=_with(reason="x")))
    text = render(replace(CARD, original_name=given_name, classes=classes, result=_with(reason=reason)))
    assert len(text.split("\n")) == len(plain.split("\n"))
    assert [line.count(" | ") for line in text.split("\n")] == [line.count(" | ") for line in plain.split("\n")]
    assert re.search(r"(?<!\\)(?:\\\\)*[<`\[]", escape(given_name + reason + "".join(classes))) is None


@pytest.mark.usefixtures("mlflow_uri")
def test_the_registration_writes_it_and_mlflow_shows_it(prepared: Prepared, registry: Registry, name: str) -> None:
    training = prepared.train(2)
    outcome = prepared.register(prepared.evaluate(training, name), name)
    result = published(outcome)
    output = result.receipt.outputs["card"]
    assert (output.path.split("/")[-1], output.result) == ("model_card.md", False)
    text = result.read("card").decode()
    assert text.startswith(f"# {name}, version 1\n")
    assert "Registered as **champion**." in text
    assert escape(training) in text
    assert escape(f"{prepared.workspace}/models/{name}/1") in text
    shown = registry._client.get_model_version(name, "1").description
    assert shown.startswith(f"# {name}\n\nVerdict **promote**")
    assert len(shown) <= 5000


def test_it_says_from_which_confidence_on_a_class_counts() -> None:
    assert "Confidence 0.25 for each class, the default" in render(CARD)
    at = {"zero": AtPoint(objects=9, missed=1, false_alarms=2)}
    point = OperatingPoint(source="val", confidence={"zero": 0.4, "a|b": 0.25}, images=80, classes=at)
    text = render(replace(CARD, point=point))
    assert "Chosen on 80 images of the split val" in text
    assert rows(text)["zero"] == ["0.40", "9", "1", "2"]
    assert r"| a\|b | 0.25 | 0 |  |  |" in text
    assert "`predict` gives the likeliest classes" in render(replace(CARD, task="classification"))
