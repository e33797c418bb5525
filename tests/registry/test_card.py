"""The model card: what it tells, where it stands, and that no name of somebody's becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_detector import Prepared, published

from visionloop.components.evaluate.operating import AtPoint, OperatingPoint, default_point
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.register.again import Again
from visionloop.components.register.card import CLASSES, Card, page, render, shortened
from visionloop.components.register.document import escape
from visionloop.components.validate.report import Report, ReportedFinding
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
    gate={"primary_metric": "mAP50", "primary_metric_mode": "max"},
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
    assert text.startswith("# Digits, version 3\n\nVerdict **promote**: mAP50 0.75 reaches")
    assert "Registered as **champion**." in text
    cells = rows(text)
    assert cells["snapshot"] == [escape("snap_0123456789ab")]
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


def finding(severity: str, code: str, sentence: str) -> ReportedFinding:
    return ReportedFinding(severity=severity, code=code, file_name="a.png", field="images[0]", sentence=sentence)


FOUND = Report(
    snapshot_id="snap_0123456789ab",
    mode="headers",
    images=100,
    errors=1,
    warnings=2,
    quarantined=["a.png"],
    findings=[
        finding("warning", "class_absent", "test shows no one."),
        finding("warning", "class_absent", "train shows no two."),
        finding("error", "missing_image", "a.png is not there."),
    ],
    labels={"train": 70, "val": 9, "test": 8},
    labels_left_out={"crowd": 3},
)

#: A card of a model of which all is known.
FULL = replace(
    CARD,
    version=3,
    alias="champion",
    description="Night shift",
    report=FOUND,
    images={"train": 60, "val": 20, "test": 19},
    licences={"the library toy": "MIT"},
    again=Again("visionloop run train --set 'a=b c'", ("Other weights are another training.",)),
    commit="c0ffee-dirty",
    run="run-7",
)


def sections(text: str) -> dict[str, str]:
    """The text below each heading."""
    return {head: body for head, _, body in (part.partition("\n\n") for part in text.split("\n## ")[1:])}


def test_it_tells_use_limits_data_and_how_the_model_is_made_again() -> None:
    result = _with(
        interval=(0.7, 0.8),
        slices={
            "size:small": {"objects": 30.0, "AP": 0.25, "AR": 0.5},
            "size:large": {"objects": 3.0},
            "size:medium": {"objects": 0.0},
            "metadata.source=night": {"images": 12.0, "objects": 40.0, "mAP50": 0.25},
            "metadata.source=dusk": {"images": 2.0, "objects": 4.0},
        },
        per_class={"zero": {"mAP50": 0.9}, "one": {"mAP50": 0.6}},
        errors={
            "missed": {"count": 3.0, "images": 2.0, "dAP": 0.125},
            "class": {"count": 9.0, "images": 1.0, "dAP": 0.0625},
        },
        must_pass={"b.png": "one is missed"},
    )
    told = sections(render(replace(FULL, result=result)))
    assert list(told) == [
        *("Intended use", "Metrics", "Operating point", "Limits", "Data", "Training", "Where it comes from"),
        *("Make it again", "Use"),
    ]
    assert told["Intended use"].startswith("Of its run: Night shift\n\nIt finds objects in pictures: ")
    assert "It knows 2 classes: zero, one, and nothing else." in told["Intended use"]
    metrics = told["Metrics"]
    assert metrics.index("| one | 0.6000 |") < metrics.index("| zero | 0.9000 |")
    assert "| small | 30 | 0.2500 |\n| medium | 0 | too few |\n| large | 3 | too few |" in metrics
    assert metrics.index(r"| metadata.source=night | 12 | 40 | 0.2500 |") < metrics.index(
        "| metadata.source=dusk | 2 | 4 | too few |"
    )
    limits = told["Limits"]
    assert "mAP50 is not known more closely than 0.70 to 0.80." in limits
    assert "costliest kind of mistake is missed: 0.125 of AP" in limits
    assert "Too few to measure: size:large, metadata.source=dusk." in limits
    assert escape("It is wrong on 1 image that it must be right on: b.png (one is missed).") in limits
    assert "1 image of the dataset had errors" in limits
    data = told["Data"]
    assert "| licence of the library toy | MIT |" in data
    assert "| train | 60 | 70 |\n| val | 20 | 9 |\n| test | 19 | 8 |" in data
    assert data.index(r"| missing\_image | error | 1 | a.png is not there. |") < data.index(
        r"| class\_absent | warning | 2 | test shows no one. |"
    )
    assert "Objects that became no label: 3 by crowd." in data
    assert "| git commit | c0ffee-dirty |" in told["Where it comes from"]
    assert (
        "```sh\nvisionloop run train --set 'a=b c'\n```\n\nOther weights are another training." in told["Make it again"]
    )
    clean = msgspec.structs.replace(FOUND, findings=[])
    assert "Known issues, as validate found them in the mode headers: none." in render(replace(FULL, report=clean))


def test_as_a_page_it_says_the_same_allows_no_script_and_escapes_names() -> None:
    hostile = "<script>alert(1)</script>"
    text = page(replace(FULL, original_name=hostile, classes=(hostile, "‮two"), dataset=f"s3://{hostile}")).decode()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
    assert "<script" not in text
    assert "‮" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, version 3</h1>" in text
    shown = page(FULL).decode()
    for title, _ in sections(render(FULL)).items():
        assert f"<h2>{title}</h2>" in shown
    assert "<b>promote</b>" in shown
    assert "<pre><code>visionloop run train --set &#39;a=b c&#39;</code></pre>" in shown
    assert (
        shown.count("<td")
        == sum(
            line.count(" | ") + 1 for line in render(FULL).splitlines() if line.startswith("| ") and "---" not in line
        )
        - shown.count("<th>")
        - sum(line == "|  |  |" for line in render(FULL).splitlines()) * 2
    )


def test_a_long_command_stands_on_the_page_whole_and_without_a_password() -> None:
    command = f"visionloop run train --storage s3://ada:opensesame@store/{'x' * 3000} --gate '```'"
    card = replace(FULL, again=Again(command))
    shown = page(card).decode()
    assert "x" * 3000 in shown
    assert "opensesame" not in shown + render(card)
    assert "````sh\n" in render(card)


def test_mlflows_description_ends_with_a_whole_block() -> None:
    card = replace(FULL, classes=[f"class{number}" for number in range(50)])
    assert shortened(card, 100_000) == render(card)
    for longest in range(1000, 3000, 50):
        text = shortened(card, longest)
        assert len(text) <= longest
        assert render(card).startswith(f"{text}\n\n")
