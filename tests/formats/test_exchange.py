"""``visionloop dataset import``: from any store to any other, nothing overwritten, and nothing half-written that looks whole."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
import test_formats_in_stages as samples
from PIL import Image

from visionloop.core.errors import VisionloopError
from visionloop.core.storage import Prefix, Sent, open_prefix
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.formats import exchange
from visionloop.data.formats.exchange import INCOMPLETE, check_empty, write_dataset
from visionloop.pipelines.cli.main import application


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and the sentence of ``visionloop dataset``."""
    error: VisionloopError | None = None
    try:
        application(["dataset"])(["dataset", *map(str, words)], standalone_mode=False)
    except VisionloopError as raised:
        error = raised
    code, sentence = (0, "") if error is None else (error.exit_code, error.sentence)
    return code, capsys.readouterr().out, sentence


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_coco_becomes_dice_with_linked_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets")
    target = tmp_path / "new" / "dice"
    code, out, _ = command(capsys, "import", source, target)
    assert code == 0
    result = json.loads(out)
    assert result == {
        "source": source.as_uri(),
        "destination": target.as_uri(),
        "format": "dice",
        "title": "a DICE dataset",
        "task": "detection",
        "images": 3,
        "objects": 3,
        "files": 1,
        "notices": [],
    }
    assert files_of(target) == ["annotations_detection.json", "images/a.png", "images/c.png", "images/sub/b.png"]
    assert os.path.samefile(source / "images/a.png", target / "images/a.png")
    assert layouts.rows(layouts.read(target, "dice")) == layouts.rows(layouts.read(source, "coco"))
    assert json.loads((target / "annotations_detection.json").read_text())["dataset_name"] == "pets"
    assert layouts.read(target, "dice").findings == ()


def test_what_a_person_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets", segmentation=[[1, 1, 5, 1, 5, 5]])
    code, out, _ = command(capsys, "import", source, tmp_path / "dice", "--output", "text")
    assert code == 0
    assert out.splitlines()[:4] == [
        f"Written  a DICE dataset: {(tmp_path / 'dice').as_uri()}",
        "Task     detection",
        "Images   3",
        "Objects  3 read",
    ]
    assert "read for detection, though the annotations serve segmentation too" in out.splitlines()[4]


def test_images_are_copied_where_no_link_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source, target = layouts.coco(tmp_path / "pets"), tmp_path / "dice"
    assert command(capsys, "import", source, target)[0] == 0
    assert (target / "images/a.png").read_bytes() == (source / "images/a.png").read_bytes()
    assert not os.path.samefile(source / "images/a.png", target / "images/a.png")


def test_a_link_to_an_image_gives_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets")
    (source / "images/a.png").rename(tmp_path / "a.png")
    (source / "images/a.png").symlink_to("../../a.png")
    assert command(capsys, "import", source, tmp_path / "deep/er/dice")[0] == 0
    assert not (tmp_path / "deep/er/dice/images/a.png").is_symlink()
    assert os.path.samefile(tmp_path / "a.png", tmp_path / "deep/er/dice/images/a.png")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/.note").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "other-name").symlink_to("pets")
    for name, words in {
        "full": '".note" lies there, and nothing is overwritten',
        "file": "a file or a link lies there",
        "link": "a file or a link lies there",
        "other-name/new": "/other-name/new is inside file://",
        "pets/new": "/pets/new is inside file://",
        "": " is around file://",
    }.items():
        code, _, sentence = command(capsys, "import", source, tmp_path / name)
        assert (code, words in sentence) == (78, True), sentence
    assert files_of(source) == files_of(layouts.coco(tmp_path / "other"))
    (tmp_path / "empty").mkdir()
    assert command(capsys, "import", source, tmp_path / "empty")[0] == 0


def test_an_error_of_the_source_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets")
    file = source / "annotations/instances_val2017.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["image_id"] = 99
    file.write_text(json.dumps(document))
    code, out, sentence = command(capsys, "import", source, tmp_path / "dice")
    assert (code, out) == (65, "")
    assert "is the id of no image" in sentence
    assert not (tmp_path / "dice").exists()


def test_an_image_that_does_not_exist_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = layouts.coco(tmp_path / "pets")
    (source / "images/a.png").unlink()
    code, out, _ = command(capsys, "import", source, tmp_path / "dice")
    assert code == 0
    assert json.loads(out)["images"] == 2
    assert any("1 image does not exist (images/a.png)" in notice for notice in json.loads(out)["notices"])
    assert len(layouts.read(tmp_path / "dice", "dice").objects) == 3


def test_a_folder_that_is_not_complete_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = layouts.coco(tmp_path / "pets"), tmp_path / "out" / "folder"
    prefix = check_empty(str(target), source.as_uri())

    def stop(kind: str, done: int) -> None:
        assert not target.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(layouts.read(source, "coco"), open_prefix(str(source), "dataset"), prefix, "yolo", tmp_path, stop)
    assert os.listdir(tmp_path / "out") == []
    # What a kill leaves is not cleaned up.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(layouts.read(source, "coco"), open_prefix(str(source), "dataset"), prefix, "yolo", tmp_path, stop)
    [left] = os.listdir(tmp_path / "out")
    assert left.startswith(".folder.")
    assert left.endswith(".partial")
    assert check_empty(str(target), source.as_uri())


WRITES = """
import sys, time
from visionloop.core.storage import Prefix
def put(*_):
    print("writing", flush=True)
    time.sleep(60)
Prefix.write = Prefix.upload = put
from visionloop.pipelines.cli.main import application
application(["dataset"])(["dataset", "import", *sys.argv[1:]])
"""


def test_what_a_killed_import_left_is_removed_by_the_next_one_and_what_a_living_one_writes_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = layouts.coco(tmp_path / "pets"), tmp_path / "out" / "a+b"
    words = [sys.executable, "-c", WRITES, str(source), str(target)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            [left] = os.listdir(tmp_path / "out")
            code, out, _ = command(capsys, "import", source, target)
            assert (code, json.loads(out)["notices"]) == (0, [])
            assert sorted(os.listdir(tmp_path / "out")) == [left, "a+b"]
        finally:
            process.kill()
    shutil.rmtree(target)
    another = tmp_path / "out" / ".a+b.00000000-01234567.partial"
    layouts.write(another, {"of another host": b""})
    code, out, _ = command(capsys, "import", source, target)
    assert code == 0
    assert json.loads(out)["notices"] == [f"{left} was left by a command that was interrupted: removed."]
    assert sorted(os.listdir(tmp_path / "out")) == [another.name, "a+b"]


NAMES = ("a b.png", "sub/ü 猫%20.png", "x+y&z=1#2.png")


def named(folder: Path) -> Path:
    """A DICE dataset of images with names that addresses escape."""
    images: list[dict[str, Any]] = [
        {
            "file_name": name,
            "width": 40,
            "height": 30,
            "split": "train",
            "annotations": [{"class_id": 0, "bbox": [1, 2, 3, 4]}],
        }
        for name in NAMES
    ]
    document = {"format_version": "1.0", "task_type": "detection", "classes": layouts.CLASSES, "images": images}
    layouts.write(folder, {"annotations_detection.json": document})
    for name in NAMES:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(name.encode())
    return folder


def test_from_folder_to_store_to_bucket_to_folder(
    tmp_path: Path, s3_environment: object, capsys: pytest.CaptureFixture[str]
) -> None:
    run = uuid.uuid4().hex[:8]
    source, back = named(tmp_path / "names"), tmp_path / "back"
    ways = [str(source), f"s3://datasets/{run}/a", f"s3://datasets/{run}/b", f"s3://results/{run}/c", str(back)]
    for here, existing in itertools.pairwise(ways):
        code, _, sentence = command(capsys, "import", here, existing)
        assert (code, sentence) == (0, "")
    keys = {info.key for info in open_prefix(ways[3], "dataset").objects()}
    assert keys == {"annotations_detection.json", *(f"images/{name}" for name in NAMES)}
    for name in NAMES:
        assert (back / "images" / name).read_bytes() == name.encode()
    assert layouts.rows(layouts.read(back, "dice")) == layouts.rows(layouts.read(source, "dice"))
    code, _, sentence = command(capsys, "import", source, ways[1])
    assert (code, "nothing is overwritten" in sentence) == (78, True)
    code, _, sentence = command(capsys, "import", source, f"s3://no-bucket-{run}/a")
    assert code == 78, sentence


def test_what_is_not_complete_in_a_store_says_so(
    tmp_path: Path, s3_environment: object, capsys: pytest.CaptureFixture[str]
) -> None:
    source, uri = layouts.coco(tmp_path / "pets"), f"s3://datasets/{uuid.uuid4().hex[:8]}"
    store_prefix = check_empty(uri, source.as_uri())
    prefix = open_prefix(str(source), "dataset")

    def stop(kind: str, done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(layouts.read(source, "coco"), prefix, store_prefix, "voc", tmp_path, stop)
    assert "This dataset is not complete" in store_prefix.read(INCOMPLETE).decode()
    code, _, sentence = command(capsys, "import", source, uri)
    assert (code, "was not written to its end" in sentence) == (78, True)


def test_what_shows_the_format_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, keys = layouts.coco(tmp_path / "pets"), list[str]()
    monkeypatch.setattr(exchange, "_FILES_AT_ONCE", 1)
    write = Prefix.write

    def recorded(self: Prefix, key: str, data: bytes) -> Sent:
        keys.append(key)
        return write(self, key, data)

    monkeypatch.setattr(Prefix, "write", recorded)
    store_prefix = check_empty(str(tmp_path / "yolo"), source.as_uri())
    read, prefix = layouts.read(source, "coco"), open_prefix(str(source), "dataset")
    report = write_dataset(read, prefix, store_prefix, "yolo", tmp_path)
    assert report.files == len(keys) == 5
    assert keys[-1] == "data.yaml"


def test_a_large_file_is_sent_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = layouts.coco(tmp_path / "pets")
    monkeypatch.setattr(exchange, "_HELD", 100)
    store_prefix = check_empty(str(tmp_path / "coco"), source.as_uri())
    read, prefix = layouts.read(source, "coco"), open_prefix(str(source), "dataset")
    assert write_dataset(read, prefix, store_prefix, "coco", tmp_path).files == 2
    assert layouts.rows(layouts.read(tmp_path / "coco", "coco")) == layouts.rows(read)
    assert not (tmp_path / "annotations").exists()


def folders(folder: Path) -> Path:
    for number, key in enumerate(("train/cat/a.png", "train/dog/b c.png", "val/cat/a.png")):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4 + number, 4)).save(folder / key)
    return folder


@pytest.mark.parametrize(
    ("make", "task"),
    [
        (samples.voc, None),
        (samples.yolo, None),
        (folders, None),
        (samples.labelstudio, None),
        (samples.cvat, None),
        (samples.cvat, "segmentation"),
    ],
)
def test_every_format_becomes_the_same_dataset_in_dice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], task: str | None
) -> None:
    source, target = make(tmp_path / "source"), tmp_path / "dice"
    code, out, sentence = command(capsys, "import", source, target, *(("--task", task) if task else ()))
    assert (code, sentence) == (0, "")
    name = make.__name__
    read, again = layouts.read(source, name, task), layouts.read(target, "dice")
    assert annotations_hash(again) == annotations_hash(read)
    assert again.findings == ()
    assert json.loads(out)["images"] == len(read.images)
