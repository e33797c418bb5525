"""What is written is what other tools read, and what they read is what is read here; each where its package is installed.

Packages that are not among the pinned ones (pycocotools, supervision, jsonschema, label-studio-converter) go into an environment of their own beside
the package: then ``python -m pytest -m matrix tests/formats/test_other_tools.py`` there.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import numpy.typing as npt
import pytest
from test_writers import OVERLAPPING, POLYGON, POSE, TWO, box, dataset, filled, written

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import Annotations

pytestmark = pytest.mark.matrix

CLASSES = (Class(id=3, name="cat"), Class(id=7, name="dog"))
BOXES = [
    box(0, 125, 250, 1000, 2075),
    box(0, 0, 0, 4000, 3000, class_id=7),
    box(2, 1001, 333, 2007, 749, class_id=7),
]


def needed(name: str) -> Any:
    """A package that the pinned ones don't hold."""
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; it is not among the pinned packages")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def detection() -> Annotations:
    images = {"a.png": (40, 30), "sub/b b.png": (20, 20), "ü.png": (64, 48)}
    return dataset("detection", images, BOXES, classes=CLASSES, splits=["train", "train", "val"])


def segmentation() -> Annotations:
    labels: list[dict[str, Any]] = [{"image": 0, "polygons": outline} for outline in (POLYGON, TWO, OVERLAPPING)]
    return dataset("segmentation", {"a.png": (100, 100), "v.png": (9, 9)}, labels, classes=CLASSES)


def pose() -> Annotations:
    points = [100, 100, 2, 150, 250, 1, 0, 0, 0]
    labels = [box(0, 0, 0, 5000, 10_000, class_id=0, keypoints=points)]
    return dataset("pose", {"a.png": (100, 100), "v.png": (9, 9)}, labels, classes=POSE)


def test_pycocotools_reads_our_coco(tmp_path: Path) -> None:
    coco = needed("pycocotools.coco")
    mask = needed("pycocotools.mask")
    _, folder = written(tmp_path, detection(), "coco")
    boxes: dict[str, list[Any]] = {}
    for split in ("train", "val"):
        read = coco.COCO(str(folder / f"annotations/instances_{split}.json"))
        names = {image["id"]: image["file_name"] for image in read.loadImgs(read.getImgIds())}
        for label in read.loadAnns(read.getAnnIds()):
            category = read.loadCats(label["category_id"])[0]["name"]
            boxes.setdefault(names[label["image_id"]], []).append((category, label["bbox"], label["area"]))
    assert boxes == {
        "a.png": [("cat", [1.25, 2.5, 10.0, 20.75], 207.5), ("dog", [0.0, 0.0, 40.0, 30.0], 1200.0)],
        "ü.png": [("dog", [10.01, 3.33, 20.07, 7.49], pytest.approx(150.3243))],
    }
    _, folder = written(tmp_path / "segments", segmentation(), "coco")
    read = coco.COCO(str(folder / "annotations/instances_train.json"))
    for label, outline in zip(read.loadAnns(read.getAnnIds()), (POLYGON, TWO, OVERLAPPING), strict=True):
        # pycocotools fills polygons in whole pixels.
        assert abs(float(mask.area(read.annToRLE(label))) - filled(outline).sum() / 16) < 120
    _, folder = written(tmp_path / "poses", pose(), "coco")
    read = coco.COCO(str(folder / "annotations/person_keypoints_train.json"))
    [label] = read.loadAnns(read.getAnnIds())
    assert (label["num_keypoints"], label["keypoints"]) == (2, [1.0, 1.0, 2, 1.5, 2.5, 1, 0.0, 0.0, 0])
    [category] = read.loadCats(read.getCatIds())
    assert (category["keypoints"], category["skeleton"]) == (["nose", "left_eye", "right_eye"], [[1, 2]])


def ultralytics_labels(folder: Path, task: str, split: str = "train") -> list[dict[str, Any]]:
    """The labels of a split as Ultralytics reads them, by the names of the images."""
    from visionloop.training.trainers.ultralytics.environment import library

    library()
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
        read = YOLODataset(img_path=described[split], data=described, task=task, augment=False, batch_size=1)
    labels: list[dict[str, Any]] = read.labels
    return sorted(labels, key=lambda label: str(label["im_file"]))


def pixels(label: dict[str, Any]) -> npt.NDArray[np.float64]:
    """x, y, width and height of boxes in pixels."""
    height, width = label["shape"]
    centre = label["bboxes"] * np.array([width, height, width, height])
    return np.concatenate([centre[:, :2] - centre[:, 2:] / 2, centre[:, 2:]], axis=1)


def test_ultralytics_reads_our_yolo(tmp_path: Path) -> None:
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    _, folder = written(tmp_path, detection(), "yolo")
    first, second = ultralytics_labels(folder, "detect")
    assert first["im_file"] == str(folder / "images/a.png")
    assert first["cls"].ravel().tolist() == [0, 1]
    assert np.abs(pixels(first) - [[1.25, 2.5, 10, 20.75], [0, 0, 40, 30]]).max() < 0.01
    assert second["im_file"] == str(folder / "images/sub/b b.png")
    assert len(second["cls"]) == 0
    [third] = ultralytics_labels(folder, "detect", "val")
    assert third["im_file"] == str(folder / "images/ü.png")
    assert np.abs(pixels(third) - [[10.01, 3.33, 20.07, 7.49]]).max() < 0.01
    _, folder = written(tmp_path / "segments", segmentation(), "yolo")
    [label] = ultralytics_labels(folder, "segment")
    for outline, entry in zip((POLYGON, TWO, OVERLAPPING), label["segments"], strict=True):
        before, after = filled(outline), filled([(entry * 100 * 100).ravel()])
        assert (before & after).sum() / (before | after).sum() >= 0.999
    _, folder = written(tmp_path / "poses", pose(), "yolo")
    [label] = ultralytics_labels(folder, "pose")
    assert np.abs(label["keypoints"][0] - [[0.01, 0.01, 2], [0.015, 0.025, 1], [0, 0, 0]]).max() < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_supervision_reads_our_coco_and_voc(tmp_path: Path) -> None:
    supervision = needed("supervision")
    read = detection()
    expected = {
        "a.png": {("cat", 1.25, 2.5, 11.25, 23.25), ("dog", 0.0, 0.0, 40.0, 30.0)},
        "ü.png": {("dog", 10.01, 3.33, 30.08, 10.82)},
    }

    def boxes(labelled: Any, shift: float = 0) -> dict[str, set[Any]]:
        """Class and corners by image; ``shift`` makes corners that count pixels from 1 count from 0."""
        result = {}
        for path, _, labels in labelled:
            corners = np.round(np.asarray(labels.xyxy, np.float64) - [shift, shift, 0, 0], 2)
            names = [labelled.classes[number] for number in labels.class_id]
            rows = {(name, *row) for name, row in zip(names, corners.tolist(), strict=True)}
            if rows:
                result[Path(path).name] = rows
        return result

    _, folder = written(tmp_path, read, "coco")
    splits = [
        supervision.DetectionDataset.from_coco(
            str(folder / "images"), str(folder / f"annotations/instances_{split}.json")
        )
        for split in ("train", "val")
    ]
    assert boxes(splits[0]) | boxes(splits[1]) == expected
    _, folder = written(tmp_path, read, "voc")
    voc = supervision.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    # It takes xmin and ymin less 1, and whole pixels.
    whole = {
        name: {(entry, *(int(side) for side in corners)) for entry, *corners in rows}
        for name, rows in boxes(voc).items()
    }
    assert whole == {
        name: {(entry, *(int(side) for side in corners)) for entry, *corners in rows} for name, rows in expected.items()
    }


@pytest.mark.filterwarnings("ignore")
def test_torchvision_reads_our_class_folders(tmp_path: Path) -> None:
    datasets = needed("torchvision.datasets")
    labels = [{"image": row, "class_id": class_id} for row, class_id in enumerate([3, 7, 7])]
    read = dataset(
        "classification",
        {"a.png": (4, 4), "s/b c.png": (5, 4), "v.png": (6, 4)},
        labels,
        splits=["train", "train", "val"],
    )
    _, folder = written(tmp_path, read, "folders")
    result = datasets.ImageFolder(folder / "train")
    assert result.classes == ["cat", "dog%2Fwolf"]
    assert [(Path(path).name, number) for path, number in result.samples] == [("a.png", 0), ("s_b c.png", 1)]


def test_our_schema_is_one_and_takes_our_dice(tmp_path: Path) -> None:
    jsonschema = needed("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs/dice.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    for name, read in {"detection": detection(), "segmentation": segmentation(), "pose": pose()}.items():
        _, folder = written(tmp_path / name, read, "dice")
        document = json.loads((folder / f"annotations_{name}.json").read_text())
        assert list(validator(schema).iter_errors(document)) == []
        document["images"][0]["width"] = 0
        assert len(list(validator(schema).iter_errors(document))) == 1


CONFIGURATION = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="dog"/><Label value="cat"/></RectangleLabels><PolygonLabels name="outline" toName="image"><Label value="cat"/></PolygonLabels>
<BrushLabels name="brush" toName="image"><Label value="cat"/></BrushLabels></View>"""


def region(kind: str, **value: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}{len(value)}",
        "type": kind,
        "from_name": {"rectanglelabels": "label", "polygonlabels": "outline"}.get(kind, "brush"),
        "to_name": "image",
        "original_width": 40,
        "original_height": 30,
        "image_rotation": 0,
        "value": {"rotation": 0} | value,
    }


@pytest.mark.filterwarnings("ignore")
def test_label_studio_converter_reads_what_we_read(tmp_path: Path) -> None:
    converter = needed("label_studio_converter")
    brush = needed("label_studio_converter.brush")
    painted = np.zeros((30, 40), np.uint8)
    painted[5:15, 10:30] = 255
    painted[8:10, 12:20] = 0
    result = [
        region("rectanglelabels", x=2.5, y=10, width=25, height=50, rectanglelabels=["cat"]),
        region("rectanglelabels", x=0, y=0, width=100, height=100, rectanglelabels=["dog"]),
        region("polygonlabels", points=[[10, 10], [50, 10], [50, 60]], polygonlabels=["cat"], closed=True),
    ]
    task = {"id": 1, "data": {"image": "/data/upload/1/1f3a8c02-a.png"}, "annotations": [{"id": 1, "result": result}]}
    folder = layouts.write(tmp_path / "export", {"export.json": [task], "config.xml": CONFIGURATION})
    layouts.pictures(folder)
    converter.Converter(CONFIGURATION, str(tmp_path), download_resources=False).convert_to_coco(
        str(folder / "export.json"), str(tmp_path / "coco"), is_dir=False
    )
    theirs = json.loads((tmp_path / "coco/result.json").read_text())
    names = {entry["id"]: entry["name"] for entry in theirs["categories"]}
    expected = sorted(
        (names[label["category_id"]], np.round(label["bbox"], 2).tolist()) for label in theirs["annotations"]
    )
    ours = layouts.read(folder, "labelstudio")
    classes = {entry.id: entry.name for entry in ours.classes}
    results = sorted(
        (classes[row["class_id"]], [row[side] / 100 for side in ("x", "y", "width", "height")])
        for row in ours.objects.to_pylist()
    )
    assert results == expected
    ours = layouts.read(folder, "labelstudio", "segmentation")
    outline = next(label for label in theirs["annotations"] if label["segmentation"])
    assert [[value / 100 for value in polygon] for polygon in ours.objects["polygons"][2].as_py()] == outline[
        "segmentation"
    ]
    # A brush as the tool packs it, and the pixels that its own converter finds.
    packed = brush.mask2rle(painted)
    value = region("brushlabels", format="rle", rle=packed, brushlabels=["cat"])
    task["annotations"] = [{"id": 1, "result": [value]}]
    folder = layouts.write(tmp_path / "brushes", {"export.json": [task], "config.xml": CONFIGURATION})
    layouts.pictures(folder)
    mask = json.loads(layouts.read(folder, "labelstudio").objects["mask"][0].as_py())
    pixels = np.repeat(np.arange(len(mask["counts"])) % 2, mask["counts"]).reshape(40, 30).T
    theirs = brush.decode_rle(packed).reshape(30, 40, 4)[:, :, 3] > 0
    assert (pixels == theirs).all()
    assert (theirs == (painted > 0)).all()
