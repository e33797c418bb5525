"""``visionloop model compare``: versions side by side, and what keeps their figures from being compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decided import command, register, version
from toy_detector import Prepared, ToyTrainer, prepare, write_dataset

from visionloop.components.evaluate import STAGE
from visionloop.core.reports import MOST_BYTES
from visionloop.core.stores import local_path
from visionloop.registry import Registry
from visionloop.registry.versions import EVALUATION


def compared(capsys: pytest.CaptureFixture[str], *models: str) -> dict[str, Any]:
    code, out, sentence = command(capsys, "compare", *models)
    assert (code, sentence) == (0, "")
    return json.loads(out)


def grown(prepared: Prepared, folder: Path, **options: Any) -> Prepared:
    """A later dataset in the same workspace."""
    return prepare(write_dataset(folder, **options), prepared.workspace)


@pytest.mark.usefixtures("registry")
def test_settings_data_and_metrics_stand_side_by_side(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5, 2)
    content = compared(capsys, f"{name}/1", f"{name}@champion")
    first, second = content["models"]
    assert (first["version"], second["version"], second["aliases"]) == (1, 2, ["champion"])
    assert content["settings"] == {"offset": ["5", "2"]}
    assert content["equal_settings"] == len(first["settings"]) - 1
    assert second["metrics"]["mAP50-95"] > first["metrics"]["mAP50-95"] > 0
    low, high = second["evaluation"]["interval"]
    assert low <= second["metrics"]["mAP50-95"] <= high
    assert first["data"]["splits"] == {"train": 4, "val": 2, "test": 2}
    assert first["data"]["objects"] == 16
    assert first["evaluation"]["classes"] == ["dim", "bright"]
    assert (content["data"], content["comparable"], content["obstacles"], content["notices"]) == ([], True, [], [])
    _, text, _ = command(capsys, "compare", f"{name}/1", f"{name}/2", "--output", "text")
    (line,) = [line for line in text.splitlines() if line.startswith("mAP50-95 ")]
    assert f"{second['metrics']['mAP50-95']:.4f} ({low:.4f} to {high:.4f})" in line
    assert "Settings  " in text
    assert "Beware" not in text


@pytest.mark.usefixtures("registry")
def test_other_images_and_data_are_told(
    prepared: Prepared, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5)
    register(grown(prepared, tmp_path / "later", images=12), name, 2)
    content = compared(capsys, f"{name}/1", f"{name}/2")
    assert content["comparable"] is False
    assert content["obstacles"] == [
        f"{name}/1 was measured on 2 images and {name}/2 on 3: 2 of them are the same, with the same bytes and labels."
    ]
    (change,) = content["data"]
    assert change["images"]["added"] == 4
    _, text, _ = command(capsys, "compare", f"{name}/1", f"{name}/2", "--output", "text")
    assert f"Data      {change['after']} against {change['before']}: images: 4 added" in text
    assert f"Beware    {name}/1 was measured on 2 images" in text


@pytest.mark.usefixtures("registry")
def test_the_same_test_images_in_a_larger_dataset_are_no_obstacle(
    prepared: Prepared, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5)
    register(grown(prepared, tmp_path / "later", images=11), name, 2)
    content = compared(capsys, f"{name}/1", f"{name}/2")
    assert len(content["data"]) == 1
    assert content["comparable"] is True


@pytest.mark.usefixtures("registry")
def test_other_classes_and_measuring_are_told(
    prepared: Prepared, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5)
    later = grown(prepared, tmp_path / "later", classes=("dim", "shining"))
    later.register(later.evaluate(later.train(2, classes="dim,shining", conf=0.5), name), name)
    content = compared(capsys, f"{name}/1", f"{name}/2")
    beware = " ".join(content["obstacles"])
    assert f"{name}/1 was measured with conf 0.001; {name}/2 was measured with conf 0.5." in beware
    assert f"{name}/1 alone has bright; {name}/2 alone has shining: means over the classes" in beware
    assert content["data"][0]["classes"]


@pytest.mark.usefixtures("registry")
def test_other_logic_is_told(
    prepared: Prepared,
    toy: ToyTrainer,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(prepared, name, 5)
    monkeypatch.setattr(type(STAGE), "logic_version", 4711)
    toy.logic_version = 2
    register(prepared, name, 2)
    beware = compared(capsys, f"{name}/1", f"{name}/2")["obstacles"]
    assert beware[0].endswith(f"{name}/2 was measured by evaluate's logic 4711.")
    assert beware[1] == f"{name}/1 was measured by toy's logic 1; {name}/2 was measured by toy's logic 2."


def test_what_is_gone_or_of_others_is_told(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5, 2)
    registry.create_version(name, "s3://elsewhere/model", {"visionloop.metric.mAP50-95": "0.5"}, "")
    evaluation = version(registry, name, 1).tags[EVALUATION]
    folder = local_path(evaluation)
    assert folder is not None
    folder.unlink()
    content = compared(capsys, f"{name}/1", f"{name}/2", f"{name}/3")
    gone, whole, others = content["models"]
    assert (gone["evaluation"], gone["settings"]) == (None, None)
    assert gone["metrics"]["mAP50-95"] > 0
    assert whole["settings"]["offset"] == 2
    assert others["metrics"] == {"mAP50-95": 0.5}
    assert content["settings"] == {}
    assert [text.split(" the registry")[0] for text in content["notices"]] == [f"Of {name}/1", f"Of {name}/3"]
    for form in ("text", "json"):
        assert command(capsys, "compare", f"{name}/1", f"{name}/3", "--output", form)[0] == 0


@pytest.mark.usefixtures("registry")
def test_what_does_not_exist_is_refused_with_what_does(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 5)
    for wanted, sentence in (
        (f"{name}/7", f"there is {name}/1."),
        (f"{name}@staging", f"there is {name}@champion."),
        ("nobody/1", "no such model is registered; there is "),
        (name, "give NAME/VERSION or NAME@ALIAS"),
    ):
        code, out, told = command(capsys, "compare", f"{name}/1", wanted)
        assert (code, out) == (78, "")
        assert sentence in told
    code, _, told = command(capsys, "compare", f"{name}/1")
    assert (code, "name two or more" in told) == (78, True)


@pytest.mark.usefixtures("registry")
def test_the_page_has_all_of_it_and_nothing_acts(
    prepared: Prepared, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "<script>alert(1)</script>"
    register(prepared, name, 5)
    later = grown(prepared, tmp_path / "later", images=12, classes=("dim", hostile))
    later.register(later.evaluate(later.train(2, classes=f"dim,{hostile}"), name), name)
    target = tmp_path / "comparison.html"
    code, out, _ = command(capsys, "compare", f"{name}/1", f"{name}/2", "--page", target)
    assert code == 0
    assert json.loads(out)["page"] == str(target)
    page = target.read_text()
    assert "<script" not in page
    assert len(page) < MOST_BYTES
    assert "was measured on 2 images" in page
    assert "&lt;script&gt;" in page
    for heading in ("Metrics", "Classes", "Where they come from", "Settings"):
        assert f"<h2>{heading}</h2>" in page
    code, _, told = command(capsys, "compare", f"{name}/1", f"{name}/2", "--page", tmp_path / "page.txt")
    assert (code, "ends with .html" in told) == (78, True)


@pytest.mark.usefixtures("registry")
def test_a_class_without_a_value_comes_first(
    prepared: Prepared,
    toy: ToyTrainer,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(prepared, name, 5)
    measure = toy.evaluate

    def without_bright(*arguments: Any) -> Any:
        found = measure(*arguments)
        return replace(found, per_class={"dim": found.per_class["dim"]})

    monkeypatch.setattr(toy, "evaluate", without_bright)
    register(prepared, name, 2)
    text = command(capsys, "compare", f"{name}/1", f"{name}/2", "--output", "text")[1]
    shown = [line.split() for line in text.splitlines() if line.startswith("class ")]
    assert [words[1] for words in shown] == ["bright", "dim"]
    assert shown[0][3] == "-"
