"""Pascal VOC: boxes that count from 1, images by the XML's name, splits from ImageSets or folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import PICTURE, boxes, class_names, picture, read, read_or_refused, refused

from visionloop.core.errors import VisionloopError


def voc_object(name: str = "dog", box: tuple[object, ...] = (1, 1, 10, 20), more: str = "") -> str:
    corners = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def voc(*objects: str, size: tuple[object, object] = (40, 20), more: str = "", filename: str = "other.jpg") -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{more}{''.join(objects)}</annotation>"


def test_a_dataset_with_lists(tmp_path: Path) -> None:
    second = voc_object(
        "cat", (2.5, "3.0", 7.25, 4), "<difficult>1</difficult><truncated>0</truncated><pose>Left</pose>"
    )
    files = {
        "Annotations/a.xml": voc(voc_object(), second),
        "Annotations/b.xml": voc(size=(0, 0)),
        "Annotations/c.xml": voc(voc_object()),
        "JPEGImages/a.jpg": PICTURE,
        "JPEGImages/b.png": picture(33, 44),
        "JPEGImages/c.jpg": PICTURE,
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "b  1\n",
        "ImageSets/Main/trainval.txt": "a\nb\nc\n",
    }
    dataset = read("voc", tmp_path, files)
    assert dataset.task == "detection"
    assert [(entry.id, entry.name) for entry in dataset.classes] == [(0, "cat"), (1, "dog")]
    assert dataset.images["file_name"].to_pylist() == ["JPEGImages/a.jpg", "JPEGImages/b.png", "JPEGImages/c.jpg"]
    assert dataset.images["split"].to_pylist() == ["train", "val", None]
    assert dataset.images["file"].to_pylist() == ["Annotations/a.xml", "Annotations/b.xml", "Annotations/c.xml"]
    assert dataset.images["width"].to_pylist() == [40, 33, 40]
    assert dataset.images["height"].to_pylist() == [20, 44, 20]
    assert class_names(dataset) == ["dog", "cat", "dog"]
    assert boxes(dataset) == [[0, 0, 10, 20], [1.5, 2, 5.75, 2], [0, 0, 10, 20]]
    assert dataset.objects["attributes"].to_pylist() == [None, '{"difficult":1,"pose":"Left"}', None]
    assert dataset.notices == ("1 XML file stands in no list of ImageSets/Main: no split is stated.",)


@pytest.mark.parametrize(
    ("xml", "image", "split"),
    [
        ("train/a.xml", "train/a.jpg", "train"),
        ("images/a.xml", "images/a.jpg", None),
        ("a.xml", "a.jpg", None),
        ("a.xml", "images/a.jpg", None),
        ("annotations/a.xml", "images/a.jpg", None),
        ("annotations/xmls/a.xml", "images/a.jpg", None),
        ("Annotations/valid/a.xml", "JPEGImages/valid/a.jpg", "val"),
        ("Annotations/test2007/a.xml", "JPEGImages/a.jpg", "test"),
        ("VOCdevkit/VOC2012/Annotations/a.xml", "VOCdevkit/VOC2012/JPEGImages/a.jpg", None),
        ("Annotations/a.xml", "JPEGImages/other.jpg", None),
        ("Annotations/a.xml", "Annotations/other.jpg", None),
    ],
)
def test_where_an_image_lies(tmp_path: Path, xml: str, image: str, split: str | None) -> None:
    dataset = read("voc", tmp_path, {xml: voc(voc_object()), image: PICTURE})
    assert dataset.images["key"].to_pylist() == [image]
    assert dataset.images["split"].to_pylist() == [split]
    assert dataset.notices == ()


def test_two_datasets_below_one_folder_keep_to_themselves(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for year, split in (("2007", "train"), ("2012", "val")):
        files[f"VOC{year}/Annotations/a.xml"] = voc(voc_object())
        files[f"VOC{year}/JPEGImages/a.jpg"] = PICTURE
        files[f"VOC{year}/ImageSets/Main/{split}.txt"] = "a"
    dataset = read("voc", tmp_path, files)
    assert dataset.images["split"].to_pylist() == ["train", "val"]


def test_a_name_may_end_as_a_list_of_a_class_marks_it(tmp_path: Path) -> None:
    names = ("photo 1", "photo  0", "b")
    files: dict[str, str | bytes] = {f"Annotations/{name}.xml": voc(voc_object()) for name in names}
    files |= {f"JPEGImages/{name}.jpg": PICTURE for name in names}
    files |= {"ImageSets/Main/train.txt": "photo 1\nb  1\n", "ImageSets/Main/val.txt": "photo  0  -1\n"}
    images = read("voc", tmp_path, files).images
    splits = dict(zip(images["key"].to_pylist(), images["split"].to_pylist(), strict=True))
    assert splits == {"JPEGImages/photo 1.jpg": "train", "JPEGImages/photo  0.jpg": "val", "JPEGImages/b.jpg": "train"}


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    files = {
        "Annotations/a.xml": voc(voc_object()),
        "JPEGImages/A.JPG": PICTURE,
        "JPEGImages/without.jpg": PICTURE,
        "SegmentationObject/a.png": PICTURE,
        "ImageSets/Main/train.txt": "a\ngone\n/etc/passwd\n../b\n",
        "__MACOSX/Annotations/._a.xml": b"\x00\x05",
    }
    dataset = read("voc", tmp_path, files)
    assert dataset.images["key"].to_pylist() == ["JPEGImages/other.jpg"]
    output = "\n".join(dataset.notices)
    assert "1 hidden file is passed over." in output
    assert '3 names in the lists of ImageSets/Main without an XML file ("../b" in ImageSets/Main/train.txt)' in output
    assert "1 mask of SegmentationClass and SegmentationObject: passed over" in output
    assert "2 images without an XML file" in output


def test_lists_in_capitals_give_the_splits(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": voc(voc_object()), "JPEGImages/a.jpg": PICTURE, "imagesets/main/Train.TXT": "a\n"}
    assert read("voc", tmp_path, files).images["split"].to_pylist() == ["train"]


@pytest.mark.parametrize("tag", ["name", "bndbox"])
def test_what_an_object_states_twice_is_refused(tmp_path: Path, tag: str) -> None:
    text = re.sub(rf"(<{tag}>.*?</{tag}>)", r"\1\1", voc(voc_object()), count=1, flags=re.DOTALL)
    part = voc(voc_object().replace("</object>", "<part><name>head</name><bndbox/></part></object>"))
    assert len(read("voc", tmp_path / "1", {"a.xml": part, "a.jpg": PICTURE}).objects) == 1
    sentence = refused("voc", tmp_path / "2", {"a.xml": text, "a.jpg": PICTURE})
    assert sentence == f"a.xml: object[0].{tag} stands twice; leave one, or export it again."


def test_a_missing_image_whose_name_differs_in_case_has_a_hint(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": voc(voc_object(), filename="a.jpg"), "JPEGImages/A.JPG": PICTURE}
    assert "they differ in case; rename one of them" in read("voc", tmp_path, files).notices[-1]


def test_a_group_is_a_field_of_the_files(tmp_path: Path) -> None:
    files = {"a.xml": voc(voc_object(), more="<site>north</site>"), "a.jpg": PICTURE}
    dataset = read("voc", tmp_path, files, group="site")
    assert dataset.images["group"].to_pylist() == ["north"]
    assert dataset.images["metadata"].to_pylist() == ['{"site":"north"}']
    with pytest.raises(VisionloopError, match="group=camera is a field of no file"):
        read("voc", tmp_path, group="camera")


BROKEN = {
    "truncated": (voc(voc_object())[:-30], "a.xml: the XML is not well formed (line 1"),
    "empty": ("", "a.xml: the XML is not well formed (line 1, column 0: no element found)"),
    "doctype": ("<!DOCTYPE a>" + voc(voc_object()), "a.xml: the XML declares a document type"),
    "another root": ("<html/>", 'a.xml: the root is "html", not "annotation"'),
    "NaN": (voc(voc_object(box=("nan", 1, 2, 3))), 'a.xml: object[0].bndbox.xmin: "nan" is not a finite number'),
    "infinite": (voc(voc_object(box=(1, 1, 2, "1e999"))), 'object[0].bndbox.ymax: "1e999" is not a finite number'),
    "a word": (voc(voc_object(box=(1, "one", 2, 3))), 'object[0].bndbox.ymin: "one" is not a finite number'),
    "no corner": (voc("<object><name>x</name><bndbox/></object>"), "a.xml: object[0].bndbox.xmin is missing"),
    "no box": (
        voc("<object><name>x</name></object>"),
        "object[0].bndbox is missing, and other shapes than boxes are not",
    ),
    "no name": (voc("<object/>"), "a.xml: object[0].name is missing"),
    "difficult": (voc(voc_object(more="<difficult>7</difficult>")), 'object[0].difficult: "7" is not 0 or 1'),
    "size": (voc(voc_object(), size=("12.5", 20)), 'a.xml: size.width: "12.5" is not a whole number of pixels'),
    "negative": (voc(voc_object(), size=(-4, 20)), 'a.xml: size.width: "-4" is not a whole number of pixels'),
    "absolute": (voc(voc_object(), filename="/etc/passwd"), 'a.xml: filename: "/etc/passwd" is an absolute path'),
    "above": (voc(voc_object(), filename="../../b.jpg"), 'a.xml: filename: "../../b.jpg" holds a relative folder'),
    "backslash": (voc(voc_object(), filename=r"C:\b.jpg"), "holds a backslash"),
    "no object": (voc(), "no object is labelled"),
    "long name": (voc(voc_object("x" * 5000)), "object[0].name: the class name"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, case: str) -> None:
    text, words = BROKEN[case]
    assert words in refused("voc", tmp_path, {"a.xml": text})


def test_contradictions_are_named(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.xml": voc(voc_object()), "a.jpg": PICTURE, "a.png": PICTURE}
    assert refused("voc", tmp_path / "1", files).startswith("a.xml: a.jpg and a.png could both be its image")
    files = {"Annotations/a.xml": voc(voc_object(), filename="a.jpg"), "JPEGImages/a.jpg": PICTURE}
    files["JPEGImages/a.xml"] = voc(voc_object())
    assert 'the image "JPEGImages/a.jpg" is already that of Annotations/a.xml' in refused("voc", tmp_path / "2", files)
    files = {"Annotations/a.xml": voc(voc_object()), "JPEGImages/a.jpg": PICTURE}
    files |= {"ImageSets/Main/train.txt": "a", "ImageSets/Main/test.txt": "a"}
    assert '"a" stands in ImageSets/Main/' in refused("voc", tmp_path / "3", files)
    files |= {"ImageSets/Main/test.txt": b"\xff\xfe"}
    assert "ImageSets/Main/test.txt: the file is not UTF-8 text" in refused("voc", tmp_path / "4", files)


def test_another_task_is_a_wrong_configuration(tmp_path: Path) -> None:
    sentence = refused("voc", tmp_path, {"a.xml": voc(voc_object())}, task="pose", code=78)
    assert sentence == "--task pose: Pascal VOC is read for detection; choose --task detection."


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    assert "are more than an XML file of one image has" in refused("voc", tmp_path, {"a.xml": b" " * (2**24 + 1)})


VALID = voc(voc_object(), voc_object("cat", (3, 4, 5, 6), "<difficult>1</difficult>"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.text('<>/&;!"0-9nax. \x00é', max_size=4))
def test_a_file_changed_anywhere_is_read_or_refused_in_a_sentence(tmp_path: Path, at: int, cut: int, put: str) -> None:
    text = VALID[:at] + put + VALID[at + cut :]
    files = {"Annotations/a.xml": text, "JPEGImages/a.jpg": PICTURE}
    if sentence := read_or_refused("voc", tmp_path, files):
        assert "Annotations/a.xml" in sentence or "no object is labelled" in sentence
