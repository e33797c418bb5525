"""The predict stage: its key, its shards and how it goes on from them, what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from decided import register
from event_receiver import Receiver, receiving
from event_schemas import check_prediction
from numpy.typing import NDArray
from PIL import Image
from toy_detector import SIZE, Prepared, ToyPredictor, published, run
from untrained import photograph
from untrained import register as register_untrained

from visionloop.components.cleanup import STAGE as CLEANUP
from visionloop.components.predict import STAGE, listing, stage
from visionloop.components.predict.images import Picture
from visionloop.components.snapshot.dataset import opened
from visionloop.core.errors import (
    AccessDenied,
    DatasetChanged,
    DatasetNotFound,
    InvalidConfig,
    InvalidDataset,
    Transient,
)
from visionloop.core.receipts import Result
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Outcome
from visionloop.core.stop import Stop
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.formats import reader
from visionloop.pipelines.following.state import Place
from visionloop.pipelines.stopping import stop_run
from visionloop.registry import Registry
from visionloop.training.trainers import Prediction, PredictionSettings

BOX = (10.0, 20.0, 30.0, 44.0)


def scene(path: Path, brightness: int = 200) -> Path:
    """A picture on which the toy finds one object at ``BOX``; at another brightness nothing."""
    pixels = np.zeros((SIZE, 2 * SIZE), np.uint8)
    pixels[20:44, 10:30] = brightness
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each image that the model was given."""
    numbers: list[int] = []
    before = ToyPredictor.predict

    def predict(
        self: ToyPredictor, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings
    ) -> Iterator[list[Prediction]]:
        def counted() -> Iterator[NDArray[np.uint8]]:
            for pixels in images:
                numbers.append(len(numbers))
                yield pixels

        return before(self, counted(), settings)

    monkeypatch.setattr(ToyPredictor, "predict", predict)
    return numbers


@pytest.fixture
def model(prepared: Prepared, registry: Registry, name: str) -> str:
    """A registered toy detector."""
    register(prepared, name, 0)
    return f"{name}@champion"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven images, three a shard: the third has no object, the fifth is no picture."""
    monkeypatch.setattr(stage, "SHARD_IMAGES", 3)
    folder = tmp_path / "photos"
    for number, key in enumerate(("a.png", "b/a.png", "b/b.png", "b/c.png", "b/d.jpg", "c.PNG", "d.png")):
        scene(folder / key, 50 if number == 2 else 200)
    (folder / "b/d.jpg").write_text("<html>")
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(prepared: Prepared, model: str, images: Path, **more: Any) -> Outcome:
    common = {name: more.pop(name) for name in ("run", "force") if name in more}
    return run(STAGE, {"model": model, "images": images.as_uri(), **more}, prepared.workspace, **common)


def rows(result: Result) -> list[dict[str, Any]]:
    """The rows of all tables, in their order."""
    names = sorted(name for name in result.receipt.outputs if name.startswith("predictions-"))
    return [row for name in names for row in _table(result, name).to_pylist()]


def _table(result: Result, name: str) -> Any:
    import io

    return pq.read_table(io.BytesIO(result.read(name)))


def keys(prepared: Prepared) -> set[str]:
    """The keys of predict that have a receipt."""
    objects = open_prefix(prepared.workspace, "results").objects("predict")
    return {info.key.split("/")[1] for info in objects if info.key.endswith("/receipt.json")}


def _lost_at(key: str, read: Callable[[Picture], bytes]) -> Callable[[Picture], bytes]:
    """Reads an image, from a store that does not answer when one of them is asked for."""

    def lost(self: Picture) -> bytes:
        if self.key == key:
            raise Transient("The store does not answer.")
        return read(self)

    return lost


def test_the_tables_have_each_image_in_the_order_of_the_keys(prepared: Prepared, model: str, photos: Path) -> None:
    outcome = predict(prepared, model, photos)
    result = published(outcome)
    found = rows(result)
    assert list(found[0]) == [
        *("file_name", "width", "height", "class", "class_index", "confidence", "x1", "y1", "x2", "y2"),
        *("polygons", "holes", "keypoints"),
    ]
    assert [row["file_name"] for row in found] == ["a.png", "b/a.png", "b/b.png", "b/c.png", "c.PNG", "d.png"]
    assert {(row["width"], row["height"]) for row in found} == {(2 * SIZE, SIZE)}
    assert [row["class"] for row in found] == ["bright", "bright", None, "bright", "bright", "bright"]
    assert found[2]["x1"] is found[2]["confidence"] is found[2]["class_index"] is None
    assert tuple(found[0][side] for side in ("x1", "y1", "x2", "y2")) == BOX
    assert (found[0]["class_index"], found[0]["confidence"]) == (1, 0.9)
    (unreadable,) = json.loads(result.read("unreadable"))
    assert unreadable["file_name"] == "b/d.jpg"
    assert "not a PNG" in unreadable["reason"]
    scalars = outcome.scalars
    assert (scalars["images"], scalars["objects"], scalars["unreadable"], scalars["shards"]) == (6, 5, 1, 3)
    assert scalars["images_per_second"] > 0
    assert scalars["warnings_by_code"] == {"unreadable": 1}
    assert (scalars["model"], scalars["images_uri"]) == (model.replace("@champion", "/1"), photos.as_uri())
    samples = [name for name in result.receipt.outputs if name.startswith("sample-")]
    assert len(samples) == 6
    assert not any(result.receipt.outputs[name].result for name in samples)
    assert result.read(samples[0]).startswith(b"\xff\xd8")


def test_shards_are_kept_and_only_what_changed_is_done_again(
    prepared: Prepared, model: str, photos: Path, seen: list[int], tmp_path: Path
) -> None:
    first = published(predict(prepared, model, photos))
    assert (len(keys(prepared)), len(seen)) == (4, 6)
    again = predict(prepared, model, photos)
    assert (again.reused, len(seen)) == (True, 6)
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert predict(prepared, model, tmp_path / "elsewhere").reused
    # Another format makes another whole of the same shards.
    other = predict(prepared, model, photos, write="coco")
    assert (other.reused, len(seen), len(keys(prepared))) == (False, 6, 5)
    assert other.scalars["images_per_second"] is None
    assert rows(published(other)) == rows(first)
    scene(photos / "d.png", 100)
    changed = published(predict(prepared, model, photos))
    assert len(seen) == 7
    assert rows(changed)[-1]["class"] == "dim"
    assert rows(changed)[:-1] == rows(first)[:-1]
    confident = published(predict(prepared, model, photos, confidence="0.95"))
    assert len(seen) == 13
    assert {row["class"] for row in rows(confident)} == {None}
    # What counts is the confidence, not who gave it.
    assert predict(prepared, model, photos, confidence="0.25").reused
    predict(prepared, model, photos, force=True)
    assert len(seen) == 19


def test_a_prediction_that_was_cut_off_goes_on_behind_its_last_shard(
    prepared: Prepared, model: str, photos: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Picture.read
    monkeypatch.setattr(Picture, "read", _lost_at("d.png", read))
    with pytest.raises(Transient):
        predict(prepared, model, photos, run="cut")
    assert (len(keys(prepared)), len(seen)) == (2, 5)
    record = RunRecord(open_prefix(prepared.workspace, "results"), "cut")
    assert [(state.shard, state.state) for state in record.shards()] == [
        ("1/3", "succeeded"),
        ("2/3", "succeeded"),
        ("3/3", "running"),
    ]
    monkeypatch.setattr(Picture, "read", read)
    outcome = predict(prepared, model, photos, run="cut")
    assert (outcome.reused, len(seen), len(keys(prepared))) == (False, 6, 4)
    assert [row["file_name"] for row in rows(published(outcome))][-1] == "d.png"


def test_a_prediction_has_no_epoch_to_stop_after(
    prepared: Prepared, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Picture, "read", _lost_at("d.png", Picture.read))
    with pytest.raises(Transient):
        predict(prepared, model, photos, run="cut")
    with pytest.raises(InvalidConfig, match="visionloop run cancel cut ends it, and the shards that are done stay"):
        stop_run(Place(prepared.workspace, "cut"), Stop())


def test_what_a_lost_attempt_at_a_shard_leaves_goes_with_the_run(
    prepared: Prepared, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Transient("The receipt can't be written.")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "publish", killed)
        with pytest.raises(Transient):
            predict(prepared, model, photos, run="lost")
    workspace = open_prefix(prepared.workspace, "results")
    assert [info.key for info in workspace.objects("predict") if info.key.endswith(".parquet")]
    run(CLEANUP, {}, prepared.workspace, run="lost")
    assert not [info.key for info in workspace.objects("predict") if info.key.endswith(".parquet")]


@pytest.mark.parametrize("change", [lambda path: scene(path, 100), Path.unlink])
def test_an_image_that_changes_after_the_listing_is_no_result(
    prepared: Prepared, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    listed = stage.listed

    def then(*arguments: Any) -> Any:
        listing = listed(*arguments)
        change(photos / "b/c.png")
        return listing

    monkeypatch.setattr(stage, "listed", then)
    with pytest.raises(DatasetChanged, match=r"b/c\.png: the image is (gone|another one) since the images were listed"):
        predict(prepared, model, photos)
    assert len(keys(prepared)) == 1


def test_where_no_image_can_be_read_there_is_no_result(prepared: Prepared, model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFound, match="no image lies there"):
        predict(prepared, model, tmp_path / "empty")
    os.mkfifo(tmp_path / "empty/pipe.png")
    with pytest.raises(DatasetNotFound, match=r"no image lies there .* \(passed over: pipe\.png \(.*pipe.*\)\); name"):
        predict(prepared, model, tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("<html>")
    with pytest.raises(InvalidDataset, match=r"none of the 1 images can be read; a\.png: not a PNG"):
        predict(prepared, model, tmp_path / "bad")


def test_what_is_no_file_is_a_notice_of_the_run(prepared: Prepared, model: str, photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "notes.pipe").symlink_to("notes.pipe")
    outcome = predict(prepared, model, photos, run="passed")
    (told,) = RunRecord(open_prefix(prepared.workspace, "results"), "passed").state("predict").notices
    assert told.startswith("passed over: loop.png (")
    assert "pipe.png (" in told
    assert "notes" not in told
    assert outcome.scalars["images"] == 6


def test_a_file_that_may_not_be_read_is_told_and_the_rest_goes_on(
    prepared: Prepared, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, read = listing.sha256_of, Prefix.read_with_etag

    def refused(prefix: Prefix, keys: list[str]) -> list[str]:
        if keys == ["a.png"]:
            raise PermissionError(13, "Permission denied", "a.png")
        return hashed(prefix, keys)

    def denied(self: Prefix, key: str) -> tuple[bytes, str]:
        if key == "a.png":
            raise AccessDenied("a.png: permission denied; let this user read it.")
        return read(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(listing, "sha256_of", refused)
        patch.setattr(Prefix, "read_with_etag", denied)
        outcome = predict(prepared, model, photos)
    names = [entry["file_name"] for entry in json.loads(published(outcome).read("unreadable"))]
    assert names == ["a.png", "b/d.jpg"]
    # With the right to read it, it is another listing.
    assert predict(prepared, model, photos).scalars["unreadable"] == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"write": "voc"}, "--write voc: give coco or dice"),
        ({"tile": "12"}, "--tile 12: give the side of a tile"),
        ({"confidence": "much"}, "--confidence much: give a number from 0 to 1"),
        ({"confidence": "1.5"}, "give a number from 0 to 1"),
        ({"model": "nobody@champion"}, "no such model is registered"),
        ({"images": "https://example.com/a"}, "https:// is not supported"),
    ],
)
def test_what_can_t_be_done_is_told_before_an_image_is_read(
    prepared: Prepared, model: str, photos: Path, arguments: dict[str, str], part: str
) -> None:
    with pytest.raises(InvalidConfig, match=part):
        run(STAGE, {"model": model, "images": str(photos), **arguments}, prepared.workspace)


def test_results_don_t_lie_among_the_images(prepared: Prepared, model: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"is inside --images .*: what is written would count as an image"):
        predict(prepared, model, tmp_path)


def test_the_datasets_beside_the_tables_hold_what_these_hold(
    prepared: Prepared, model: str, photos: Path, tmp_path: Path
) -> None:
    result = published(predict(prepared, model, photos, write="dice, coco"))
    coco = json.loads(result.read("coco"))
    assert [entry["name"] for entry in coco["categories"]] == ["dim", "bright"]
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    assert list(names.values()) == [row["file_name"] for row in rows(result)]
    assert [names[entry["image_id"]] for entry in coco["annotations"]] == [
        row["file_name"] for row in rows(result) if row["class"]
    ]
    x1, y1, x2, y2 = BOX
    for number, entry in enumerate(coco["annotations"], 1):
        assert (entry["id"], entry["category_id"], entry["score"]) == (number, 1, 0.9)
        assert entry["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    dataset = tmp_path / "reviewed"
    shutil.copytree(photos, dataset / "images")
    (dataset / "annotations_detection.json").write_bytes(result.read("dice"))
    with opened(open_prefix(dataset.as_uri(), "dataset"), None) as source:
        read = reader("dice")(source)
    assert read.images["file_name"].to_pylist() == [row["file_name"] for row in rows(result)]
    assert len(read.objects) == 5
    attributes = set(read.objects["attributes"].to_pylist())
    assert attributes == {'{"confidence":0.9,"predicted":true}'}


def test_tiles_are_in_the_key_and_only_large_images_are_cut(
    prepared: Prepared, model: str, photos: Path, seen: list[int]
) -> None:
    whole = published(predict(prepared, model, photos))
    assert len(seen) == 6
    tiled = published(predict(prepared, model, photos, tile="96"))
    # Of 192 × 96 pixels: the whole and three tiles each.
    assert len(seen) == 6 + 6 * 4
    assert tiled.receipt.parameters["tile"].value == 96
    assert "tile" not in whole.receipt.parameters
    # The toy sees all of an object in the whole and in a tile: once it is.
    assert rows(tiled) == rows(whole)
    assert predict(prepared, model, photos, tile="96").reused


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver of events, and one of bare data at the same address, which hears nothing."""
    with receiving() as server:
        monkeypatch.setenv("VISIONLOOP_EVENTS_URL", server.url)
        monkeypatch.setenv("CALLBACK_URL", server.url.replace("/events", "/bare"))
        yield server


def test_a_receiver_is_told_of_each_shard_and_of_the_end(
    prepared: Prepared, model: str, photos: Path, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.taken.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Picture, "read", _lost_at("d.png", Picture.read))
        with pytest.raises(Transient):
            predict(prepared, model, photos, run="night")
    again = predict(prepared, model, photos, run="night")
    predict(prepared, model, photos, run="later")
    events = [posted for posted in told.taken if posted.kind != "log"]
    first, second = RunRecord(open_prefix(prepared.workspace, "results"), "night").state("predict").attempts
    assert [posted.id for posted in events] == [
        f"night.predict.started.{first}.1",
        *("night.predict.progress.1", "night.predict.progress.2"),
        f"night.predict.started.{second}.1",
        *(f"night.predict.progress.{shard}" for shard in (1, 2, 3)),
        "night.predict.completed",
        "later.predict.completed",
    ]
    for posted in told.taken:
        check_prediction(posted)
        assert posted.path == "/events"
    assert [posted.data["images"] for posted in events if posted.kind == "progress"] == [3, 6, 3, 6, 7]
    assert [posted.data["images_per_second"] is None for posted in events if posted.kind == "progress"][2:] == [
        *(True, True, False),
    ]
    completed, reused = events[-2].data, events[-1].data
    assert (completed["reused"], reused["reused"]) == (False, True)
    assert completed["receipt"] == published(again).uri
    assert published(again).output_uri("predictions-00000") == f"{completed['results']}/predictions-00000.parquet"
    assert events[0].body["source"] == "/runs/night/predict"


def test_a_failure_that_is_never_retried_is_told_and_else_cleanup_tells_it(
    prepared: Prepared, model: str, photos: Path, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.taken.clear()
    with pytest.raises(InvalidConfig):
        predict(prepared, "nobody@champion", photos, run="wrong")
    monkeypatch.setattr(Picture, "read", _lost_at("a.png", Picture.read))
    with pytest.raises(Transient):
        predict(prepared, model, photos, run="lost")
    assert [posted.id for posted in told.taken if posted.kind == "failed"] == ["wrong.predict.failed"]
    run(CLEANUP, {"engine_status": "Failed"}, prepared.workspace, run="lost")
    last = told.taken[-1]
    check_prediction(last)
    assert (last.id, last.data["stage"], last.data["error_code"]) == ("lost.predict.failed", "predict", "TRANSIENT")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "task"),
    [("torchvision", "segmentation"), ("torchvision", "pose"), ("timm", "classification")],
)
def test_each_task_has_its_columns_and_its_files(
    registry: Registry, name: str, trainer: str, task: str, tmp_path: Path
) -> None:
    register_untrained(registry, trainer, task, name, tmp_path)
    photos = tmp_path / "photos"
    for number in range(3):
        photograph(photos / f"{number}.png", seed=number)
    options = {"write": "dice"} if task == "classification" else {"write": "dice,coco", "confidence": "0.001"}
    arguments = {"model": f"{name}@champion", "images": photos.as_uri(), **options}
    workspace = (tmp_path / "workspace").as_uri()
    result = published(run(STAGE, arguments, workspace))
    found = rows(result)
    assert all(row["class"] in ("dim", "bright") for row in found)
    if task == "classification":
        assert [row["x1"] for row in found] == [None] * len(found)
        assert "confidences" not in result.receipt.parameters
        document = json.loads(result.read("dice"))
        # Of a whole image the likeliest class is its label.
        likeliest = {row["file_name"]: row["class"] for row in reversed(found)}
        labels = {
            image["file_name"]: [entry["class_name"] for entry in image["annotations"]] for image in document["images"]
        }
        assert labels == {file: [label] for file, label in likeliest.items()}
        with pytest.raises(InvalidConfig, match="COCO holds no classes of whole images"):
            run(STAGE, {**arguments, "write": "coco"}, workspace)
        return
    assert any(row["x1"] is not None for row in found)
    entries = json.loads(result.read("coco"))["annotations"]
    assert len(entries) == len(found)
    if task == "segmentation":
        assert any(row["polygons"] for row in found)
        assert [bool(entry["segmentation"]) for entry in entries] == [bool(row["polygons"]) for row in found]
    else:
        assert [point["name"] for point in found[0]["keypoints"]] == ["left", "right"]
        assert all(len(entry["keypoints"]) == 6 for entry in entries)
