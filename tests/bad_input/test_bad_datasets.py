"""Datasets that are wrong: each ends with 65 (or 78 where the command must say more) and one sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from laptop import Dataset, Ended, Laptop, file_prefix, sample_objects
from message_receiver import receiving
from PIL import Image

pytestmark = pytest.mark.slow

TINY = {"train": 4, "val": 2, "test": 2}


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A good dataset to spoil."""
    return make_dataset(**TINY)


@pytest.fixture(scope="module")
def good(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A small dataset that stays good."""
    return make_dataset(**TINY)


def check(laptop: Laptop, uri: str, *arguments: str) -> Ended:
    """Snapshot, then validate: the first that refuses."""
    taken = laptop.stage("snapshot", "--dataset", uri, *arguments)
    if taken.code:
        return taken
    return laptop.stage("validate", "--snapshot", taken.summary["receipt"])


def assert_usable(laptop: Laptop, good: Dataset) -> None:
    """Nothing is registered, nothing is half there, and a good dataset gets through."""
    assert laptop.versions() == []
    assert laptop.keys("validate") == []
    assert not [key for key in laptop.listing() if key.endswith("reservation.json")]
    check(laptop, good.uri).expect()


def test_no_dataset_at_the_uri(laptop: Laptop, good: Dataset):
    sentence = laptop.stage("snapshot", "--dataset", "s3://datasets/nothing-here", "--run", "none").refused(65)
    assert "s3://datasets/nothing-here" in sentence
    failure = laptop.record("none").failure("snapshot")
    assert failure is not None
    assert (failure.error_code, failure.error_type) == ("DATASET_NOT_FOUND", "DATASET_ERROR")
    assert_usable(laptop, good)


def test_no_bucket_of_that_name(laptop: Laptop):
    assert "s3://no-such-bucket/digits" in check(laptop, "s3://no-such-bucket/digits").refused(65)


def _without_images(document: Any) -> Any:
    return document | {"images": []}


def _without_classes(document: Any) -> Any:
    return document | {"classes": []}


def _first(document: Any) -> Any:
    return document["images"][0]["annotations"][0]


def _unknown_class(document: Any) -> Any:
    _first(document)["class_id"] = 99
    return document


def _other_class_name(document: Any) -> Any:
    _first(document)["class_name"] = "giraffe"
    return document


def _box_of_text(document: Any) -> Any:
    _first(document)["bbox"] = "all of it"
    return document


def _box_of_three(document: Any) -> Any:
    _first(document)["bbox"] = [1, 2, 3]
    return document


def _wrong_version(document: Any) -> Any:
    return document | {"format_version": "9.9"}


def _twice_the_same_image(document: Any) -> Any:
    document["images"][1]["file_name"] = document["images"][0]["file_name"]
    return document


def _wrong_size(document: Any) -> Any:
    document["images"][0]["width"] = 20
    return document


def _unknown_split(document: Any) -> Any:
    document["images"][0]["split"] = "practice"
    return document


def _coco(document: Any) -> Any:
    return {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_images, ["images"]),
        (_without_classes, ["class"]),
        (_unknown_class, ["class_id", "99"]),
        (_other_class_name, ["giraffe"]),
        (_box_of_text, ["images[0].annotations[0].bbox"]),
        (_box_of_three, ["bbox"]),
        (_wrong_version, ["format_version", "9.9"]),
        (_twice_the_same_image, ["file_name", "train/000001.png"]),
        (_wrong_size, ["width"]),
        (_unknown_split, ["split", "practice"]),
        (_coco, ["annotations_detection.json"]),
        (lambda _: [1, 2], ["annotations_detection.json"]),
        (lambda _: {}, ["annotations_detection.json"]),
    ],
)
def test_json_that_is_wrong(
    laptop: Laptop, dataset: Dataset, good: Dataset, spoil: Callable[[Any], Any], words: list[str]
):
    sentence = check(laptop, dataset.write_annotations(spoil(dataset.annotations())).uri).refused(65)
    assert "annotations_detection.json" in sentence
    for word in words:
        assert word in sentence
    assert_usable(laptop, good)


@pytest.mark.parametrize(
    "data", [b"", b"not JSON at all", b'{"format_version": "1.0", "images": [', b"\xff\xfe\x00broken", b"null"]
)
def test_a_file_that_is_no_json(laptop: Laptop, dataset: Dataset, good: Dataset, data: bytes):
    dataset.prefix.write("annotations_detection.json", data)
    assert "annotations_detection.json" in check(laptop, dataset.uri).refused(65)
    assert_usable(laptop, good)


def test_an_image_that_is_missing_in_the_store(laptop: Laptop, dataset: Dataset, good: Dataset):
    dataset.prefix.delete(["images/val/000001.png"])
    sentence = check(laptop, dataset.uri).refused(65)
    assert "val/000001.png" in sentence
    assert_usable(laptop, good)


@pytest.mark.parametrize("data", [b"", b"this is no picture"])
def test_an_image_that_is_none(laptop: Laptop, dataset: Dataset, good: Dataset, data: bytes):
    dataset.prefix.write("images/val/000001.png", data)
    assert "val/000001.png" in check(laptop, dataset.uri).refused(65)
    assert_usable(laptop, good)


def test_an_image_cut_after_its_header_is_found_by_decoding_all_of_it(laptop: Laptop, dataset: Dataset, good: Dataset):
    """The default looks at headers alone, and this one's is whole."""
    key = "images/val/000001.png"
    dataset.prefix.write(key, dataset.prefix.read(key)[:-100])
    taken = laptop.stage("snapshot", "--dataset", dataset.uri).expect().summary["receipt"]
    assert laptop.stage("validate", "--snapshot", taken).expect().summary["errors"] == 0
    sentence = laptop.stage("validate", "--snapshot", taken, "--mode", "full", "--run", "full").refused(65)
    assert "val/000001.png" in sentence
    report = json.loads(laptop.workspace.read("runs/full/validate/report.json"))
    assert (report["mode"], report["errors"], report["images"]) == ("full", 1, 8)
    whole = laptop.stage("snapshot", "--dataset", good.uri).expect().summary["receipt"]
    laptop.stage("validate", "--snapshot", whole, "--mode", "full").expect()


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "a/../b.png", "a//b.png", "", "a\nb.png", "a\0b.png", "x" * 300 + ".png", "."],
)
def test_a_file_name_that_leads_elsewhere(laptop: Laptop, dataset: Dataset, name: str):
    document = dataset.annotations()
    document["images"][0]["file_name"] = name
    sentence = check(laptop, dataset.write_annotations(document).uri).refused(65)
    assert "images[0].file_name" in sentence
    assert "\n" not in sentence


def test_odd_file_names_are_names_like_others(laptop: Laptop, dataset: Dataset):
    """They reach the store, a shell's reach and the training's folder, and mean nothing to any of them."""
    names = ["$(touch hacked).png", "; rm -rf .png", "100% #1?.png", "Ünïcode 한국어/ﬁ.png", "-n.png", "'\"`.png"]
    document = dataset.annotations()
    for image, name in zip(document["images"], names, strict=False):
        dataset.prefix.write(f"images/{name}", dataset.prefix.read(f"images/{image['file_name']}"))
        image["file_name"] = name
    uris = laptop.prepare(dataset.write_annotations(document).uri)
    trained = laptop.stage(
        "train",
        *("--converted", uris["convert"], "--snapshot", uris["snapshot"]),
        settings=("trainer=toy", "epochs=1", "batch=4"),
        variables={"MLFLOW_TRACKING_URI": None},
    )
    assert trained.expect().summary["epochs"] == 1
    assert not list(laptop.folder.rglob("hacked*"))


def test_several_tasks_and_no_choice(laptop: Laptop, dataset: Dataset):
    document = dataset.annotations()
    for image in document["images"]:
        for annotation in image["annotations"]:
            for name in ("bbox", "bbox_format", "area", "iscrowd"):
                annotation.pop(name)
        image["annotations"] = image["annotations"][:1]
    dataset.write_annotations(document | {"task_type": "classification"}, "classification")
    sentence = check(laptop, dataset.uri).refused(78)
    assert "classification" in sentence
    assert "detection" in sentence
    assert "--task" in sentence
    check(laptop, dataset.uri, "--task", "detection").expect()
    assert "pose" in check(laptop, dataset.uri, "--task", "pose").refused(78)
    assert "sorting" in check(laptop, dataset.uri, "--task", "sorting").refused(78)


@pytest.mark.matrix
def test_a_whole_run_ends_with_the_stages_code_and_sentence(laptop: Laptop, dataset: Dataset, good: Dataset):
    dataset.write_annotations(_unknown_class(dataset.annotations()))
    with receiving() as receiver:
        ended = laptop.run(*laptop.train_command(dataset.uri, "--run", "bad"), variables=receiver.variables)
    sentence = ended.refused(65)
    (message,) = receiver.bodies
    assert (message["run"], message["status"], message["text"]) == ("bad", "failed", sentence)
    assert "class_id" in sentence
    failures = laptop.record("bad").failures()
    assert [(failure.exit_code, failure.error_message) for failure in failures] == [(65, sentence)]
    assert laptop.record("bad").state("cleanup").state == "succeeded"
    assert laptop.processes() == []
    assert json.loads(laptop.workspace.read("runs/bad/run.json"))["arguments"]["dataset"] == dataset.uri
    assert laptop.keys("train") == laptop.keys("register") == []
    assert_usable(laptop, good)


def test_what_the_trainer_can_not_decode_is_refused_before_the_first_epoch(file_laptop: Laptop, tmp_path: Path):
    """Cut off after their headers, so that only a look at the whole image finds it: one for training, one for the test.

    A third is so small that the trainers would leave it out: convert does, and counts it.
    """
    dataset = Dataset(file_prefix(tmp_path / "dataset", "dataset")).put(sample_objects(train=38, val=2, test=2))
    document = dataset.annotations()
    images = document["images"]
    cut = [
        next(f"images/{image['file_name']}" for image in images if image["split"] == split)
        for split in ("train", "test")
    ]
    dataset.put({key: dataset.prefix.read(key)[:-60] for key in cut})
    strip = io.BytesIO()
    Image.new("RGB", (300, 9)).save(strip, "PNG")
    dataset.put({"images/strip.png": strip.getvalue()})
    small = {**images[0], "id": 999, "file_name": "strip.png", "width": 300, "height": 9, "annotations": []}
    dataset.write_annotations(document | {"images": [*images, small]})
    snapshot = file_laptop.stage("snapshot", "--dataset", dataset.uri).expect().summary["receipt"]

    report = file_laptop.stage("validate", "--snapshot", snapshot).expect().summary["receipt"]
    converted = file_laptop.stage("convert", "--snapshot", snapshot, "--report", report).expect().summary
    assert (converted["images"], converted["too_small"]) == (42, 1)
    train = ["--converted", converted["receipt"], "--snapshot", snapshot, "--set", "model=yolo11n.yaml"]
    sentence = file_laptop.stage("train", *train).refused(65)
    assert all(key in sentence for key in cut)
    assert "2 images can't be decoded" in sentence
    assert file_laptop.keys("train") == []
    assert file_laptop.progress() is None

    refused = file_laptop.stage("validate", "--snapshot", snapshot, "--mode", "full").refused(65)
    assert any(key in refused for key in cut)
    quarantine = ("--mode", "full", "--on-error", "quarantine")
    report = file_laptop.stage("validate", "--snapshot", snapshot, *quarantine).expect().summary["receipt"]
    kept = file_laptop.stage("convert", "--snapshot", snapshot, "--report", report).expect().summary
    assert kept["images"] == 40
