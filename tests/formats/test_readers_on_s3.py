"""Each format read from S3, where it gives what it gives from files."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import layouts
import pytest
from reading import PICTURE, written

from visionloop.core.errors import DatasetNotFound
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data import formats
from visionloop.data.annotations.tables import Annotations

#: Names that a folder and a bucket could list in another order.
NAMES = ("a-1", "a/1", "B", "é x", "a.b")

VOC = (
    "<annotation><size><width>40</width><height>20</height></size><object><name>{name}</name>"
    "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9.5</xmax><ymax>8</ymax></bndbox></object></annotation>"
)
CVAT = '<image id="{number}" name="{name}.png" width="40" height="20"><box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/></image>'


def pictures(below: str) -> dict[str, Any]:
    return {f"{below}{name}.png": PICTURE for name in NAMES}


def label_studio() -> list[dict[str, Any]]:
    value = {"x": 10, "y": 50, "width": 25, "height": 10, "rectanglelabels": ["cat"]}
    region = {"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 20}
    return [
        {"id": number, "data": {"image": f"images/{name}.png"}, "annotations": [{"result": [region]}]}
        for number, name in enumerate(NAMES)
    ]


def dataset(folder: Path, name: str) -> Path:
    """A small dataset of a format in a folder."""
    if name in ("dice", "coco"):
        return {"dice": layouts.dice, "coco": layouts.coco}[name](folder)
    labels = "<label><name>cat</name></label>"
    images = "".join(CVAT.format(number=number, name=text) for number, text in enumerate(NAMES))
    files: dict[str, dict[str, Any]] = {
        "labelstudio": pictures("images/") | {"export.json": json.dumps(label_studio())},
        "cvat": pictures("images/")
        | {
            "annotations.xml": f"<annotations><meta><task><labels>{labels}</labels></task></meta>{images}</annotations>"
        },
        "voc": pictures("JPEGImages/")
        | {f"Annotations/{text}.xml": VOC.format(name=f"class {number % 2}") for number, text in enumerate(NAMES)}
        | {"ImageSets/Main/train.txt": "a-1\na/1\nB\né x\n", "ImageSets/Main/val.txt": "a.b\n"},
        "yolo": pictures("images/train/")
        | pictures("images/val/")
        | {f"labels/train/{text}.txt": "1 0.5 0.5 0.25 0.25\n" for text in NAMES[:4]}
        | {"data.yaml": "train: images/train\nval: images/val\nnames: [cat, dog]\n"},
        "folders": pictures("train/cat/") | pictures("train/dog/") | pictures("val/dog/"),
    }
    return written(folder, files[name])


def read(prefix: Prefix, name: str, work: Path) -> tuple[Annotations, list[tuple[str, int]]]:
    """The annotations, and what is listed."""
    work.mkdir()
    source = formats.Source(prefix, work)
    result = formats.reader(name)(source)
    listed = source.objects()
    return result, list(zip(listed["key"].to_pylist(), listed["size"].to_pylist(), strict=True))


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_dataset_on_s3_gives_the_tables_of_its_files(name: str, tmp_path: Path, s3_environment: object) -> None:
    folder = dataset(tmp_path / "dataset", name)
    bucket = open_prefix(f"s3://datasets/{uuid.uuid4().hex[:12]}/{name}", "results")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.write(path.relative_to(folder).as_posix(), path.read_bytes())
    expected, files = read(open_prefix(str(folder), "dataset"), name, tmp_path / "work")
    result, objects = read(open_prefix(bucket.uri, "dataset"), name, tmp_path / "work-s3")
    assert len(result.images) >= 3
    assert len(result.objects) >= 3
    assert sorted(objects) == sorted(files)
    expected, result = expected.sorted(), result.sorted()
    assert result.images.equals(expected.images)
    assert result.objects.equals(expected.objects)
    for field in ("format", "task", "file", "classes", "below", "shared", "findings", "notices", "metadata"):
        assert getattr(result, field) == getattr(expected, field), field


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco", "annotations/instances_train2017.json"),
        ("cvat", "annotations.xml"),
        ("labelstudio", "export.json"),
    ],
)
def test_a_file_that_goes_while_a_dataset_is_read_is_named(
    name: str, file: str, tmp_path: Path, s3_environment: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset(tmp_path / "dataset", name)
    bucket = open_prefix(f"s3://datasets/{uuid.uuid4().hex[:12]}/{name}", "results")
    bucket.write(file, (folder / file).read_bytes())
    download = Prefix.download

    def gone(self: Prefix, key: str, *others: Any) -> Any:
        bucket.delete([key])
        return download(self, key, *others)

    monkeypatch.setattr(Prefix, "download", gone)
    with pytest.raises(DatasetNotFound, match=rf"{name}/{file}: the file is gone; export the dataset again"):
        read(open_prefix(bucket.uri, "dataset"), name, tmp_path / "work")
