"""Configurations that are wrong: 78 and one sentence, before anything expensive begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laptop as machine
import pytest
from laptop import TINY, Dataset, Laptop

CLASS = {"id": 0, "name": "square", "color": "#ff0000", "supercategory": "shape"}


@pytest.fixture(scope="module")
def converted(make_laptop: Callable[..., Laptop], digits: Dataset) -> tuple[Laptop, list[str]]:
    """A laptop on which a dataset is converted, and the arguments of train."""
    laptop = make_laptop()
    uris = laptop.prepare(digits.uri)
    return laptop, ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("imgsz=100", ["imgsz must be multiple of 32", "100"]),
        ("imgsz=big", ["imgsz"]),
        ("epochs=0", ["epochs", "1"]),
        ("epochs=", ["Missing required basic config", "epochs"]),
        ("epochs=1e999", ["epochs"]),
        ("batch=-1", ["batch"]),
        ("lr0=nan", ["lr0"]),
        ("mosaik=1", ["'mosaik'", "mosaic"]),
        ("optimizer=Magic", ["optimizer"]),
        ("primary_metric=beauty", ["primary_metric", "mAP50-95"]),
        ("trainer=none", ["trainer", "ultralytics"]),
        ("model=yolo11n", ["VISIONLOOP_WEIGHTS (not set)", "VISIONLOOP_ALLOW_DOWNLOAD=1"]),
        ("model=no-such.yaml", ["no-such.yaml"]),
        ("model=/nowhere/best.pt", ["/nowhere/best.pt"]),
        ("model=s3://results/nowhere/best.pt", ["s3://results/nowhere/best.pt"]),
        ("model=models:/nobody@champion", ["models:/nobody@champion"]),
        ("model=https://example.com/best.pt?key=secret", ["https://example.com"]),
        ("model=yolo11n-seg", ["segmentation", "detection"]),
        ("model=yolo11n-seg.yaml", ["segmentation", "detection"]),
        ("advanced_config=[1]", ["advanced_config"]),
        ("advanced_config={", ["advanced_config"]),
        ('advanced_config={"epochs": 3}', ["epochs"]),
        ("no value", ["--set no value", "KEY=VALUE"]),
    ],
)
def test_a_setting_that_is_wrong(converted: tuple[Laptop, list[str]], setting: str, words: list[str]):
    laptop, arguments = converted
    settings = tuple(entry for entry in TINY if entry.partition("=")[0] != setting.partition("=")[0])
    ended = laptop.stage("train", *arguments, settings=(*settings, setting))
    sentence = ended.refused(78)
    for word in words:
        assert word in sentence
    assert "key=secret" not in ended.stderr
    assert laptop.keys("train") == []
    assert laptop.refused() == []


def test_a_setting_that_is_given_twice(converted: tuple[Laptop, list[str]]):
    laptop, arguments = converted
    assert "epochs" in laptop.stage("train", *arguments, settings=(*TINY, "epochs=3")).refused(78)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CONFIG": "{not json"}, ["CONFIG"]),
        ({"CONFIG": '{"advanced_config": {"nonsense": 1}}'}, ["nonsense", "CONFIG"]),
        ({"IMGSZ": "100"}, ["imgsz must be multiple of 32", "IMGSZ"]),
        ({"CONFIG_PATH": "/nowhere/config.json"}, ["CONFIG_PATH"]),
        ({"VISIONLOOP_LOG_LEVEL": "LOUD"}, ["VISIONLOOP_LOG_LEVEL"]),
    ],
)
def test_a_variable_that_is_wrong(
    converted: tuple[Laptop, list[str]], variables: dict[str, str | None], words: list[str]
):
    laptop, arguments = converted
    settings = tuple(entry for entry in TINY if not entry.startswith("imgsz"))
    sentence = laptop.stage("train", *arguments, settings=settings, variables=variables).refused(78)
    for word in words:
        assert word in sentence


def _document(task: str, annotation: dict[str, Any]) -> dict[str, Any]:
    images = []
    for number in range(6):
        split = ("train", "val", "test")[number % 3]
        fields = {"id": number, "image_id": number, "class_id": 0, "class_name": "square", "attributes": {}}
        images.append(
            {"id": number, "file_name": f"{split}/{number // 3 + 1:06d}.png", "width": 160, "height": 160, "depth": 3}
            | {"split": split, "annotations": [fields | annotation], "metadata": {}}
        )
    head = {"format_version": "1.0", "dataset_id": "shapes", "dataset_name": "shapes", "task_type": task}
    return head | {"version": 1, "classes": [CLASS], "images": images, "statistics": {}}


OTHER_TASKS: dict[str, dict[str, Any]] = {
    "classification": {},
    "segmentation": {"segmentation": [[10, 10, 60, 10, 60, 60, 10, 60]], "bbox": [10, 10, 50, 50], "area": 2500}
    | {"bbox_format": "xywh", "iscrowd": 0},
    "pose": {"keypoints": [20, 20, 2, 40, 40, 2], "num_keypoints": 2, "bbox": [10, 10, 50, 50], "area": 2500}
    | {"bbox_format": "xywh", "iscrowd": 0},
}


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_a_detector_for_another_task_is_refused(file_laptop: Laptop, tmp_path: Path, task: str):
    dataset = Dataset(machine.file_prefix(tmp_path / "shapes", "dataset"))
    objects = {key: data for key, data in machine.sample_objects(2, 2, 2).items() if key.startswith("images/")}
    document = _document(task, OTHER_TASKS[task])
    if task == "pose":
        document["classes"] = [CLASS | {"keypoints": ["left", "right"], "skeleton": [[0, 1]]}]
    dataset.put(objects).write_annotations(document, task)
    uris = file_laptop.prepare(dataset.uri)
    arguments = ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]
    settings = TINY if task != "classification" else tuple(entry for entry in TINY if not entry.startswith("mosaic"))
    sentence = file_laptop.stage("train", *arguments, settings=("model=yolo11n.yaml", *settings[1:])).refused(78)
    assert "is for detection" in sentence
    assert task in sentence


@pytest.mark.parametrize("name", ["", "!!!", "한국어", "-", "/", "..", " "])
def test_a_model_name_of_which_nothing_is_left(laptop: Laptop, digits: Dataset, name: str):
    arguments = ["--dataset", digits.uri, "--workspace", laptop.workspace.uri, "--model-name", name]
    assert "--model-name" in laptop.run("run", "train", *arguments).refused(78)
    assert laptop.listing() == {}


@pytest.mark.parametrize("options", [[], ["--dataset", "s3://datasets/digits", "--snapshot", "snap_0123456789ab"]])
def test_neither_or_both_of_dataset_and_snapshot(laptop: Laptop, options: list[str]):
    arguments = [*options, "--workspace", laptop.workspace.uri, "--model-name", "digits"]
    for command in ("run", "plan"):
        sentence = laptop.run(command, "train", *arguments).refused(78)
        assert "--dataset" in sentence
        assert "--snapshot" in sentence
    assert laptop.listing() == {}


@pytest.mark.parametrize("snapshot", ["snap_0123456789ab", "snap_../../up", "none", "s3://results/x"])
def test_a_snapshot_that_was_never_taken(laptop: Laptop, snapshot: str):
    sentence = laptop.stage("snapshot", "--snapshot", snapshot).refused(78)
    assert snapshot in sentence


@pytest.mark.parametrize("gate", ["/nowhere/gate.json", "{broken", '{"floor": "high"}', '{"flor": 1}', "[]"])
def test_a_gate_that_is_none(laptop: Laptop, digits: Dataset, gate: str):
    """Refused before anything is trained for it."""
    sentence = laptop.train(digits.uri, "--gate", gate).refused(78)
    assert "gate" in sentence.lower()
    assert laptop.keys("train") == []


@pytest.mark.parametrize(
    "split", ["train=1.2", "train=0.5", "train=a", "nonsense", "train=0.8,val=0.1,test=0.1,seed=x"]
)
def test_a_split_that_is_none(laptop: Laptop, digits: Dataset, split: str):
    assert "--split" in laptop.stage("snapshot", "--dataset", digits.uri, "--split", split).refused(78)


@pytest.mark.parametrize("run", ["../up", "a/b", "", " ", "x" * 200])
def test_a_run_that_is_no_name(laptop: Laptop, digits: Dataset, run: str):
    ended = laptop.stage("cleanup", "--run", run)
    if run == "":
        ended.expect()
    else:
        assert "--run" in ended.refused(78)


@pytest.mark.parametrize("command", [["nonsense"], ["stage", "nonsense"], ["stage", "cleanup", "--nonsense"], ["run"]])
def test_a_mistyped_command_line(file_laptop: Laptop, command: list[str]):
    ended = file_laptop.run(*command)
    assert ended.code == 2
    assert "Traceback" not in ended.stderr


def test_the_arguments_of_a_refused_run_are_on_record(laptop: Laptop, digits: Dataset):
    laptop.stage("snapshot", "--dataset", digits.uri, "--task", "sorting", "--run", "odd").refused(78)
    recorded = json.loads(laptop.workspace.read("runs/odd/run.json"))
    assert recorded["arguments"]["snapshot"] == {"dataset": digits.uri, "task": "sorting"}
