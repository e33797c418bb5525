"""``must_pass``: images on which the model must be right at its operating point, whatever the metrics are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_detector import SIZE, Prepared, prepare, published, write_dataset

from visionloop.components.evaluate import operating
from visionloop.components.evaluate.must_pass import Expected, Judged, MustPass, read_must_pass
from visionloop.components.evaluate.result import read
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.pipelines.cli.options import gate_text

pytestmark = pytest.mark.usefixtures("mlflow_uri", "toy")

#: Of 8 images every fourth is test.
TEST = ("3.png", "7.png")


def written(folder: Path, *lines: dict[str, Any]) -> str:
    """A list as JSON lines; returns a gate that names it."""
    path = folder / "must_pass.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return json.dumps({"must_pass": path.as_uri()})


def line(file_name: str, name: str, *box: float) -> dict[str, Any]:
    return {"file_name": file_name, "class": name} | ({"box": box} if box else {})


# The list


def test_json_lines_and_csv_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        f"{json.dumps(line('a.png', 'cap', 1, 2, 3, 4))}\n\n{json.dumps(line('b.png', 'cap'))}\n"
    )
    (tmp_path / "b").write_text("\ufefffile_name,class,x1,y1,x2,y2\nb.png,cap\na.png,cap,1,2,3,4.0\n,\n")
    first, second = read_must_pass(str(tmp_path / "a")), read_must_pass((tmp_path / "b").as_uri())
    assert first.digest == second.digest
    assert first.images == ["a.png", "b.png"]
    (tmp_path / "b").write_text("file_name,class\nb.png,cap\na.png,cap\n")
    assert read_must_pass(str(tmp_path / "b")).digest != first.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it names no image"),
        ("file_name,class\n", "it names no image"),
        ("image,class\na.png,cap\n", "line 1: the columns are"),
        ("file_name,class\na.png\n", "line 2: 1 fields"),
        (
            "file_name,class,x1,y1,x2,y2\na.png,cap,1,2,3\n",
            "line 2: 3 of the numbers x1,y1,x2,y2; give all of them or none",
        ),
        ("file_name,class,x1,y1,x2,y2\na.png,cap,1,2,3,x\n", "are not numbers"),
        ("file_name,class,x1,y1,x2,y2\na.png,cap,5,2,3,4\n", "line 2: the box [5.0, 2.0, 3.0, 4.0] has no area"),
        ("file_name,class,x1,y1,x2,y2\na.png,cap,nan,2,3,4\n", "has no area"),
        ('{"file_name": "a.png"}\n', "line 1: Object missing required field `class`"),
        ('{"file_name": "a.png", "class": "cap"}\n{"file": 1}\n', "line 2: "),
        ('{"file_name": "a.png", "class": "cap", "box": [1, 2, 3]}\n', "line 1: Expected `array` of length 4"),
    ],
)
def test_a_wrong_line_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(InvalidConfig) as refused:
        read_must_pass(str(tmp_path / "list"))
    assert refused.value.sentence.startswith(f"--gate: must_pass {tmp_path}/list: ")
    assert said in refused.value.sentence


def test_at_most_ten_images_are_named() -> None:
    failed = Judged(20, {f"{number:02}.png": "no cap" for number in range(12)})
    (clause,) = failed.unmet()
    assert clause.startswith("12 of 20 must-pass images are not right: 00.png (no cap), ")
    assert clause.endswith("09.png (no cap) and 2 more (must_pass)")
    assert Judged(20).unmet() == []


def test_a_path_in_a_gate_is_that_of_the_folder_where_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.yaml").write_text("floor: 0.5\nmust_pass: list.csv\n")
    expected = {"floor": 0.5, "must_pass": (tmp_path / "list.csv").as_uri()}
    for gate in ("gate.yaml", '{"floor": 0.5, "must_pass": "list.csv"}'):
        assert json.loads(gate_text(gate)) == expected
    for gate in ('{"floor": 0.5}', '{"must_pass": 5}', "s3://gates/must_pass.json"):
        assert gate_text(gate) == gate


# The verdict


def test_a_model_that_is_right_on_each_passes_and_one_that_is_not_is_kept(
    prepared: Prepared, name: str, tmp_path: Path
) -> None:
    gate = written(tmp_path, line(TEST[0], "dim"), line(TEST[0], "bright"), line(TEST[1], "dim"))
    good = read(published(prepared.evaluate(prepared.train(1), name, gate=gate)))
    assert (good.verdict, good.must_pass) == ("promote", {})
    bad = prepared.evaluate(prepared.train(12), name, gate=gate)
    result = read(published(bad))
    assert result.verdict == "keep"
    assert result.must_pass == {TEST[0]: "no bright, dim", TEST[1]: "no dim"}
    assert (
        "but 2 of 2 must-pass images are not right: 3.png (no bright, dim), 7.png (no dim) (must_pass)" in result.reason
    )
    assert prepared.register(bad, name).summary()["alias"] == "challenger"


def test_a_box_counts_in_place_of_the_labels(prepared: Prepared, name: str, tmp_path: Path) -> None:
    elsewhere = written(tmp_path, line(TEST[0], "dim", SIZE - 20, SIZE - 20, SIZE, SIZE))
    result = read(published(prepared.evaluate(prepared.train(0), name, gate=elsewhere)))
    assert result.must_pass == {TEST[0]: "no dim"}
    right = written(tmp_path, line(TEST[0], "dim", 4, 16, 24, 40))
    assert read(published(prepared.evaluate(prepared.train(0), name, gate=right))).must_pass == {}


def test_it_is_judged_at_the_operating_point(prepared: Prepared, name: str, tmp_path: Path) -> None:
    """The toy finds with confidence 0.9: where a false alarm alone costs, the point is above it."""
    gate, training = written(tmp_path, line(TEST[0], "dim")), prepared.train(0)
    outcome = prepared.evaluate(training, name, gate=gate)
    point = operating.read(published(outcome))
    assert point is not None
    assert (point.source, point.costs) == ("val", {"miss": 1, "false_alarm": 1})
    assert read(published(outcome)).must_pass == {}
    strict = operating.OperatingPoint(
        source="val",
        confidence={"dim": 0.95, "bright": 0.1},
        costs={"miss": 0.0, "false_alarm": 1.0},
        curves={"dim": [0.0] * len(operating.THRESHOLDS)},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operating.Tally, "point", lambda *_: strict)
        again = prepared.evaluate(training, name, gate=gate, force=True)
    result = read(published(again))
    assert result.must_pass == {TEST[0]: "no dim"}
    assert "1 of 1 must-pass images is not right" in result.reason


def test_the_list_is_in_the_key_by_its_content(prepared: Prepared, name: str, tmp_path: Path) -> None:
    training = prepared.train(0)
    gate = written(tmp_path, line(TEST[0], "dim"), line(TEST[1], "dim"))
    first = published(prepared.evaluate(training, name, gate=gate)).receipt
    assert set(first.parameters["gate"].value["must_pass"]) <= set("0123456789abcdef")
    (tmp_path / "other").mkdir()
    again = written(tmp_path / "other", line(TEST[1], "dim"), line(TEST[0], "dim"))
    assert published(prepared.evaluate(training, name, gate=again)).receipt.key == first.key
    changed = written(tmp_path, line(TEST[0], "dim"))
    assert published(prepared.evaluate(training, name, gate=changed)).receipt.key != first.key
    assert "must_pass" not in published(prepared.evaluate(training, name)).receipt.parameters["gate"].value


# What can't be judged


def test_an_image_that_the_split_does_not_hold_is_refused_with_its_name(
    prepared: Prepared, name: str, tmp_path: Path
) -> None:
    gate = written(tmp_path, line(TEST[0], "dim"), line("0.png", "dim"), line("gone.png", "dim"))
    with pytest.raises(
        InvalidDataset, match=r"must_pass.*the split test does not hold the images 0\.png, gone\.png"
    ) as refused:
        prepared.evaluate(prepared.train(0), name, gate=gate)
    assert refused.value.exit_code == 65


def test_a_class_that_the_dataset_lacks_and_one_that_the_image_lacks_are_refused(
    prepared: Prepared, name: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match='"cup" is not a class here; the classes are bright, dim'):
        prepared.evaluate(prepared.train(0), name, gate=written(tmp_path, line(TEST[0], "cup", 1, 2, 3, 4)))
    path = tmp_path / "dataset" / "annotations_detection.json"
    document = json.loads(path.read_text())
    document["images"][3]["annotations"].pop()  # the bright one
    path.write_text(json.dumps(document))
    other = prepare(path.parent, (tmp_path / "second").as_uri())
    with pytest.raises(
        InvalidDataset, match=r'"3.png" does not show "bright" by the dataset.s labels; .*, or give a box'
    ):
        other.evaluate(other.train(0), name, gate=written(tmp_path, line(TEST[0], "bright")))


def test_an_image_that_convert_left_out_is_not_right(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    dataset = write_dataset(tmp_path / "dataset", images=24)
    (dataset / "images" / TEST[0]).write_bytes(b"no image")
    prepared = prepare(dataset, (tmp_path / "workspace").as_uri(), on_error="quarantine")
    result = read(published(prepared.evaluate(prepared.train(0), name, gate=written(tmp_path, line(TEST[0], "dim")))))
    assert result.must_pass == {TEST[0]: "left out of the split by convert"}
    assert result.verdict == "keep"


def test_one_line_of_an_image_names_all_labels_of_its_class() -> None:
    required = MustPass(
        "list", [Expected(file_name="a.png", class_name="cap"), Expected(file_name="a.png", class_name="cap")]
    )
    assert required.images == ["a.png"]
