"""Of a dataset in a store the next snapshot reads only what changed: sizes of pictures, and small files."""

from __future__ import annotations

import io
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import laptop as machine
import pyarrow as pa
import pytest
from laptop import Server
from PIL import Image
from test_formats_in_stages import folder_of, voc, yolo

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.kept import Kept
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import catalog
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.formats.source import LISTED, Source
from visionloop.data.images import ImageCache, inspect


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The keys whose bytes are read, whole or in part."""
    counted: Counter[str] = Counter()
    for name in ("read_with_etag", "read_start_with_etag"):
        original = getattr(Prefix, name)

        def counting(self: Prefix, key: str, *rest: Any, original: Any = original) -> Any:
            if self.role == "dataset":
                counted[key] += 1
            return original(self, key, *rest)

        monkeypatch.setattr(Prefix, name, counting)
    return counted


def take(dataset: Prefix, workspace: str, name: str = "snapshot", **inputs: str) -> Result:
    arguments = {"dataset": dataset.uri} if name == "snapshot" else inputs
    result = run_stage(catalog.stage(name), arguments, Invocation(workspace, run=uuid.uuid4().hex[:8])).result
    assert result is not None
    return result


@pytest.mark.parametrize(("make", "label"), [(yolo, "labels/train/a.txt"), (voc, "Annotations/a.xml")])
def test_what_did_not_change_is_not_read_again(
    tmp_path: Path, s3: Server, s3_environment: Server, read: Counter[str], make: Any, label: str
) -> None:
    prefix = f"kept-{uuid.uuid4().hex[:8]}"
    dataset = machine.s3_prefix(s3, "datasets", prefix, "dataset")
    workspace = machine.s3_prefix(s3, "results", prefix).uri
    for key, path in folder_of(make(tmp_path / "set")).items():
        dataset.write(key, path.read_bytes())
    first = take(dataset, workspace)
    small = {key for key in read if key.endswith((".txt", ".xml", ".yaml"))}
    read.clear()

    again = take(dataset, workspace)
    assert again.uri == first.uri
    # What shows the format is looked at each time.
    assert not {key for key in read if key.endswith((".png", ".txt"))}
    read.clear()
    validated = take(dataset, workspace, "validate", snapshot=first.uri, mode="annotations")
    assert validated.receipt.scalars["errors"] == 0
    assert not {key for key in read if key.endswith((".png", ".txt"))}
    read.clear()

    changed = dataset.read(label).replace(b"<xmin>2.25", b"<xmin>3.25").replace(b"0 0.15", b"0 0.16")
    dataset.write(label, changed)
    data = io.BytesIO()
    Image.new("RGB", (60, 40), (1, 2, 3)).save(data, "PNG")
    picture = next(key for key in folder_of(tmp_path / "set") if key.endswith("b.png"))
    dataset.write(picture, data.getvalue())
    read.clear()
    other = take(dataset, workspace)
    assert other.uri != first.uri
    assert label in read
    assert len({key for key in read if key in small and key.endswith(".txt")}) <= 1
    if make is yolo:  # VOC states its sizes
        assert [key for key in read if key.endswith(".png")] == [picture]
        sizes = {row.key: (row.width, row.height) for row in Snapshot(other).rows}
        assert sizes[picture] == (60, 40)
        assert set(sizes.values()) == {(60, 40), (40, 20)}


def test_a_kept_file_that_is_damaged_counts_as_none(tmp_path: Path, s3: Server, s3_environment: Server) -> None:
    prefix = f"kept-{uuid.uuid4().hex[:8]}"
    dataset = machine.s3_prefix(s3, "datasets", prefix, "dataset")
    workspace = machine.s3_prefix(s3, "results", prefix)
    for key, path in folder_of(yolo(tmp_path / "set")).items():
        dataset.write(key, path.read_bytes())
    first = take(dataset, workspace.uri)
    kept = [info.key for info in workspace.child("read").objects()]
    assert len(kept) == 2
    for key in kept:
        workspace.write(f"read/{key}", b"PAR1 no more")
    assert take(dataset, workspace.uri).uri == first.uri


def test_without_an_etag_nothing_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that declares none says of no object that it did not change."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("before")
    source = Source(open_prefix(str(tmp_path / "set"), "dataset"), tmp_path)
    workspace = open_prefix(str(tmp_path / "work"), "results")
    original = Prefix.read_with_etag
    monkeypatch.setattr(Prefix, "read_with_etag", lambda self, key: (original(self, key)[0], ""))
    listed = source.objects()
    source._listed[""] = listed.set_column(2, LISTED.field("etag"), pa.array([""]))
    kept = Kept(workspace, source)
    assert kept.file("a.txt") == b"before"
    kept.write()
    (tmp_path / "set" / "a.txt").write_text("behind")
    assert Kept(workspace, source).file("a.txt") == b"behind"


#: The images of the datasets of which one in a hundred changes.
IMAGES = 100


def hundred(folder: Path, name: str) -> Path:
    """A hundred images, in YOLO or in folders of two classes, each with other bytes."""
    for number in range(IMAGES):
        split, stem = ("train", "val")[number % 5 == 0], f"{number:03d}"
        below = f"images/{split}" if name == "yolo" else f"{split}/{('cat', 'dog')[number % 2]}"
        path = folder / below / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (number, 0, 0)).save(path)
        if name == "yolo":
            label = folder / "labels" / split / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{number % 2} 0.5 0.5 0.25 0.{number:03d}1\n")
    if name == "yolo":
        (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return folder


@pytest.mark.parametrize("name", ["yolo", "folders"])
def test_with_one_percent_changed_one_percent_is_asked_for(
    tmp_path: Path, s3: Server, s3_environment: Server, read: Counter[str], name: str
) -> None:
    """One request a file the first time, and of what changed the second time; the cache fetches the bytes of what changed."""
    prefix = f"percent-{uuid.uuid4().hex[:8]}"
    dataset = machine.s3_prefix(s3, "datasets", prefix, "dataset")
    workspace = machine.s3_prefix(s3, "results", prefix).uri
    files = folder_of(hundred(tmp_path / "set", name))
    for _ in dataset.map(lambda key: dataset.write(key, files[key].read_bytes()), files):
        pass
    cache = ImageCache(tmp_path / "cache")

    def through() -> dict[str, int]:
        """The pictures and labels that snapshot asks for, each with how often; then the images go into a view."""
        read.clear()
        snapshot = take(dataset, workspace)
        asked = {key: count for key, count in read.items() if key.endswith((".png", ".txt"))}
        report = take(dataset, workspace, "validate", snapshot=snapshot.uri, mode="annotations")
        # What validate does in its mode headers, but for the pictures of its page.
        read.clear()
        assert len(list(inspect(dataset, Snapshot(snapshot).rows, whole=False))) == read.total() == IMAGES
        converted = Converted(take(dataset, workspace, "convert", snapshot=snapshot.uri, report=report.uri))
        view = tmp_path / f"view-{uuid.uuid4().hex[:8]}"
        assert converted.view(Snapshot(snapshot), view, cache) == IMAGES
        return asked

    pictures = [key for key in files if key.endswith(".png")]
    labels = [key for key in files if key.endswith(".txt")]
    assert through() == dict.fromkeys([*pictures, *labels], 1)
    assert cache.fetched == IMAGES
    before = cache.fetched_bytes

    data = io.BytesIO()
    Image.new("RGB", (60, 40), (1, 2, 3)).save(data, "PNG")
    changed = [pictures[IMAGES // 2], *labels[IMAGES // 2 : IMAGES // 2 + 1]]
    dataset.write(changed[0], data.getvalue())
    for key in changed[1:]:
        dataset.write(key, b"1 0.5 0.5 0.5 0.5\n")
    assert through() == dict.fromkeys(changed, 1)
    assert cache.fetched == IMAGES + 1
    assert cache.fetched_bytes == before + len(data.getvalue())
