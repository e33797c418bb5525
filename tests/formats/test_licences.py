"""The licences that a dataset states: read from COCO and YOLO, kept by snapshot, shown by the card and the bill of materials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import layouts
import pytest
from small_datasets import stage

from visionloop.core.receipts import Result
from visionloop.data.formats.licences import LONGEST, MOST, stated
from visionloop.pipelines.cli.dataset import inspected

CC = {"id": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}
SHOWN = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"


def coco(folder: Path, licenses: object) -> Path:
    """The dataset as COCO, whose first file states these licences."""
    layouts.coco(folder)
    path = folder / "annotations/instances_train2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"licenses": licenses}))
    return folder


def taken(folder: Path, workspace: Path) -> Result:
    """The dataset's snapshot."""
    return stage("snapshot", workspace, dataset=str(folder))


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        ([CC, CC, {"name": "CC0", "url": ""}], (SHOWN, "CC0")),
        ([{"url": "https://example.com"}], ("https://example.com",)),
        ([{"id": 3}, {"name": 7, "url": None}], ()),
        ([{"name": "two\nlines\u202e"}], ("two lines�",)),
        ("all rights reserved", ()),
        (None, ()),
    ],
)
def test_those_of_coco(tmp_path: Path, licenses: object, expected: tuple[str, ...]) -> None:
    assert layouts.read(coco(tmp_path, licenses), "coco").licences == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("license: AGPL-3.0 License (https://ultralytics.com/license)", ("AGPL-3.0 License (https://ultralytics.com/license)",)),
        ("roboflow:\n  license: CC BY 4.0\n  version: 1", ("CC BY 4.0",)),
        ("license: null\nroboflow: none", ()),
        ("license: [MIT]", ()),
    ],
)  # fmt: skip
def test_those_of_yolo(tmp_path: Path, lines: str, expected: tuple[str, ...]) -> None:
    layouts.pictures(tmp_path)
    layouts.write(tmp_path, {"data.yaml": f"train: images\nnames: [cat, dog]\n{lines}\n"})
    assert layouts.read(tmp_path, "yolo").licences == expected


def test_there_are_so_many_and_they_are_so_long_at_most() -> None:
    assert len(stated((f"licence {number}", None) for number in range(100))) == MOST
    assert [len(text) for text in stated([("x" * 10_000, "y" * 10_000)])] == [LONGEST]


def test_another_licence_is_another_snapshot_with_the_same_result(tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    without = taken(layouts.coco(tmp_path / "set"), workspace)
    first = taken(coco(tmp_path / "set", [CC]), workspace)
    second = taken(coco(tmp_path / "set", [{"name": "CC0"}]), workspace)
    stated_by: list[Any] = [
        result.receipt.parameters["licences"].value if "licences" in result.receipt.parameters else None
        for result in (without, first, second)
    ]
    assert stated_by == [None, [SHOWN], ["CC0"]]
    assert len({result.receipt.key for result in (without, first, second)}) == 3
    assert len({result.receipt.digest for result in (without, first, second)}) == 1


def test_inspect_shows_them(tmp_path: Path) -> None:
    assert inspected(str(coco(tmp_path / "set", [CC])), None, None, tmp_path)["licences"] == [SHOWN]
