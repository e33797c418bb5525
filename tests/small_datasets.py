"""Datasets of four pictures in a folder, and the data stages run on them in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from visionloop.components.validate import report as validation
from visionloop.core import catalog
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import BOX as SIDES
from visionloop.data.annotations.tables import Annotations, images_table, objects_table

BOX: dict[str, Any] = {"class_id": 0, "bbox": [4, 4, 8, 8]}
POSE = BOX | {"keypoints": [5, 5, 2, 6, 6, 2]}
OUTLINE = BOX | {"segmentation": [[4, 4, 12, 4, 12, 12]]}
LABELS: dict[str, dict[str, Any]] = {
    "detection": BOX,
    "segmentation": OUTLINE,
    "pose": POSE,
    "classification": {"class_id": 0},
}


def dataset(folder: Path, task: str, first: list[dict[str, Any]] | None, **top: Any) -> Path:
    """Two images in train, one in val and one in test, each with one label; ``first`` are those of the first."""
    (folder / "images").mkdir(parents=True)
    images = []
    for number, split in enumerate(("train", "train", "val", "test")):
        Image.new("RGB", (32, 32), (number * 40, 0, 0)).save(folder / "images" / f"{number}.png")
        images.append({"file_name": f"{number}.png", "width": 32, "height": 32, "split": split})
        images[-1]["annotations"] = [LABELS[task]] if number or first is None else first
    document: dict[str, Any] = {"format_version": "1.0", "task_type": task, "dataset_id": "1", "dataset_name": "n"}
    document |= {"classes": [{"id": 0, "name": "thing"}], "images": images}
    (folder / f"annotations_{task}.json").write_text(json.dumps(document | top))
    return folder


def labelled_image(name: str, width: int, height: int) -> Annotations:
    """The annotations of one image with a box, of a size that need not be its own."""
    return Annotations(
        format="dice",
        task="detection",
        file="annotations_detection.json",
        classes=(Class(id=1, name="a"),),
        images=images_table(file_name=[name], key=[f"images/{name}"], width=[width], height=[height], position=[0]),
        objects=objects_table(
            image=[0],
            position=[0],
            class_id=[1],
            **{side: [value] for side, value in zip(SIDES, (100, 100, 400, 400), strict=True)},
        ),
    )


def stage(name: str, workspace: Path | str, **values: Any) -> Result:
    outcome = run_stage(catalog.stage(name), values, Invocation(str(workspace), run="one"))
    assert outcome.result is not None
    return outcome.result


def converted(folder: Path, workspace: Path) -> tuple[validation.Report, Result]:
    """Takes a dataset through snapshot, validate and convert."""
    snapshot = stage("snapshot", workspace, dataset=str(folder))
    report = stage("validate", workspace, snapshot=snapshot.uri)
    return validation.read(report), stage("convert", workspace, snapshot=snapshot.uri, report=report.uri)
