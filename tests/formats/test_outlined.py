"""Run-length masks of single objects become polygons in one place, whatever format states them; wrong ones are findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from reading import PICTURE, read

from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import Annotations

#: A square of 2 × 2 pixels whose corner is at 1, 2 in a picture of 40 × 30.
SQUARE = {"size": [30, 40], "counts": [32, 2, 28, 2, 1136]}
CORNERS = [[100, 200, 300, 200, 300, 400, 100, 400]]


def dice(folder: Path, *masks: Any, crowd: int = 0) -> Annotations:
    labels = [{"class_id": 0, "bbox": [1, 2, 2, 2], "segmentation": mask, "iscrowd": crowd} for mask in masks]
    image = {"file_name": "a.png", "width": 40, "height": 30, "annotations": labels}
    document = {"format_version": "1.0", "task_type": "segmentation", "classes": layouts.CLASSES, "images": [image]}
    return layouts.read(layouts.write(folder, {"annotations_segmentation.json": document}), "dice")


def masked(annotations: Annotations) -> list[Finding]:
    return [entry for entry in annotations.findings if entry.code == "mask"]


def test_dice_masks_become_polygons_and_other_objects_stay_as_they_are(tmp_path: Path) -> None:
    result = dice(tmp_path, [[1, 1, 5, 1, 5, 5]], SQUARE, [[2, 2, 3, 2, 3, 3]])
    assert result.objects["polygons"].to_pylist() == [
        [[100, 100, 500, 100, 500, 500]],
        CORNERS,
        [[200, 200, 300, 200, 300, 300]],
    ]
    assert result.objects["mask"].null_count == 3
    assert result.notices == (
        "annotations_segmentation.json: 1 run-length masks became polygons along the edges of their pixels.",
    )


def test_crowds_keep_their_masks(tmp_path: Path) -> None:
    result = dice(tmp_path, SQUARE, crowd=1)
    assert result.objects["polygons"].to_pylist() == [None]
    assert json.loads(result.objects["mask"][0].as_py()) == SQUARE
    assert result.notices == ()


def test_parts_and_holes_are_counted(tmp_path: Path) -> None:
    two = {"size": [30, 40], "counts": [0, 1, 1198, 1]}
    ring = {"size": [30, 40], "counts": [31, 3, 27, 1, 1, 1, 27, 3, 1106]}
    notice = dice(tmp_path, two, ring, SQUARE).notices[0]
    assert "3 run-length masks" in notice
    assert "1 have several parts and 1 have holes" in notice


def test_a_wrong_mask_is_a_finding_with_its_image_and_field(tmp_path: Path) -> None:
    result = dice(tmp_path, SQUARE, {"size": [2, 2], "counts": [1, 3]}, {"size": [30, 40], "counts": [1, 2]})
    assert [(entry.severity, entry.file_name, entry.field) for entry in masked(result)] == [
        ("error", "a.png", "images[0].annotations[1]"),
        ("error", "a.png", "images[0].annotations[2]"),
    ]
    assert masked(result)[0].sentence == (
        "annotations_segmentation.json: a.png: images[0].annotations[1] is not a mask of this image: its size is 2 × 2, not the "
        "image's 40 × 30; draw the object again."
    )
    assert result.objects["polygons"].to_pylist() == [CORNERS, None, None]
    assert result.objects["mask"].null_count == 1


def test_coco_tells_of_a_wrong_mask_once(tmp_path: Path) -> None:
    folder = layouts.coco(tmp_path, segmentation={"size": [2, 2], "counts": [4]})
    assert len(masked(layouts.read(folder, "coco", "segmentation"))) == 3


def cvat(folder: Path, mask: str, task: str | None = "segmentation") -> Annotations:
    head = '<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta><image name="a.png" '
    text = f'{head}width="40" height="20"><mask label="cat" {mask}/></image></annotations>'
    return read("cvat", folder, {"annotations.xml": text, "images/a.png": PICTURE}, task)


def brush(folder: Path, rle: list[int], task: str | None = "segmentation") -> Annotations:
    value = {"format": "rle", "rle": rle, "brushlabels": ["cat"]}
    region = {"id": "1", "type": "brushlabels", "original_width": 40, "original_height": 20, "value": value}
    text = json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}])
    return read("labelstudio", folder, {"export.json": text, "a.png": PICTURE}, task)


def packed(painted: Any) -> list[int]:
    """A brush of Label Studio: the RGBA bytes, none repeated."""
    values = np.repeat(painted.reshape(-1) * 255, 4).astype(np.uint8)
    bits = np.concatenate(
        [
            np.unpackbits(np.array([0, 0, len(values) >> 8, len(values) & 255], np.uint8)),
            [0, 0, 1, 1, 1],
            *[[1, 1, 1, 1]] * 4,
        ]
    )
    parts = [bits]
    for start in range(0, len(values), 2**16):
        part = values[start : start + 2**16]
        length = np.unpackbits(np.array([(len(part) - 1) >> 8, (len(part) - 1) & 255], np.uint8))
        parts += [np.array([0, 1, 1]), length, np.unpackbits(part)]
    return np.packbits(np.concatenate(parts).astype(np.uint8)).tolist()


def test_masks_of_the_labelling_tools_become_polygons(tmp_path: Path) -> None:
    result = cvat(tmp_path / "cvat", 'rle="0,4" left="3" top="2" width="2" height="2"')
    expected = [[[300, 200, 500, 200, 500, 400, 300, 400]]]
    assert result.objects["polygons"].to_pylist() == expected
    assert result.objects["mask"].null_count == 1
    painted = np.zeros((20, 40), np.uint8)
    painted[2:4, 3:5] = 1
    result = brush(tmp_path / "brush", packed(painted))
    assert result.objects["polygons"].to_pylist() == expected


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_mask_that_a_tool_wrote_wrongly_is_a_finding(tmp_path: Path, task: str) -> None:
    result = cvat(tmp_path / "cvat", 'rle="1,2" left="0" top="0" width="2" height="2"', task)
    assert masked(result) == [
        Finding(
            "error",
            "mask",
            "a.png",
            "image[0][0]",
            "annotations.xml: a.png: image[0].mask[0].rle: the runs cover 3 pixels, not 2 × 2; export it again.",
        )
    ]
    assert len(result.objects) == 1
    result = brush(tmp_path / "brush", [1, 2, 3], task)
    [finding] = masked(result)
    assert (finding.file_name, finding.field) == ("a.png", "[0].result[0]")
    assert finding.sentence.startswith("export.json: a.png: [0].result[0].value.rle: not the mask of")


def test_a_wrong_mask_is_no_obstacle_for_a_task_that_takes_none(tmp_path: Path) -> None:
    both = (
        '<annotations><image name="a.png" width="40" height="20"><tag label="cat"/><mask label="cat" rle="7" left="0" '
    )
    content = {
        "annotations.xml": f'{both}top="0" width="2" height="2"/></image></annotations>',
        "images/a.png": PICTURE,
    }
    assert len(read("cvat", tmp_path, content, "classification").objects) == 1
    assert read("cvat", tmp_path, content, "classification").findings == ()
