"""Label Studio's JSON: the image of a task, percents, turned rectangles, and what is not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import PICTURE, boxes, class_names, read, read_or_refused, refused

from visionloop.core.errors import InvalidConfig
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.formats import Source
from visionloop.data.formats.recognised import choose

SIDES = {"original_width": 40, "original_height": 20, "image_rotation": 0}
CONFIG = '<View><Image name="i" value="$photo"/><RectangleLabels name="l" toName="i"><Label value="dog"/><Label value="Cat" alias="cat"/></RectangleLabels></View>'


def region(labels: list[str] | None = None, kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    value = value or {"x": 10, "y": 50, "width": 25, "height": 10, "rotation": 0}
    return {"id": "r", "type": kind, "value": value | {kind: labels or ["cat"]}} | SIDES


def packed(painted: np.ndarray[Any, Any]) -> list[int]:
    """A brush mask: RGBA bytes in runs of at most 16 equal values, or as they are."""
    values = np.repeat(painted.reshape(-1).astype(np.uint8) * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{3:04b}" * 4
    for start in range(0, len(values), 16):
        part = values[start : start + 16]
        repeated = bool((part == part[0]).all())
        bits += f"{int(repeated)}00{len(part) - 1:04b}"
        bits += "".join(f"{int(value):08b}" for value in (part[:1] if repeated else part))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def task(*result: dict[str, Any], image: Any = "/data/upload/1/a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 5, "result": list(result)}]} | more


def files(*tasks: Any) -> dict[str, str | bytes]:
    return {"export.json": json.dumps(list(tasks)), "images/a.png": PICTURE}


def test_rectangles(tmp_path: Path) -> None:
    dataset = read("labelstudio", tmp_path, files(task(region(), region(["dog"], x=0, y=0, width=100, height=33.333))))
    assert (dataset.task, dataset.file) == ("detection", "export.json")
    assert [entry.name for entry in dataset.classes] == ["cat", "dog"]
    assert dataset.images["file_name"].to_pylist() == ["a.png"]
    assert (dataset.images["width"].to_pylist(), dataset.images["height"].to_pylist()) == ([40], [20])
    assert boxes(dataset) == [[4, 10, 10, 2], [0, 0, 40, 6.67]]
    assert class_names(dataset) == ["cat", "dog"]
    assert dataset.notices == ()


def test_the_configuration_gives_field_and_order(tmp_path: Path) -> None:
    content = files(task(region(), region(["bird"]), data={"image": "b.png", "photo": "a.png"})) | {
        "config.xml": CONFIG
    }
    dataset = read("labelstudio", tmp_path, content)
    assert [entry.name for entry in dataset.classes] == ["dog", "cat", "bird"]
    assert '1 label ("bird") not listed in config.xml: behind the others, sorted.' in dataset.notices


def test_the_last_annotation_that_is_not_cancelled_counts(tmp_path: Path) -> None:
    entries = [
        {"result": [region(["a"])]},
        {"result": [region(["b"])]},
        {"result": [region(["c"])], "was_cancelled": True},
    ]
    others = [
        task(image="images/b.png", annotations=[], predictions=[{"result": [region(["d"])]}]),
        task(image="images/c.png", annotations=[{"result": [], "was_cancelled": True}]),
        task(image="images/d.png"),
    ]
    pictures = dict.fromkeys(("images/b.png", "images/c.png", "images/d.png"), PICTURE)
    dataset = read("labelstudio", tmp_path, files(task(annotations=entries), *others) | pictures)
    assert class_names(dataset) == ["b"]
    assert dataset.images["file_name"].to_pylist() == ["a.png", "d.png"]
    assert dataset.images["width"].to_pylist() == [40, 40]
    assert "2 tasks have no annotation that counts: passed over." in dataset.notices


def test_turned_rectangles_ellipses_and_polygons(tmp_path: Path) -> None:
    content = files(
        task(
            region(x=50, y=10, width=25, height=20, rotation=90),
            region(kind="ellipselabels", x=50, y=50, radiusX=10, radiusY=20, rotation=0),
            region(kind="polygonlabels", points=[[0, 0], [50, 0], [50, 50]]),
        )
    )
    dataset = read("labelstudio", tmp_path, content)
    assert boxes(dataset) == [[16, 2, 4, 10], [16, 6, 8, 8], [0, 0, 20, 10]]
    assert "1 rectangle is turned: of each the box around its corners is taken." in dataset.notices
    assert "1 ellipse: of each the box around it is taken." in dataset.notices
    dataset = read("labelstudio", tmp_path, task="segmentation")
    polygons = dataset.objects["polygons"].to_pylist()
    assert polygons[0] == [[2000, 200, 2000, 1200, 1600, 1200, 1600, 200]]
    assert polygons[2] == [[0, 0, 2000, 0, 2000, 1000]]


@pytest.mark.parametrize("corner", [(3, 5), (0, 0), (17, 36)])
def test_a_brush_is_a_mask(tmp_path: Path, corner: tuple[int, int]) -> None:
    painted = np.zeros((20, 40), bool)
    painted[corner[0] : corner[0] + 3, corner[1] : corner[1] + 4] = True
    painted[corner] = False
    content = files(task(region(kind="brushlabels", format="rle", rle=packed(painted))))
    dataset = read("labelstudio", tmp_path, content)
    assert boxes(dataset) == [[corner[1], corner[0], 4, 3]]
    mask = json.loads(dataset.objects["mask"][0].as_py())
    assert mask["size"] == [20, 40]
    flat = np.repeat(np.arange(len(mask["counts"])) % 2, mask["counts"])
    assert (painted == flat.reshape(40, 20).T).all()


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    content = files(
        task(
            region(["cat", "dog"]),
            region(kind="brushlabels", format="rle", rle=packed(np.zeros((20, 40), bool))),
            region(kind="keypointlabels", x=1, y=1, width=0.3),
            {"type": "relation", "from_id": "a", "to_id": "b"},
            {"type": "textarea", "id": "t", "value": {"text": ["hello"]}},
            {"type": "choices", "id": "q", "value": {"choices": ["day"]}},
            {"type": "rectangle", "id": "x", "value": {"x": 1, "y": 1, "width": 1, "height": 1}} | SIDES,
        )
    )
    dataset = read("labelstudio", tmp_path, content)
    assert set(dataset.notices) == {
        "detection is taken; classification could be chosen with --task.",
        "1 label of an image left out: not for detection.",
        "1 brush mask without a painted pixel is not read.",
        "1 key point is not read.",
        "1 entry of type 'relation' is not read.",
        "1 entry of type 'textarea' is not read.",
        "1 shape without a label is not read.",
        "1 region has several labels: an object of each.",
    }
    assert class_names(dataset) == ["cat", "dog"]
    assert class_names(read("labelstudio", tmp_path, task="classification")) == ["day"]


def test_a_label_and_a_choice_belong_to_the_shape_with_their_id(tmp_path: Path) -> None:
    shape = {"x": 10, "y": 50, "width": 25, "height": 10, "rotation": 0}
    result = [
        {"type": "rectangle", "id": "r", "value": shape} | SIDES,
        {"type": "labels", "id": "r", "value": shape | {"labels": ["cat"]}} | SIDES,
        {"type": "choices", "id": "r", "from_name": "age", "value": shape | {"choices": ["old"]}} | SIDES,
    ]
    dataset = read("labelstudio", tmp_path, files(task(*result)))
    assert boxes(dataset) == [[4, 10, 10, 2]]
    assert dataset.objects["attributes"].to_pylist() == ['{"age":"old"}']
    assert dataset.notices == ()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("s3://bucket/pets/train/a.png", "train/a.png"),
        ("https://host.example/pets/test/a.png?X-Amz-Signature=1", "test/a.png"),
        ("/data/local-files/?d=pets/train/a.png", "train/a.png"),
        ("/data/local-files/?d=pets%5Ctrain%5Ca.png", "train/a.png"),
        ("/data/upload/3/0a1b2c3d-b%20c.png", "b c.png"),
        ("/data/upload/3/0a1b2c3d-d.png", "images/0a1b2c3d-d.png"),
        ("e.png", "images/ffffffff-e.png"),
        ("../../train/a.png", "train/a.png"),
        ("missing.png", "missing.png"),
    ],
)
def test_the_key_with_the_longest_tail_is_the_image(tmp_path: Path, value: str, key: str) -> None:
    keys = ("train/a.png", "test/a.png", "b c.png", "images/0a1b2c3d-d.png", "images/ffffffff-e.png")
    content = {"export.json": json.dumps([task(region(), image=value)])} | dict.fromkeys(keys, PICTURE)
    assert read("labelstudio", tmp_path, content).images["key"].to_pylist() == [key]


def test_the_split_is_of_the_file_or_the_folders(tmp_path: Path) -> None:
    content = {"export.json": json.dumps([task(region(), image="train/a.png")]), "train/a.png": PICTURE}
    assert read("labelstudio", tmp_path / "1", content).images["split"].to_pylist() == ["train"]
    content = {"test-set.json": json.dumps([task(region(), image="train/a.png")]), "train/a.png": PICTURE}
    assert read("labelstudio", tmp_path / "2", content).images["split"].to_pylist() == ["test"]


def test_free_values_and_groups(tmp_path: Path) -> None:
    data = {"image": "a.png", "site": "north", "labeled_by": "a person"}
    dataset = read("labelstudio", tmp_path, files(task(region(), data=data)), group="site")
    assert dataset.images["group"].to_pylist() == ["north"]
    assert dataset.images["metadata"].to_pylist() == ['{"site":"north"}']
    with pytest.raises(InvalidConfig, match="group=camera is a field of no task"):
        read("labelstudio", tmp_path, group="camera")


def test_an_image_that_was_turned_in_the_tool_is_an_error(tmp_path: Path) -> None:
    dataset = read("labelstudio", tmp_path, files(task(region() | {"image_rotation": 90})))
    assert [(entry.severity, entry.code, entry.file_name) for entry in dataset.findings] == [
        ("error", "orientation", "a.png")
    ]


def broken(**value: Any) -> str:
    return json.dumps([task(region(**({"x": 1, "y": 1, "width": 1, "height": 1} | value)))])


BROKEN = {
    "truncated": (broken()[:-20], "export.json: the file is not JSON (line 1"),
    "NaN": (broken(x=float("nan")), "is not a finite number"),
    "a text": (broken(x="1"), "[0].annotations[0].result[0].value.x: expected float | null, got str"),
    "labels": (json.dumps([task({"type": "rectanglelabels", "value": {"rectanglelabels": "cat"}})]), "value.rectanglelabels: expected array"),
    "points": (broken(points=[[1, 2, 3]]), "value.points"),
    "two corners": (broken(points=[[1, 2], [3, 4]]), "value.points: fewer than 3 corners"),
    "no width": (broken(width=None), "value.width is missing"),
    "no data": (json.dumps([{"data": [], "annotations": []}]), "[0].data: expected object, got array"),
    "no image": (json.dumps([task(region(), data={"text": "hello"})]), "export.json: [0].data.image is missing"),
    "an image in it": (json.dumps([task(region(), image="data:image/png;base64,aaaa")]), "it holds the image itself"),
    "a number": (json.dumps([task(region(), image=7)]), "[0].data.image: expected the path of an image, got 7"),
    "no file": (json.dumps([task(region(), image="https://host/..")]), "names no file"),
    "nothing": (json.dumps([task(region(), image="")]), "names no file"),
    "a control character": (json.dumps([task(region(), image="a\x01b.png")]), "holds a control character"),
    "no address": (json.dumps([task(region(), image="http://[a/b.png")]), "is not an address"),
    "depth": ('[{"data": {"image": "a.png", "x": ' + "[" * 100_000, "nested too deeply"),
    "twice": (json.dumps([task(region()), task(region())]), '[1]: the image "a.png" is already that of export.json: [0]'),
    "nobody": (json.dumps([task(annotations=[])]), "no task is labelled"),
    "nothing labelled": (json.dumps([task()]), "nothing is labelled, so there is no class"),
    "a class": (json.dumps([task(region(["\x00"]))]), "the class name"),
}  # fmt: skip


WRONG_MASKS = {
    "a wrong mask": (broken(rle=[1, 2, 3]), "value.rle: not the mask of a picture of 40 × 20 pixels"),
    "a cut mask": (broken(rle=packed(np.eye(20, 40, dtype=bool))[:-30]), "value.rle: not the mask of a picture"),
    "no bytes": (broken(rle=[1, -2]), "value.rle: expected a list of whole numbers from 0 to 255"),
    "no list": (broken(rle={"a": 1}), "value.rle: expected a list of whole numbers from 0 to 255"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_a_wrong_mask_is_a_finding(tmp_path: Path, case: str) -> None:
    text, words = WRONG_MASKS[case]
    [finding] = read("labelstudio", tmp_path, {"export.json": text, "a.png": PICTURE}).findings
    assert (finding.severity, finding.code, finding.file_name) == ("error", "mask", "a.png")
    assert finding.field == "[0].result[0]"
    assert finding.sentence.startswith("export.json: a.png: [0].result[0].value.rle: ")
    assert words in finding.sentence


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, case: str) -> None:
    text, words = BROKEN[case]
    sentence = refused("labelstudio", tmp_path, {"export.json": text, "a.png": PICTURE})
    assert words in sentence
    assert sentence.startswith("export.json: ")


def test_an_upload_whose_name_differs_in_case_has_a_hint(tmp_path: Path) -> None:
    text = task(region(), image="/data/upload/1/cccccccc-Photo.png")
    content: dict[str, str | bytes] = {"export.json": json.dumps([text]), "images/cccccccc-photo.png": PICTURE}
    assert "they differ in case; rename" in read("labelstudio", tmp_path, content).notices[-1]


def test_two_images_that_fit_equally_and_a_wrong_configuration(tmp_path: Path) -> None:
    content = files(task(region(), image="a.png")) | {"b/a.png": PICTURE}
    assert '"a.png" could be ' in refused("labelstudio", tmp_path / "1", content)
    content = files(task(region())) | {"config.xml": "<!DOCTYPE v [<!ENTITY a 'b'>]><View/>"}
    assert "config.xml: the XML declares a document type" in refused("labelstudio", tmp_path / "2", content)
    content["config.xml"] = '<View><Image value="$a"/><Image value="$b"/></View>'
    assert "it labels several images at once" in refused("labelstudio", tmp_path / "3", content)


@pytest.mark.parametrize("data", [b"", b'[{"id": 1, "da', b'[{"id": 1, "data": [[1]', b"\xff\xfe["])
def test_a_second_file_that_is_not_whole_is_not_passed_over(tmp_path: Path, data: bytes) -> None:
    sentence = refused("labelstudio", tmp_path, files(task(region())) | {"more.json": data})
    assert sentence.startswith("more.json: the file ")


def test_other_json_is_passed_over_and_told(tmp_path: Path) -> None:
    content = files(task(region())) | {
        "empty.json": "[]",
        "notes.json": '{"by": "me"}',
        "long.json": f'["{"x" * 2**17}"]',
    }
    assert read("labelstudio", tmp_path, content).notices == (
        "3 JSON files are not of Label Studio and passed over (empty.json, long.json, notes.json).",
    )


def test_the_end_of_a_file_is_read_only_where_its_start_says_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []

    def read_end(prefix: Prefix, key: str, size: int) -> bytes:
        ends.append(key)
        return b"]"

    monkeypatch.setattr(Prefix, "read_end", read_end)
    more = [dict(task(region(), image=f"more/{number}.png"), note="x" * 2**17) for number in range(2)]
    content = files(task(region())) | {"more.json": json.dumps(more), "other.json": f'["{"x" * 2**17}"]'}
    assert len(read("labelstudio", tmp_path, content).images) == 3
    assert ends == ["other.json"]


def test_the_data_of_the_first_task_may_stand_behind_long_annotations(tmp_path: Path) -> None:
    brush = region(kind="brushlabels", format="rle", rle=[0] * 2**16)
    skipped, labelled = {"result": [brush], "was_cancelled": True}, {"result": [region()]}
    first = {"id": 1, "annotations": [skipped, labelled], "data": {"image": "a.png"}}
    content = files(first) | {"more.json": json.dumps([task(region(), image="b.png")])}
    assert len(read("labelstudio", tmp_path, content).images) == 2
    source = Source(open_prefix(str(tmp_path / "dataset"), "dataset"), tmp_path)
    assert choose(source, None, "--format") == ("labelstudio", "export.json")


def test_tasks_are_decoded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionloop.data.formats.labelstudio.document.TASKS_AT_ONCE", 2)
    entries = [task(region(), image=f"{number}.png") for number in range(5)]
    assert len(read("labelstudio", tmp_path, files(*entries)).images) == 5
    entries[3]["annotations"][0]["result"][0]["value"]["x"] = "1"
    assert "export.json: [3].annotations[0].result[0].value.x" in refused("labelstudio", tmp_path, files(*entries))


VALID = json.dumps([task(region(), region(kind="polygonlabels", points=[[1, 1], [2, 2], [3, 1.5]]))])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.text('[]{}":,0-9nax. \x00é', max_size=4))
def test_a_file_changed_anywhere_is_read_or_refused_in_a_sentence(tmp_path: Path, at: int, cut: int, put: str) -> None:
    text = VALID[:at] + put + VALID[at + cut :]
    sentence = read_or_refused("labelstudio", tmp_path, {"export.json": text, "a.png": PICTURE})
    assert sentence is None or "export.json" in sentence
