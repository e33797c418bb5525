"""CVAT's XML for images: order of the labels, subsets, every shape, and what is not read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import PICTURE, boxes, class_names, picture, read, read_or_refused, refused

from visionloop.core.errors import InvalidConfig
from visionloop.data import formats

LABELS = "<label><name>dog</name><color>#ff0000</color></label><label><name>cat</name></label>"
PERSON = "<label><name>person</name><type>skeleton</type></label>" + "".join(
    f"<label><name>{name}</name><type>points</type><parent>person</parent></label>"
    for name in ("left eye", "Right eye", "nose")
)
BOX = '<box label="cat" occluded="0" xtl="1.5" ytl="2" xbr="11.25" ybr="12.0"/>'


def cvat(*shapes: str, labels: str = LABELS, attributes: str = 'name="a.png" width="40" height="20"') -> str:
    meta = f"<meta><task><name>pets</name><labels>{labels}</labels></task></meta>"
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}<image id="7" {attributes}>{"".join(shapes)}</image></annotations>'


def files(text: str) -> dict[str, str | bytes]:
    return {"annotations.xml": text, "images/a.png": PICTURE}


def test_boxes_labels_and_attributes(tmp_path: Path) -> None:
    second = '<box label="dog" occluded="1" xtl="0" ytl="0" xbr="2" ybr="2"><attribute name="age">old</attribute></box>'
    text = cvat(BOX, second, attributes='name="a.png" subset="Validation" width="40.0" height="20"')
    dataset = read("cvat", tmp_path, files(text))
    assert (dataset.task, dataset.file) == ("detection", "annotations.xml")
    assert [(entry.id, entry.name, entry.color) for entry in dataset.classes] == [
        (0, "dog", "#ff0000"),
        (1, "cat", None),
    ]
    assert dataset.images["file_name"].to_pylist() == ["a.png"]
    assert dataset.images["key"].to_pylist() == ["images/a.png"]
    assert dataset.images["split"].to_pylist() == ["val"]
    assert class_names(dataset) == ["cat", "dog"]
    assert boxes(dataset) == [[1.5, 2, 9.75, 10], [0, 0, 2, 2]]
    assert dataset.objects["attributes"].to_pylist() == [None, '{"age":"old","occluded":1}']
    assert dataset.objects["polygons"].null_count == 2
    assert dataset.notices == ()


def test_polygons_serve_detection_and_segmentation(tmp_path: Path) -> None:
    text = cvat(BOX, '<polygon label="dog" points="1,1;5,1;5,4.5"/>')
    dataset = read("cvat", tmp_path, files(text))
    assert dataset.task == "detection"
    assert boxes(dataset)[1] == [1, 1, 4, 3.5]
    assert "detection is taken; segmentation could be chosen with --task." in dataset.notices
    dataset = read("cvat", tmp_path, task="segmentation")
    corners = [[[150, 200, 1125, 200, 1125, 1200, 150, 1200]], [[100, 100, 500, 100, 500, 450]]]
    assert dataset.objects["polygons"].to_pylist() == corners
    assert dataset.notices == ("1 rectangle becomes a polygon of its corners each.",)


def test_a_turned_box_and_an_ellipse_are_bounded_and_told(tmp_path: Path) -> None:
    turned = '<box label="cat" xtl="10" ytl="4" xbr="20" ybr="8" rotation="90"/>'
    text = cvat(turned, '<ellipse label="dog" cx="20" cy="10" rx="8" ry="4" rotation="0"/>')
    dataset = read("cvat", tmp_path, files(text))
    assert boxes(dataset) == [[13, 1, 4, 10], [12, 6, 16, 8]]
    assert "1 rectangle is turned: of each the box around its corners is taken." in dataset.notices
    assert "1 ellipse: of each the box around it is taken." in dataset.notices
    segments = read("cvat", tmp_path, task="segmentation").objects["polygons"].to_pylist()
    assert sorted(zip(segments[0][0][::2], segments[0][0][1::2], strict=True)) == [
        (1300, 100), (1300, 1100), (1700, 100), (1700, 1100)
    ]  # fmt: skip
    assert len(segments[1][0]) == 96


@pytest.mark.parametrize("at", [(3, 2), (0, 0), (37, 18), (5, 18)])
def test_a_mask_has_cocos_runs(tmp_path: Path, at: tuple[int, int]) -> None:
    text = f'<mask label="cat" rle="1,2,1,2" left="{at[0]}" top="{at[1]}" width="3" height="2"/>'
    dataset = read("cvat", tmp_path, files(cvat(text)))
    assert boxes(dataset) == [[*at, 3, 2]]
    mask = json.loads(dataset.objects["mask"][0].as_py())
    assert mask["size"] == [20, 40]
    flat = np.repeat(np.arange(len(mask["counts"])) % 2, mask["counts"])
    painted = [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert np.argwhere(flat.reshape(40, 20).T).tolist() == [[at[1] + row, at[0] + column] for row, column in painted]


def test_skeletons_are_poses(tmp_path: Path) -> None:
    points = (
        '<points label="nose" outside="0" occluded="1" points="5.5,6"/>'
        '<points label="left eye" outside="0" occluded="0" points="1,2"/>'
        '<points label="Right eye" outside="1" occluded="0" points="0,0"/>'
    )
    dataset = read("cvat", tmp_path, files(cvat(f'<skeleton label="person">{points}</skeleton>', labels=PERSON)))
    assert dataset.task == "pose"
    assert [entry.name for entry in dataset.classes] == ["person"]
    assert dataset.classes[0].keypoints == ("left eye", "Right eye", "nose")
    assert dataset.classes[0].flip_pairs == ((0, 1),)
    assert dataset.objects["keypoints"].to_pylist() == [[100, 200, 2, 0, 0, 0, 550, 600, 1]]
    assert boxes(dataset) == [[1, 2, 4.5, 4]]
    assert any("skeletons have no box" in notice for notice in dataset.notices)


def test_tags_are_classification(tmp_path: Path) -> None:
    dataset = read("cvat", tmp_path, files(cvat('<tag label="cat"/>')))
    assert (dataset.task, class_names(dataset)) == ("classification", ["cat"])
    assert dataset.objects["x"].null_count == 1


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    shapes = (
        '<polyline label="cat" points="1,1;2,2"/>',
        '<points label="cat" points="1,1"/>',
        '<cuboid label="cat"/>',
        '<future label="cat"/>',
        '<tag label="cat"/>',
        '<box label="bird" group_id="3" xtl="0" ytl="0" xbr="2" ybr="2"/>',
    )
    text = cvat(*shapes, attributes='name="a.png" subset="night" width="40" height="20"')
    dataset = read("cvat", tmp_path, files(text))
    assert dataset.notices == (
        "detection is taken; classification could be chosen with --task.",
        "1 label of an image left out: not for detection.",
        "1 cuboid is not read.",
        '1 element "future" is not read.',
        "1 polyline is not read.",
        "1 shape of single points is not read.",
        '1 label ("bird") not listed in meta: behind the others, sorted.',
        '1 image is of the subset "night": no split is stated.',
        "1 shape has a group_id: each is an object by itself.",
    )
    assert dataset.images["split"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("name", "subset", "key"),
    [
        ("a.png", "", "a.png"),
        ("b/a.png", "", "images/b/a.png"),
        ("a.png", "Train", "images/Train/a.png"),
        ("a.png", "Train", "Train/a.png"),
        ("frame_000001", "", "images/frame_000001.PNG"),
    ],
)
def test_where_an_image_lies(tmp_path: Path, name: str, subset: str, key: str) -> None:
    text = cvat(BOX, attributes=f'name="{name}" subset="{subset}" width="40" height="20"')
    dataset = read("cvat", tmp_path, {"annotations.xml": text, key: PICTURE})
    assert dataset.images["key"].to_pylist() == [key]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"<?xml version='1.0'?><annot", "the file ends before it is complete"),
        (b"<?xml version='1.0'?><annot".decode().encode("utf-16"), "the file ends before it is complete"),
        (b"PK\x03\x04", "the file does not begin as its name says"),
        (b"<?xml version='1.0'?>", "the file ends before it is complete"),
        (b"<export><version>1</version>", "the file ends before it is complete"),
    ],
)
def test_a_second_file_that_is_not_whole_is_not_passed_over(tmp_path: Path, data: bytes, words: str) -> None:
    assert f"more.xml: {words}; export it again" in refused("cvat", tmp_path, files(cvat(BOX)) | {"more.xml": data})


def test_a_second_file_of_something_else_is_passed_over(tmp_path: Path) -> None:
    content = files(cvat(BOX)) | {"more.xml": b"<svg/>\n", "wrong.xml": b"<!-- a picture --><a>&b;</a>"}
    read_ = read("cvat", tmp_path, content)
    assert len(read_.images) == 1
    assert read_.notices == ("2 XML files are not of CVAT and passed over (more.xml, wrong.xml).",)


def test_a_missing_image_whose_name_differs_in_case_has_a_hint_wherever_the_other_lies(tmp_path: Path) -> None:
    text = cvat(BOX, attributes='name="A.png" width="40" height="20"')
    assert (
        "they differ in case; rename" in read("cvat", tmp_path, {"annotations.xml": text, "a.png": PICTURE}).notices[-1]
    )


def test_several_files_and_sizes_that_are_not_stated(tmp_path: Path) -> None:
    content: dict[str, str | bytes] = {
        "train.xml": cvat(BOX, attributes='name="a.png"'),
        "images/a.png": picture(30, 31),
    }
    content["test.xml"] = cvat(BOX, attributes='name="b.png" width="0" height="0"')
    dataset = read("cvat", tmp_path, content)
    rows = {row["file_name"]: row for row in dataset.images.to_pylist()}
    assert (rows["a.png"]["width"], rows["a.png"]["height"], rows["a.png"]["split"]) == (30, 31, "train")
    assert (rows["b.png"]["width"], rows["b.png"]["split"], rows["b.png"]["file"]) == (None, "test", "test.xml")
    content["test.xml"] = cvat(BOX, attributes='name="a.png"')
    assert '"a.png" is already that of test.xml: image[0]' in refused("cvat", tmp_path / "2", content)


BROKEN = {
    "truncated": (cvat(BOX)[:-20], "annotations.xml: the XML is not well formed (line 1"),
    "a video": ('<annotations><track id="0" label="cat"/></annotations>', "tracks of a video, and only images are read"),
    "entities": (cvat(BOX).replace("?>", '?><!DOCTYPE a [<!ENTITY e "x">]>', 1), "declares a document type"),
    "depth": (cvat("<box>" * 100), "nested deeper than 64 levels"),
    "no image": ("<annotations><version>1.1</version></annotations>", "annotations.xml: there is no image"),
    "no name": (cvat(BOX, attributes='width="4"'), 'annotations.xml: image[0].name: "" is empty'),
    "absolute": (cvat(BOX, attributes='name="/etc/passwd"'), 'image[0].name: "/etc/passwd" is an absolute path'),
    "above": (cvat(BOX, attributes='name="../a.png"'), 'image[0].name: "../a.png" holds a relative folder'),
    "URL": (cvat(BOX, attributes='name="https://host/a.png"'), "is a URL, which is not followed"),
    "a side": (cvat(BOX, attributes='name="a.png" width="x"'), 'image[0].width: "x" is not a finite number'),
    "NaN": (cvat(BOX.replace("1.5", "nan")), 'image[0].box[0].xtl: "nan" is not a finite number'),
    "a corner": (cvat(BOX.replace("ybr", "yyy")), "image[0].box[0].ybr is missing"),
    "no label": (cvat("<box/>"), "image[0].box[0]: label is missing"),
    "points": (cvat('<polygon label="cat" points="1,1;2"/>'), "is not a list of x,y;x,y"),
    "two corners": (cvat('<polygon label="cat" points="1,1;2,2"/>'), "fewer than 3 corners"),
    "no points": (cvat('<polygon label="cat"/>'), "image[0].polygon[0].points is missing"),
    "a keypoint": (
        cvat('<skeleton label="person"><points label="tail" points="1,1"/></skeleton>', labels=PERSON),
        'points[0]: "tail" is not a keypoint of "person"',
    ),
    "an unnamed label": (cvat(BOX, labels="<label/>"), "meta.labels: the class name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, case: str) -> None:
    text, words = BROKEN[case]
    sentence = refused("cvat", tmp_path, files(text))
    assert words in sentence
    assert sentence.startswith("annotations.xml: ")


WRONG_MASKS = {
    "runs": (cvat('<mask label="cat" rle="1,2" left="0" top="0" width="2" height="2"/>'), "the runs cover 3 pixels, not 2 × 2"),
    "a mask outside": (cvat('<mask label="cat" rle="4" left="39" top="0" width="2" height="2"/>'), "does not lie in its image"),
    "a huge mask": (
        cvat('<mask label="cat" rle="4" left="0" top="0" width="2" height="2"/>', attributes='name="a.png" width="2000000000" height="2000000000"'),
        "does not lie in its image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_MASKS)
def test_a_wrong_mask_is_a_finding(tmp_path: Path, case: str) -> None:
    text, words = WRONG_MASKS[case]
    [finding] = read("cvat", tmp_path, files(text)).findings
    assert (finding.severity, finding.code, finding.file_name, finding.field) == (
        "error",
        "mask",
        "a.png",
        "image[0][0]",
    )
    assert words in finding.sentence
    assert finding.sentence.startswith("annotations.xml: a.png: image[0].mask[0]")


def test_a_task_that_nothing_is_labelled_for(tmp_path: Path) -> None:
    sentence = refused("cvat", tmp_path, files(cvat(BOX)), task="pose", code=78)
    assert sentence == "annotations.xml: nothing is labelled for pose; choose --task detection."
    with pytest.raises(InvalidConfig, match="group=camera is a field of no image"):
        read("cvat", tmp_path, group="camera")


def test_it_is_recognised_by_its_root() -> None:
    def evidence(name: str, text: bytes) -> str | None:
        return formats.FORMATS[name].recognise(formats.Listing(["a.xml"], lambda key: (text, b"")))

    assert evidence("cvat", cvat().encode("utf-16")) == "a.xml"
    assert evidence("voc", cvat().encode()) is None
    assert evidence("voc", b'<annotation verified="yes">') == "a.xml"
    assert evidence("cvat", b"<annotation>") is None


VALID = cvat(
    BOX,
    '<polygon label="dog" points="1,1;5,1;5,4.5"/>',
    '<mask label="cat" rle="1,3" left="0" top="0" width="2" height="2"/>',
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.text('<>/&;!"0-9nax. \x00é', max_size=4))
def test_a_file_changed_anywhere_is_read_or_refused_in_a_sentence(tmp_path: Path, at: int, cut: int, put: str) -> None:
    text = VALID[:at] + put + VALID[at + cut :]
    sentence = read_or_refused("cvat", tmp_path, files(text))
    assert sentence is None or "annotations.xml" in sentence
