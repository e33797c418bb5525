"""evaluate's page: what was measured first, classes worst first in one order, curves, confusion folded to the worst."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components.evaluate.confusion import MOST, PAIRS, WORST, folded
from visionloop.components.evaluate.curves import POINTS, charts
from visionloop.components.evaluate.examples import PICTURES_OF_A_KIND
from visionloop.components.evaluate.page import class_rows
from visionloop.components.evaluate.ranking import worst_first
from visionloop.components.evaluate.result import EvaluationResult, read
from visionloop.core.reports import MOST_BYTES
from visionloop.core.stores import local_path
from visionloop.training.trainers import ClassCurves

NAMES = [f"class {number:02}" for number in range(80)]


def test_a_small_matrix_is_shown_whole_in_the_order_of_the_classes() -> None:
    shown = folded([[5, 1, 0], [2, 6, 3], [1, 0, 0]], ["a", "b"], ["b", "a"])
    assert shown is not None
    assert shown["names"] == ["b", "a", "background"]
    assert [[cell["count"] for cell in row["cells"]] for row in shown["rows"]] == [[6, 2, 3], [1, 5, 0], [0, 1, 0]]
    assert [[cell["right"] for cell in row["cells"]] for row in shown["rows"]] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert shown["rows"][0]["cells"][1]["share"] == 0.25
    assert (shown["others"], shown["pairs"]) == (0, [])


def test_of_many_classes_the_worst_are_shown_and_the_others_as_one() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.integers(0, 9, (81, 81))
    matrix[3, 70] = 500
    order = NAMES[40:] + NAMES[:40]
    shown = folded(matrix.tolist(), NAMES, order)
    assert shown is not None
    assert shown["names"] == [*order[:WORST], f"{80 - WORST} others", "background"]
    counts = np.array([[cell["count"] for cell in row["cells"]] for row in shown["rows"]])
    assert counts.sum() == matrix.sum()
    assert (counts[:WORST, :WORST] == matrix[40 : 40 + WORST, 40 : 40 + WORST]).all()
    assert (counts[-1, :WORST] == matrix[80, 40 : 40 + WORST]).all()
    assert not shown["rows"][WORST]["cells"][WORST]["right"]  # the others are confused among themselves too
    assert len(shown["pairs"]) == PAIRS
    first = shown["pairs"][0]
    assert (first["true"], first["predicted"], first["count"]) == (NAMES[70], NAMES[3], 500)


@pytest.mark.parametrize("matrix", [[], [[1]], [[1, 2], [3]], [[1] * 4] * 4])
def test_a_matrix_of_other_classes_is_not_shown(matrix: list[list[int]]) -> None:
    assert folded(matrix, ["a", "b"], ["a", "b"]) is None


def curve(height: float, points: int = 101) -> ClassCurves:
    return ClassCurves([height] * points, [height / 2] * points)


def test_the_mean_of_all_classes_is_drawn_with_the_champions_and_the_worst() -> None:
    ours = {name: curve(number / 80) for number, name in enumerate(NAMES)}
    result = charts(ours, {"class 00": curve(1.0, points=3)}, list(reversed(NAMES)))
    assert result is not None
    assert [line["name"] for line in result["precision"]] == [*NAMES[:-5:-1], "the champion", "all 80 classes"]
    mean = np.mean([number / 80 for number in range(80)])
    assert result["precision"][-1]["points"].startswith(f"0.00,{100 - 100 * mean:.2f} 1.00,")
    assert result["f1"][-2]["points"].endswith(" 100.00,50.00")
    assert result["best"] == f"{mean / 2:.3f}"


def test_the_f1_is_highest_where_the_page_says() -> None:
    values = [0.1, 0.6, 0.3, 0.2, 0.0]
    result = charts({"a": ClassCurves(values, values)}, {}, ["a"])
    assert result is not None
    assert (result["best"], result["confidence"]) == ("0.600", "0.25")
    assert [line["name"] for line in result["f1"]] == ["a"]


@pytest.mark.parametrize("values", [[], [0.5], [0.5, math.nan]])
def test_what_is_no_curve_is_not_drawn(values: list[float]) -> None:
    assert charts({"a": ClassCurves(values, values)}, {}, ["a"]) is None


def by_class(per_class: dict[str, dict[str, float]], absent: list[str], mode: str = "max") -> EvaluationResult:
    """An evaluation with these classes, in the order of their names; the ``absent`` ones have no object."""
    return EvaluationResult(
        training="t",
        snapshot="s",
        champion="none",
        split="test",
        images=1,
        classes=sorted([*per_class, *absent]),
        metrics={"m": 1} if per_class else {},
        per_class=per_class,
        not_measured_per_class={name: {"m": "no object"} for name in absent},
        verdict="keep",
        reason="r",
        gate={"primary_metric": "m", "primary_metric_mode": mode},
    )


@pytest.mark.parametrize(("mode", "order"), [("max", ["low", "high", "absent"]), ("min", ["high", "low", "absent"])])
def test_classes_stand_worst_first_and_unmeasured_last(mode: str, order: list[str]) -> None:
    assert worst_first(by_class({"high": {"m": 2.0}, "low": {"m": 1.0}}, ["absent"], mode)) == order


def test_a_split_without_an_object_of_any_class_has_its_rows() -> None:
    result = by_class({}, ["a", "b"])
    assert [(row["name"], row["value"]) for row in class_rows(result, worst_first(result), {})] == [
        ("a", "not measured"),
        ("b", "not measured"),
    ]


@pytest.mark.usefixtures("mlflow_uri")
def test_the_page_begins_with_what_was_measured(prepared: Prepared, toy: ToyTrainer, name: str) -> None:
    toy.curves = {"dim": curve(0.5), "bright": curve(0.9)}
    toy.right, toy.wrong = [0.91] * 12, [0.93] * 4 + [0.2] * 20 + [0.4] * 3
    outcome = published(prepared.evaluate(prepared.train(2), name, run="evaluating"))
    page = outcome.read("report").decode()
    (headline,) = re.findall(r"<h1[^>]*>(.*)</h1>", page)
    assert re.fullmatch(r"mAP50-95 0\.\d{3} on 2 images of the split test", headline)
    for fact, value in (("Model", name), ("Dataset", "rectangles"), ("Run", "evaluating"), ("Champion", "none yet")):
        assert f"<dt>{fact}</dt><dd><bdi>{value}</bdi></dd>" in page
    assert re.findall(r'<td class="label"><bdi>(\w+)</bdi></td><td class="number">(\d)</td>', page) == [
        ("bright", "2"),
        ("dim", "2"),
    ]
    assert page.count("<svg") == 4
    assert read(outcome).calibration is not None
    assert "on average, is 0.165, of 16 detections with a confidence of at least 0.25" in page
    assert (
        '<td>0.40 to 0.45</td><td class="number">3</td><td class="number"></td><td class="number soft">too few' in page
    )
    assert "0.20 to" not in page
    curves = json.loads(outcome.read("curves"))
    assert list(curves) == ["bright", "dim"]
    assert curves["dim"].keys() == {"precision", "f1"}
    assert {len(values) for values in curves["dim"].values()} == {POINTS}
    assert "<bdi>all 2 classes</bdi>" in page
    assert "right</bdi> 2" in page  # both rectangles of an image
    (link,) = re.findall(r'<nav><a href="([^"]*)">', page)
    here = local_path(outcome.output_uri("report"))
    assert here is not None
    assert "Usable" in (here.parent / link).read_text()


@pytest.mark.usefixtures("mlflow_uri")
def test_mistakes_are_counted_by_kind_and_the_worst_images_stand_by_it(
    toy: ToyTrainer, name: str, tmp_path: Path
) -> None:
    """Every box of twelve images is shifted so far that it overlaps its object by less than a half; six are the first ones."""
    prepared = prepare(write_dataset(tmp_path / "dataset", images=48), (tmp_path / "workspace").as_uri())
    outcome = published(prepared.evaluate(prepared.train(8), name, gate='{"floor": 0}'))
    result, page = read(outcome), outcome.read("report").decode()
    assert result.errors["localisation"] == {"count": 24, "images": 12, "dAP": pytest.approx(1.0)}
    assert result.errors["missed"] == {"count": 0, "images": 0, "dAP": 0}
    assert result.slices["size:small"] == {"objects": 24, "AP": 0.0, "AR": 0.0}
    assert result.slices["size:large"] == {"objects": 0}
    assert '<td>localisation</td><td class="number">24</td><td class="number">1.000</td>' in page
    assert '<td>large</td><td class="number">0</td><td class="number soft">too few</td>' in page
    worst = page[page.index("Images with the most mistakes") : page.index("The first images")]
    assert "<h3>Mostly localisation</h3>" in worst
    assert "The most frequent kind in 12 images." in worst
    assert (worst.count("<h3>"), worst.count("<img"), worst.count("localisation 2")) == (1, PICTURES_OF_A_KIND, 3)


@pytest.mark.usefixtures("mlflow_uri")
def test_what_a_trainer_does_not_give_is_told(prepared: Prepared, name: str) -> None:
    page = published(prepared.evaluate(prepared.train(2), name)).read("report").decode()
    assert "the trainer toy gives no precision–recall and F1 curves of this evaluation" in page
    assert "<tr><td>GPU hours</td><td>1.5000</td></tr>" in page


@pytest.mark.usefixtures("mlflow_uri")
def test_eighty_classes_with_hostile_names_have_a_page(toy: ToyTrainer, name: str, tmp_path: Path) -> None:
    classes = [f"<script>{number}</script>‮{'&<' * 480}" for number in range(80)]
    folder = write_dataset(tmp_path / "dataset", classes=classes)
    path = folder / "annotations_detection.json"
    document: dict[str, Any] = json.loads(path.read_text())
    document["classes"] = [{"id": number, "name": entry} for number, entry in enumerate(classes)]
    path.write_text(json.dumps(document))
    prepared = prepare(folder, (tmp_path / "workspace").as_uri())
    reason = "the split test has no object of this class"
    toy.absent = {entry: {"mAP50-95": reason} for entry in classes[2:]}
    page = published(prepared.evaluate(prepared.train(1, classes=",".join(classes)), name)).read("report").decode()
    assert len(page.encode()) < MOST_BYTES / 2
    assert "<script" not in page
    assert "‮" not in page
    assert f"Of 80 classes the {WORST} worst are shown, the others as one." in page
    assert len(classes) > MOST
    assert f"Not measured, because {reason}: &lt;script&gt;2&lt;/script" in page
    assert " and 58 more." in page
