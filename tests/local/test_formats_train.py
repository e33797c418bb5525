"""Datasets of other formats, from `run train --dataset` to a registered version, without another step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import laptop as machine
import pytest
from laptop import TINY, Dataset, Laptop
from PIL import Image


def sample(folder: Path) -> Dataset:
    return Dataset(machine.file_prefix(folder, "dataset")).put(machine.sample_objects(16, 4, 4))


def export(laptop: Laptop, dataset: Dataset, name: str, target: Path) -> str:
    """The sample in another format, as `dataset export` writes it."""
    taken = laptop.stage("snapshot", "--dataset", dataset.uri).expect().summary["snapshot_id"]
    arguments = [taken, str(target), "--format", name, "--workspace", laptop.workspace.uri]
    laptop.run("dataset", "export", *arguments).expect()
    return str(target)


def label_studio(dataset: Dataset, target: Path) -> str:
    """The sample as tasks of Label Studio, its images below in folders of their splits."""
    document: dict[str, Any] = dataset.annotations()
    names = {entry["id"]: entry["name"] for entry in document["classes"]}
    tasks: list[dict[str, Any]] = []
    for image in document["images"]:
        path = target / image["split"] / Path(image["file_name"]).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dataset.prefix.read(f"images/{image['file_name']}"))
        result = [
            {
                "type": "rectanglelabels",
                "original_width": image["width"],
                "original_height": image["height"],
                "value": {
                    "x": 100 * label["bbox"][0] / image["width"],
                    "y": 100 * label["bbox"][1] / image["height"],
                    "width": 100 * label["bbox"][2] / image["width"],
                    "height": 100 * label["bbox"][3] / image["height"],
                    "rectanglelabels": [names[label["class_id"]]],
                },
            }
            for label in image["annotations"]
        ]
        data = {"image": f"/data/local-files/?d={image['split']}/{path.name}"}
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"id": 1, "result": result}]})
    (target / "project.json").write_text(json.dumps(tasks))
    return str(target)


@pytest.mark.matrix
def test_what_was_trained_from_dice_is_found_again_from_coco_and_yolo(file_laptop: Laptop, tmp_path: Path) -> None:
    dataset = sample(tmp_path / "dice")
    first = file_laptop.train(dataset.uri).expect().summary
    assert first["alias"] == "champion"
    for name in ("coco", "yolo"):
        again = file_laptop.train(export(file_laptop, dataset, name, tmp_path / name)).expect()
        assert {stage for stage, entry in again.summary["stages"].items() if not entry["reused"]} <= {
            "snapshot",
            "validate",
            "convert",
            "cleanup",
        }
        assert again.summary["version"] == first["version"]
        assert f"read as a {name.upper()} dataset" in again.stderr


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["coco", "yolo", "voc", "labelstudio"])
def test_a_dataset_of_each_format_is_trained_and_registered(file_laptop: Laptop, tmp_path: Path, name: str) -> None:
    dataset, target = sample(tmp_path / "dice"), tmp_path / name
    uri = label_studio(dataset, target) if name == "labelstudio" else export(file_laptop, dataset, name, target)
    before = {path: os.stat(path).st_mtime_ns for path in target.rglob("*")}
    ended = file_laptop.train(uri, settings=TINY).expect()
    assert (ended.summary["version"], ended.summary["alias"]) == (1, "champion")
    assert {path: os.stat(path).st_mtime_ns for path in target.rglob("*")} == before


@pytest.mark.matrix
def test_class_folders_are_trained_and_registered(file_laptop: Laptop, tmp_path: Path) -> None:
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for number in range(count):
            path = tmp_path / "pets" / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A dot of another place in each, or the same bytes would be in two splits.
            image = Image.new("RGB", (32, 32), ((200, 20, 20), (20, 20, 200))[number % 2])
            image.putpixel((number, len(split)), (255, 255, 255))
            image.save(path)
    settings = [entry for entry in TINY if not entry.startswith(("model=", "mosaic="))]
    sentence = file_laptop.train(str(tmp_path / "pets"), settings=(*settings, "model=yolo11n.yaml")).refused(78)
    assert "classification" in sentence
    ended = file_laptop.train(str(tmp_path / "pets"), settings=(*settings, "model=yolo11n-cls.yaml")).expect()
    assert (ended.summary["version"], ended.summary["alias"]) == (1, "champion")
