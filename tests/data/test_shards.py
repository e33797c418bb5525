"""Shards of validate and convert: their merged result is, byte for byte, that of a run without shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_datasets import dataset as small_dataset
from small_datasets import stage

from visionloop.components.convert import stage as convert
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.components.validate import stage as validate
from visionloop.core import receipts, reports, shards
from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.storage import open_prefix
from visionloop.pipelines.cli import exchange

#: More images than the eight shards, and fewer than the fifty.
IMAGES = 23


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Boxes with everything that shards have to put together again: see ``_document``."""
    return _detection(tmp_path / "dataset")


def _picture(folder: Path, name: str, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    if number == 7:  # of one colour
        pixels[:] = 90
    Image.fromarray(pixels).save(folder / "images" / name)


def _detection(folder: Path, **first: Any) -> Path:
    """Several folders; equal and similar pictures in two splits, one blank, repeated and close boxes, a small and an empty image."""
    images = []
    for number in range(IMAGES):
        name = f"{'ab'[number % 2]}/{number:02}.png"
        _picture(folder, name, 3 if number == 12 else number)
        split = ("train", "train", "train", "val", "test")[number % 5]
        boxes = [[4, 4, 8 + number % 3, 8], [4, 4, 8 + number % 3, 8], [20, 20, 10, 10], [20, 20, 10, 9.9]]
        labels = [{"class_id": index // 2, "bbox": box} for index, box in enumerate(boxes[: number % 5])]
        images.append({"file_name": name, "width": 40, "height": 40, "split": split, "annotations": labels})
    images[0] |= first
    return _written(folder, "detection", images, [{"id": 0, "name": "one"}, {"id": 1, "name": "two"}])


def _written(folder: Path, task: str, images: list[dict[str, Any]], classes: list[dict[str, Any]]) -> Path:
    document: dict[str, Any] = {"format_version": "1.0", "task_type": task, "dataset_id": "1", "dataset_name": "n"}
    document |= {"classes": classes, "images": images}
    (folder / f"annotations_{task}.json").write_text(json.dumps(document))
    return folder


def _of_task(folder: Path, task: str) -> Path:
    """Images of another task, of which some lack their labels, repeat them or leave them at the border."""
    images = []
    for number in range(IMAGES):
        name = f"{number:02}.png"
        _picture(folder, name, number)
        corner = number % 7
        kinds: dict[str, dict[str, Any]] = {
            "segmentation": {
                "bbox": [corner, 4, 12, 12],
                "segmentation": [[corner, 4, corner + 12, 4, corner + 12, 16]],
            },
            # Without names of keypoints, the first annotation of all decides how many there are.
            "pose": {
                "bbox": [corner, 4, 12, 12],
                "keypoints": [corner + 1, 5, 2, corner + 6, 6, 0 if number == 4 else 2],
            },
            "classification": {},
        }
        repeated = [{"class_id": 0, **kinds[task]}] * (1 if task == "classification" else number % 3)
        split = ("train", "train", "val", "test")[number % 4]
        images.append({"file_name": name, "width": 40, "height": 40, "split": split, "annotations": repeated})
    if task == "pose":
        images[9]["annotations"] = [{"class_id": 0, "bbox": [4, 4, 12, 12], "keypoints": [5, 5, 2]}]
    return _written(folder, task, images, [{"id": 0, "name": "thing"}])


def _whole(folder: Path | str, workspace: Path, **how: str) -> tuple[Result, Result]:
    """validate and convert of a dataset without shards."""
    snapshot = stage("snapshot", workspace, dataset=str(folder))
    report = stage("validate", workspace, snapshot=snapshot.uri, **how)
    return report, stage("convert", workspace, snapshot=snapshot.uri, report=report.uri)


def _merged(folder: Path | str, workspace: Path, count: int, **how: str) -> tuple[Result, Result]:
    """The same from shards."""
    snapshot = stage("snapshot", workspace, dataset=str(folder))
    checked = {"snapshot": snapshot.uri, **how}
    for shard in shards.listed(count):
        stage("validate", workspace, **checked, shard=shard)
    report = stage("validate", workspace, **checked, shards=str(count))
    converted = {"snapshot": snapshot.uri, "report": report.uri}
    for shard in shards.listed(count):
        stage("convert", workspace, **converted, shard=shard)
    return report, stage("convert", workspace, **converted, shards=str(count))


def _same(whole: Result, merged: Result) -> None:
    """Equal but for the attempt, the times and where it lies."""
    ours, theirs = merged.receipt, whole.receipt
    assert (ours.key, ours.digest, ours.parameters) == (theirs.key, theirs.digest, theirs.parameters)
    assert [reference.digest for reference in ours.inputs.values()] == [
        reference.digest for reference in theirs.inputs.values()
    ]
    assert ours.scalars == theirs.scalars
    assert {name: merged.read(name) for name in ours.outputs} == {name: whole.read(name) for name in theirs.outputs}
    assert ours.attempt != theirs.attempt


def _compare(folder: Path | str, tmp_path: Path, count: int, **how: str) -> tuple[Result, Result]:
    """validate and convert of both kinds, which are equal."""
    pairs = zip(
        _whole(folder, tmp_path / "whole", **how), _merged(folder, tmp_path / "merged", count, **how), strict=True
    )
    report, converted = list(pairs)
    _same(*report)
    _same(*converted)
    return report[1], converted[1]


@pytest.fixture(autouse=True, scope="module")
def one_day() -> Iterator[None]:
    """The page shows when it was written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports.runs, "now", lambda: "2026-01-01T00:00:00Z")
        yield


@pytest.fixture
def put_together(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose whole was put together from its shards."""
    stages: list[str] = []

    def noted(stage: str, merge: Callable[..., Any]) -> Callable[..., Any]:
        def put(*arguments: Any) -> Any:
            stages.append(stage)
            return merge(*arguments)

        return put

    monkeypatch.setattr(validate, "merged", noted("validate", validate.merged))
    monkeypatch.setattr(convert, "_merged", noted("convert", convert._merged))
    return stages


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, for tests that leave it as it is."""
    return _detection(tmp_path_factory.mktemp("shared") / "dataset")


@pytest.fixture(scope="module")
def without(shared: Path) -> tuple[Result, Result]:
    """validate and convert of it without shards."""
    return _whole(shared, shared.parent / "whole", mode="full", on_error="quarantine")


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_what_shards_make_is_what_a_run_without_them_makes(
    shared: Path, without: tuple[Result, Result], tmp_path: Path, count: int, put_together: list[str]
) -> None:
    report, converted = _merged(shared, tmp_path, count, mode="full", on_error="quarantine")
    _same(without[0], report)
    _same(without[1], converted)
    assert put_together == ["validate", "convert"]


def test_that_dataset_has_what_spans_shards(without: tuple[Result, Result]) -> None:
    said = validation.read(without[0])
    assert {"same_bytes", "blank_image", "close_boxes", "duplicate", "image_without_annotations"} <= {
        finding.code for finding in said.findings
    }
    assert said.quarantined
    assert said.brightness


def test_there_may_be_more_shards_than_images(tmp_path: Path, put_together: list[str]) -> None:
    _compare(small_dataset(tmp_path / "dataset", "detection", None), tmp_path, 9, mode="full")
    assert put_together == ["validate", "convert"]


@pytest.mark.parametrize(("task", "count"), [("segmentation", 2), ("pose", 8), ("classification", 2)])
def test_so_it_is_for_every_task(task: str, count: int, tmp_path: Path, put_together: list[str]) -> None:
    report, _ = _compare(
        _of_task(tmp_path / "dataset", task),
        tmp_path,
        count,
        mode="full",
        on_error="quarantine",
    )
    assert put_together == ["validate", "convert"]
    assert validation.read(report).findings


@pytest.mark.parametrize("mode", ["annotations", "headers"])
def test_so_it_is_for_every_mode(dataset: Path, tmp_path: Path, mode: str, put_together: list[str]) -> None:
    _compare(dataset, tmp_path, 3, mode=mode, checks='{"same_bytes": "off"}')
    assert put_together == ["validate", "convert"]


@pytest.mark.parametrize("name", ["yolo", "coco"])
def test_so_it_is_for_other_formats(dataset: Path, tmp_path: Path, name: str, put_together: list[str]) -> None:
    exported = tmp_path / name
    snapshot = Snapshot(stage("snapshot", tmp_path / "exports", dataset=str(dataset)))
    work = tmp_path / "work"
    work.mkdir()
    exchange.exported(snapshot, str(tmp_path / "exports"), str(exported), name, work)
    _compare(exported, tmp_path, 3, mode="headers", checks='{"same_bytes": "off"}')
    assert put_together == ["validate", "convert"]


def test_an_error_of_a_shard_is_told_of_the_whole(dataset: Path, tmp_path: Path) -> None:
    """A shard's result holds what is wrong; which error comes first is said when all are there."""
    for name in ("b/21.png", "a/02.png", "b/13.png"):
        (dataset / "images" / name).write_bytes(b"no picture")
    with pytest.raises(InvalidDataset) as whole:
        _whole(dataset, tmp_path / "whole", mode="headers")
    with pytest.raises(InvalidDataset) as merged:
        _merged(dataset, tmp_path / "merged", 8, mode="headers")
    output, again = (refused.value.sentence.partition(" The report lies")[0] for refused in (whole, merged))
    assert output == again
    assert "a/02.png" in output
    assert sum(shards.is_shard(result) for result in _every(tmp_path / "merged", "validate")) == 8


def _every(workspace: Path, name: str) -> list[Result]:
    prefix = open_prefix(str(workspace), "results")
    looked = [receipts.look(prefix, name, key) for key in prefix.children(name)[0]]
    return [result for result in looked if result is not None]


def test_more_pictures_with_errors_than_may_be_left_out_are_counted_over_all_shards(
    dataset: Path, tmp_path: Path
) -> None:
    for name in ("b/21.png", "b/13.png"):
        (dataset / "images" / name).write_bytes(b"no picture")
    with pytest.raises(InvalidDataset, match=r"^3 of 23 images have errors, more than the 5% that may be left out"):
        _merged(dataset, tmp_path / "results", 8, mode="headers", on_error="quarantine")


def test_a_changed_picture_ends_its_shard(dataset: Path, tmp_path: Path) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(dataset))
    _picture(dataset, "a/02.png", 99)
    ended = []
    for shard in shards.listed(3):
        try:
            stage("validate", tmp_path / "results", snapshot=snapshot.uri, shard=shard)
        except DatasetChanged as error:
            ended.append(error.sentence)
    assert len(ended) == 1
    assert "a/02.png: changed since the snapshot" in ended[0]


def test_a_lost_shard_is_computed_with_the_whole(
    dataset: Path, tmp_path: Path, put_together: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    how = {"mode": "headers", "checks": '{"same_bytes": "off"}'}
    whole = _whole(dataset, tmp_path / "whole", **how)
    workspace = tmp_path / "merged"
    snapshot = stage("snapshot", workspace, dataset=str(dataset)).uri
    parts = [stage("validate", workspace, snapshot=snapshot, shard=shard, **how) for shard in ("1/3", "2/3", "3/3")]
    Path(parts[1].output_uri("part").removeprefix("file://")).unlink()
    report = stage("validate", workspace, snapshot=snapshot, shards="3", **how)
    assert "validate: of its shards 2/3 is not there; all images are worked on here." in capfd.readouterr().err
    _same(whole[0], report)
    _same(whole[1], stage("convert", workspace, snapshot=snapshot, report=report.uri, shards="3"))
    assert put_together == []


@pytest.mark.parametrize("name", ["validate", "convert"])
def test_a_damaged_shard_is_computed_with_the_whole(
    dataset: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """As long as before, with other bytes, and above the size that is read back before a receipt is believed."""
    how = {"mode": "headers", "checks": '{"same_bytes": "off"}'}
    whole = dict(zip(("validate", "convert"), _whole(dataset, tmp_path / "whole", **how), strict=True))
    workspace = tmp_path / "merged"
    arguments = {"snapshot": stage("snapshot", workspace, dataset=str(dataset)).uri}
    arguments |= how if name == "validate" else {"report": stage("validate", workspace, **arguments, **how).uri}
    parts = [stage(name, workspace, **arguments, shard=shard) for shard in shards.listed(2)]
    path = Path(parts[1].output_uri("part").removeprefix("file://"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "intact", lambda _: True)
        merged = stage(name, workspace, **arguments, shards="2")
    assert "is damaged" in capfd.readouterr().err
    _same(whole[name], merged)


def test_with_the_whole_there_a_shard_has_nothing_to_do(dataset: Path, tmp_path: Path) -> None:
    how = {"mode": "headers", "checks": '{"same_bytes": "off"}'}
    report, converted = _whole(dataset, tmp_path / "results", **how)
    snapshot = report.receipt.inputs["snapshot"].receipt
    assert stage("validate", tmp_path / "results", snapshot=snapshot, shard="1/2", **how).uri == report.uri
    arguments = {"snapshot": snapshot, "report": report.uri}
    assert stage("convert", tmp_path / "results", **arguments, shard="2/2").uri == converted.uri
    # Another severity judges anew what the shards saw.
    assert stage("validate", tmp_path / "results", snapshot=snapshot, shard="1/2", mode="headers").uri != report.uri


def test_other_checks_take_what_the_shards_saw(dataset: Path, tmp_path: Path, put_together: list[str]) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(dataset)).uri
    arguments = {"snapshot": snapshot, "mode": "full"}
    for shard in shards.listed(2):
        stage("validate", tmp_path / "results", **arguments, shard=shard)
    stage("validate", tmp_path / "results", **arguments, shards="2", on_error="quarantine")
    stage("validate", tmp_path / "results", **arguments, shards="2", checks='{"same_bytes": "warning"}')
    assert put_together == ["validate", "validate"]


def test_a_shard_is_not_taken_for_a_report(dataset: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "results"
    snapshot = stage("snapshot", workspace, dataset=str(dataset)).uri
    part = stage("validate", workspace, snapshot=snapshot, shard="1/2")
    assert part.receipt.parameters["shard"].value == "1/2"
    with pytest.raises(InvalidReceipt, match="a shard's part of a report; give the receipt of the whole"):
        stage("convert", workspace, snapshot=snapshot, report=part.uri)


@pytest.mark.parametrize(
    "shard", ["0/4", "5/4", "2-4", "2", "/", "1/0", "a/b", "1/101", "-1/4", "1/4/4", "01/4", "１/４"]
)
def test_a_wrong_shard_is_refused(shard: str, tmp_path: Path) -> None:
    for name, needed in (("validate", ()), ("convert", ("report",))):
        with pytest.raises(InvalidConfig, match=r"give a shard and how many there are, such as 2/8"):
            stage(name, tmp_path, snapshot="nowhere", shard=shard, **dict.fromkeys(needed, "nowhere"))


@pytest.mark.parametrize("count", ["0", "-1", "four", "1e9", "101", "4.0", " 4", "1000000000000", "４"])
def test_a_wrong_number_of_shards_is_refused(count: str, tmp_path: Path) -> None:
    for name, needed in (("validate", ()), ("convert", ("report",))):
        with pytest.raises(InvalidConfig, match=r"^--shards .*: give a whole number from 1 to 100\.$"):
            stage(name, tmp_path, snapshot="nowhere", shards=count, **dict.fromkeys(needed, "nowhere"))


def test_shards_and_a_shard_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="--shards and --shard are both given"):
        stage("validate", tmp_path, snapshot="nowhere", shards="4", shard="1/4")


def test_so_it_is_for_several_datasets_with_weights(dataset: Path, tmp_path: Path, put_together: list[str]) -> None:
    """An image that is repeated has its labels in the shard of its own name."""
    other = small_dataset(tmp_path / "other", "detection", None, dataset_id="2")
    listed = json.dumps([{"uri": str(dataset), "weight": 2}, {"uri": str(other), "weight": 0.5}])
    _, converted = _compare(listed, tmp_path, 3, mode="headers", checks='{"same_bytes": "off"}')
    assert put_together == ["validate", "convert"]
    assert converted.receipt.scalars["repeated"] > 0
