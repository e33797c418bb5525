"""A missing image whose name differs from that of another in Unicode form, case or a doubled folder alone gets a hint, in every format."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import layouts
import pytest
import test_formats_in_stages as samples

NAME = "é.png"
HINTS = {"form": "Unicode form", "case": "in case", "doubled": "a folder is doubled"}


def renamed(folder: Path) -> Path:
    """The sample with one image, and what names it, called NAME."""
    image = next(folder.rglob("a.png"))
    image.rename(image.with_name(NAME))
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".xml", ".yaml", ".txt"):
            text = path.read_text().replace("a.png", NAME)
            path.write_text("é\n" if path.name == "train.txt" else text)
        if path.stem == "a":
            path.rename(path.with_stem("é"))
    for path in folder.glob("Annotations/é.xml"):
        path.write_text(path.read_text().replace("<annotation>", f"<annotation><filename>{NAME}</filename>"))
    if (folder / "data.yaml").exists():
        (folder / "train.txt").write_text(f"images/train/{NAME}\n")
        (folder / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    return folder


def test_classes_whose_names_are_nearly_equal_are_told(tmp_path: Path) -> None:
    folder = layouts.coco(tmp_path)
    for path in folder.glob("annotations/*.json"):
        content = json.loads(path.read_text())
        content["categories"] += [{"id": 5, "name": "Cat"}, {"id": 6, "name": "dog "}]
        path.write_text(json.dumps(content))
    assert layouts.read(folder, "coco").notices == (
        '"cat" and "Cat" are two classes: they differ in case; rename one if they are one class.',
        '"dog" and "dog " are two classes: they differ in white space; rename one if they are one class.',
    )


@pytest.mark.parametrize("kind", HINTS)
@pytest.mark.parametrize("name", samples.DETECTION)
def test_a_name_that_is_nearly_there_is_told(tmp_path: Path, name: str, kind: str) -> None:
    folder = renamed(samples.DETECTION[name](tmp_path / name))
    assert not any("does not exist" in notice for notice in layouts.read(folder, name).notices)
    image = next(folder.rglob(NAME))
    other = {
        "form": image.with_name(unicodedata.normalize("NFD", NAME)),
        "case": image.with_name(NAME.upper()),
        "doubled": image.parent / image.parent.name / NAME,
    }[kind]
    other.parent.mkdir(exist_ok=True)
    image.rename(other)
    told = [notice for notice in layouts.read(folder, name).notices if "does not exist" in notice]
    if name == "labelstudio" and kind == "doubled":
        assert told == []  # the longest tail of its path finds the image
    else:
        (notice,) = told
        assert HINTS[kind] in notice
        assert other.relative_to(folder).as_posix() in notice


def test_an_image_of_another_name_has_no_hint(tmp_path: Path) -> None:
    folder = samples.coco(tmp_path / "coco")
    next(folder.rglob("a.png")).unlink()
    assert not any("does not exist" in notice for notice in layouts.read(folder, "coco").notices)
