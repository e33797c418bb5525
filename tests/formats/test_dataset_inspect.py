"""``visionloop dataset inspect``: what a dataset is and holds, in lines or as JSON, and nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from reading import PICTURE, written

from visionloop.core.errors import VisionloopError
from visionloop.pipelines.cli.main import application

XML = (
    "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    "</annotation>"
)
VOC: dict[str, Any] = {"train/a.xml": XML, "train/a.png": PICTURE}
FOLDERS = dict.fromkeys(("train/cat/1.png", "train/dog/1.png", "val/cat/1.png"), PICTURE)
TURNED: dict[str, Any] = {
    "type": "rectanglelabels",
    "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["cat"]},
}
TURNED |= {"image_rotation": 90, "original_width": 40, "original_height": 20}


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and the sentence of ``visionloop dataset inspect``."""
    visionloop = application(["dataset"])
    error: VisionloopError | None = None
    try:
        visionloop(["dataset", "inspect", *words], standalone_mode=False)
    except VisionloopError as raised:
        error = raised
    code, sentence = (0, "") if error is None else (error.exit_code, error.sentence)
    return code, capsys.readouterr().out, sentence


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, FOLDERS)
    Path(os.fsdecode(os.fsencode(folder / "train/cat") + b"/\xff.png")).write_bytes(PICTURE)
    for output in ("text", "json"):
        code, out, err = command(capsys, str(folder), "--output", output)
        assert (code, err) == (0, "")
        assert "1 passed over that can't be read: train/cat/" in out


def test_a_dataset_in_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, FOLDERS)
    code, out, err = command(capsys, str(folder), "--output", "text")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines == [
        "Format   an image folder (cat/ and dog/)",
        "Task     classification",
        "Images   3: train 2, val 1",
        "Objects  3",
        "Classes  2",
        "           0  cat  2",
        "           1  dog  1",
        'Notice   val lacks 1 class ("dog"); numbers stay.',
        *lines[8:],
    ]
    assert {tuple(line.split()[:2]) for line in lines[8:]} == {("Warning", "class_absent:")}
    assert "class_absent: the class folders: classes[" in lines[8]


def test_a_dataset_as_json_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = written(tmp_path / "dataset", VOC)
    code, out, _ = command(capsys, str(folder))
    assert code == 0
    summary = json.loads(out)
    assert summary["dataset"] == folder.as_uri()
    assert (summary["format"], summary["evidence"], summary["task"]) == ("voc", "train/a.xml", "detection")
    assert summary["classes"] == [{"id": 0, "name": "dog", "objects": 1}]
    assert (summary["images"], summary["objects"], summary["splits"]) == (1, 1, {"train": 1})
    assert summary["findings"] == summary["notices"] == []
    assert sorted(os.listdir(tmp_path)) == ["dataset"]
    assert sorted(os.listdir(folder / "train")) == ["a.png", "a.xml"]


def test_two_formats_that_fit_are_both_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path, VOC | {"annotations.xml": "<annotations/>"})
    code, out, err = command(capsys, str(folder))
    assert (code, out) == (78, "")
    assert "a CVAT export (annotations.xml) and a Pascal VOC dataset (train/a.xml) could both be meant" in err
    assert err.endswith("; choose --format cvat or --format voc.")
    (folder / "annotations.xml").unlink()
    assert command(capsys, str(folder), "--format", "voc")[0] == 0


@pytest.mark.parametrize(
    ("files", "words", "code", "sentence"),
    [
        (VOC, ("--format", "pickles"), 78, "--format pickles: no such format is read; choose one of dice, "),
        (VOC, ("--task", "pose"), 78, "--task pose: Pascal VOC is read for detection; choose --task detection."),
        (VOC, ("--task", "juggling"), 78, "--task: 'juggling' is not a task"),
        ({}, (), 65, "the folder is empty"),
        ({"readme.txt": "hello"}, (), 65, "what lies there (readme.txt) is a dataset of no format that is read"),
        ({"readme.txt": "hello"}, (), 65, "; correct the URI, or name the format with --format."),
        ({f"pets/{key}": value for key, value in FOLDERS.items()}, (), 65, "the dataset lies in a folder below; give file://"),
        (VOC | {"train/a.xml": "<annotation>"}, (), 65, "train/a.xml: the XML is not well formed"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, Any],
    words: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    ended, out, err = command(capsys, str(written(tmp_path, files)), *words)
    assert (ended, out) == (code, "")
    assert sentence in err


def test_a_finding_that_is_an_error_ends_with_65_behind_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"data": {"image": "a.png"}, "annotations": [{"result": [TURNED]}]}]
    folder = written(tmp_path, {"export.json": json.dumps(tasks), "a.png": PICTURE})
    code, out, err = command(capsys, str(folder), "--output", "text")
    assert code == 65
    assert "Error    orientation: export.json: [0]: a.png was turned while it was labelled" in out
    assert err.startswith("export.json: [0]: a.png was turned while it was labelled")


def test_the_findings_are_those_of_validate_without_reading_an_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 40, "height": 20 if number else 5} for number in range(4)
    ]
    labels = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 4, 20, 8]}]
    document = {"images": images, "annotations": labels, "categories": [{"id": 1, "name": "cat"}]}
    files: dict[str, Any] = {f"images/{number}.png": PICTURE for number in range(3)}
    folder = written(tmp_path, files | {"annotations.json": json.dumps(document)})
    code, out, err = command(capsys, str(folder))
    assert code == 65
    assert "annotations[0].bbox [30, 4, 20, 8] reaches outside the image of 40 × 20" in err
    findings = {(finding["severity"], finding["code"]) for finding in json.loads(out)["findings"]}
    assert findings >= {("error", "bbox_outside"), ("error", "missing_image"), ("warning", "image_too_small")}


@pytest.mark.parametrize("name", ["voc", "folders", "labelstudio", "cvat"])
def test_every_format_has_a_section_of_the_page(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def test_checks_change_what_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(written(tmp_path, FOLDERS))
    code, out, _ = command(capsys, folder, "--output", "json", "--checks", '{"class_absent": "off"}')
    assert (code, json.loads(out)["findings"]) == (0, [])
    code, _, err = command(capsys, folder, "--output", "json", "--checks", "class_absent: error")
    assert code == 65
    assert "has no label in" in err
    code, _, err = command(capsys, folder, "--checks", '{"class_missing": "off"}')
    assert (code, "the nearest one is class_absent" in err) == (78, True)
