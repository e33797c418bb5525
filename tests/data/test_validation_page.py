"""validate's page: refused or usable first, findings by kind with what is wrong drawn, then what the dataset holds."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_datasets import BOX, LABELS, dataset, stage

from visionloop.core import catalog
from visionloop.core.errors import InvalidDataset
from visionloop.core.reports import MOST_BYTES
from visionloop.core.running import Invocation, run_stage
from visionloop.data.annotations.classes import LONGEST_CLASS_NAME

OUTSIDE = BOX | {"bbox": [28, 4, 20, 8]}


def page(folder: Path, workspace: Path, **options: Any) -> str:
    """The page of a dataset, whether it is usable or not."""
    snapshot = stage("snapshot", workspace, dataset=str(folder))
    try:
        return stage("validate", workspace, snapshot=snapshot.uri, **options).read("page").decode()
    except InvalidDataset:
        return (workspace / "runs" / "one" / "validate" / "report.html").read_text()


def edited(folder: Path, task: str, change: Any) -> Path:
    """The dataset after a change of its document."""
    path = folder / f"annotations_{task}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def headings(text: str) -> list[str]:
    """The kinds of findings in their order: severity, code, count."""
    return [
        " ".join(re.sub(r"<[^>]*>", " ", heading).split()) for heading in re.findall(r"<h3>(.*?)</h3>", text, re.DOTALL)
    ]


def has_red(source: str) -> bool:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")).astype(int)
    return bool(((pixels[..., 0] > 240) & (pixels[..., 1:] < 50).all(axis=2)).any())


PICTURES = re.compile(r'<img src="data:image/jpeg;base64,([^"]*)"')


def test_a_usable_dataset_says_so_first(tmp_path: Path) -> None:
    text = page(dataset(tmp_path / "set", "detection", None), tmp_path / "workspace")
    assert '<h1 class="good">Usable: nothing is wrong</h1>' in text
    assert "Nothing was found." in text
    for fact, value in (("Dataset", "n"), ("Run", "one"), ("Task", "detection"), ("Snapshot", "snap_")):
        assert re.search(rf"<dt>{fact}</dt><dd><bdi>{value}", text)
    assert re.search(r"<dt>Date</dt><dd><bdi>\d{4}-\d\d-\d\dT", text)
    assert len(PICTURES.findall(text)) == 4  # the mosaic
    # One class: its labels in train, val and test, and all.
    assert re.findall(r'<td class="number">(\d+)</td>', text.split("Labels by class and split")[1])[:4] == list("2114")
    assert "4 boxes by their side" in text


@pytest.mark.parametrize(
    "arguments", [{"model_name": "Bottles & more"}, {"snapshot": {"model_name": "Bottles & more"}}]
)
def test_the_model_is_named_where_the_run_knows_it(tmp_path: Path, arguments: dict[str, Any]) -> None:
    folder, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "workspace"
    invocation = Invocation(str(workspace), run="one", run_arguments=arguments)
    run_stage(catalog.stage("snapshot"), {"dataset": str(folder)}, invocation)
    assert "<dt>Model</dt><dd><bdi>Bottles &amp; more</bdi></dd>" in page(folder, workspace)


def test_warnings_and_images_left_out_stand_in_the_headline(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", [BOX | {"area": 1}, BOX, BOX])
    assert '<h1 class="warn">Usable: with 3 warnings</h1>' in page(folder, tmp_path / "workspace")
    folder = dataset(tmp_path / "other", "detection", None)
    edited(folder, "detection", lambda document: document["images"].extend(_more(40)))
    for number in range(40):
        Image.new("RGB", (32, 32), (number, 100, 0)).save(folder / "images" / f"more-{number}.png")
    (folder / "images" / "more-7.png").unlink()
    text = page(folder, tmp_path / "workspace", on_error="quarantine")
    assert "Usable: without 1 image that had errors</h1>" in text
    assert headings(text)[0] == "error missing_image 1 in 1 image"
    assert '<div class="missing">no picture</div>' in text


def _more(number: int) -> list[dict[str, Any]]:
    return [
        {"file_name": f"more-{index}.png", "width": 32, "height": 32, "split": "train", "annotations": [BOX]}
        for index in range(number)
    ]


def test_a_refused_dataset_shows_its_findings_by_kind_with_the_wrong_box(tmp_path: Path) -> None:
    def spoil(document: dict[str, Any]) -> None:
        for image in document["images"]:
            image["annotations"] = [BOX, *[OUTSIDE] * 2, BOX]
        document["images"][0]["annotations"].append(BOX | {"class_id": 9})

    folder = edited(dataset(tmp_path / "set", "detection", None), "detection", spoil)
    text = page(folder, tmp_path / "workspace")
    assert '<h1 class="bad">Refused: 9 errors in 4 images</h1>' in text
    assert text.index("Refused") < text.index("bbox_outside") < text.index("Labels by class and split")
    assert headings(text)[:3] == [
        "error bbox_outside 8 in 4 images",
        "error unknown_class 1 in 1 image",
        "warning duplicate 8 in 4 images",
    ]
    assert text.count("4 more of this kind.") == 2  # an image has one example of a kind
    assert "images[0].annotations[1].bbox [28, 4, 20, 8] reaches outside the image of 32 × 32" in text
    # Four examples of the first kind, one of the second, four of the third, and none of the images in the mosaic.
    pictures = PICTURES.findall(text)
    assert len(pictures) == 9
    assert all(map(has_red, pictures))
    assert 'class="legend"' not in text  # the others have no colour of their own


@pytest.mark.parametrize("task", LABELS)
def test_each_task_has_its_page(tmp_path: Path, task: str) -> None:
    text = page(dataset(tmp_path / "set", task, [LABELS[task], LABELS[task]]), tmp_path / "workspace")
    assert "<h1" in text
    assert len(PICTURES.findall(text)) >= 4
    assert ("Box sizes" in text) == (task != "classification")


def test_without_reading_images_there_are_no_pictures(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", [BOX, BOX])
    text = page(folder, tmp_path / "workspace", mode="annotations")
    assert "No picture is shown: the mode annotations reads no image." in text
    assert "<img" not in text


def test_hostile_names_are_text_and_a_page_has_an_end(tmp_path: Path) -> None:
    """Names of 1,000 characters, many classes, markup, direction marks."""
    names = [f"<script>{number}</script>‮{'&<' * 480}"[:LONGEST_CLASS_NAME] for number in range(300)]
    folder = dataset(tmp_path / "set", "detection", None, dataset_name="<img src=x>" + "y" * 5000)
    edited(
        folder,
        "detection",
        lambda document: document.update(classes=[{"id": n, "name": name} for n, name in enumerate(names)]),
    )
    text = page(folder, tmp_path / "workspace")
    assert len(text.encode()) < MOST_BYTES / 2
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "‮" not in text
    assert "200 more classes are not shown" in text
    assert headings(text)[0] == "warning empty_class 299"
    assert "295 more of this kind." in text


def test_the_rarest_class_in_train_comes_first(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "detection", [BOX, BOX | {"bbox": [9, 9, 9, 9]}])
    classes = [{"id": number, "name": name} for number, name in enumerate(("often", "absent", "seldom"))]

    def relabel(document: dict[str, Any]) -> None:
        document["classes"] = classes
        document["images"][1]["annotations"][0]["class_id"] = 2

    text = page(edited(folder, "detection", relabel), tmp_path / "workspace")
    assert re.findall(r'<td class="label"><bdi>(\w+)<', text) == ["absent", "seldom", "often"]
    assert '<td class="number none">0</td>' in text
