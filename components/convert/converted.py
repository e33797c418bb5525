"""Reads a converted dataset, and makes a view of it on a machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import plain_yaml
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.storage import writing
from visionloop.data import images, view
from visionloop.data.annotations.labels import class_folder
from visionloop.data.annotations.tables import SPLITS
from visionloop.data.archive import read_archive
from visionloop.data.images import ImageRow
from visionloop.data.reduced import Reduction


class IndexEntry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One image: its name, its path in a view, its split, size in bytes and ETag. Its key is the snapshot's to say."""

    file_name: str
    path: str
    split: str
    size: int
    etag: str


def encode_index(entries: Iterable[IndexEntry]) -> bytes:
    """One JSON object per line: a result whose bytes do not depend on a library's version."""
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


class Converted:
    """A convert receipt's outputs."""

    def __init__(self, result: Result) -> None:
        """``result`` is a convert receipt."""
        self.result = result
        data: Any = plain_yaml.document(result.read("data").decode())
        self.task: str = data["task"]
        self.format: str = data["format"]
        self.classes: tuple[str, ...] = tuple(data["names"])

    def index(self) -> list[IndexEntry]:
        """Returns the entry of every image, ordered by file name."""
        return msgspec.json.Decoder(IndexEntry).decode_lines(self.result.read("index"))

    def view(
        self,
        snapshot: Snapshot,
        folder: Path,
        cache: images.ImageCache,
        splits: Iterable[str] = SPLITS,
        advanced: Callable[[int, int, int, int], None] = lambda done, total, size, whole: None,
        checked: Iterable[str] = (),
        *,
        without: Container[str] = (),
        label_files: bool = True,
        reduction: Reduction | None = None,
        few: Mapping[str, int] | None = None,
    ) -> int:
        """Makes a view of some splits in ``folder``: labels, images linked to the cache, and their sizes.

        Args:
            snapshot: The snapshot that was converted, or one of the same content in another place: where its images are read from.
            folder: The view's folder.
            cache: Where images are kept on this machine.
            splits: The splits to view.
            advanced: Called for each image with the number done, the total, and both in bytes; as a sign of life.
            checked: Splits whose images are only fetched and decoded, so that none turns out to be unreadable later.
            without: File names of images that are left out.
            reduction: How images of these splits are reduced, whose size is recorded and larger.
            label_files: Whether the labels are unpacked, or stay in their archive alone (``visionloop.data.view``).
            few: By split how many of its images are viewed, those with labels first; None views all.

        Returns:
            The number of images in the view.

        Raises:
            InvalidConfig: If the images are more than the cache's disk, or than the folder's where they are copied.
            DatasetChanged: If an image is gone or differs from what was frozen.
            InvalidDataset: If images can't be decoded.
            SickMachine: If the disk is full.
        """
        wanted, checked = set(splits), set(checked)
        entries = [
            entry for entry in self.index() if entry.split in wanted | checked and entry.file_name not in without
        ]
        if few is not None:
            entries = _chosen(entries, few, self._labelled(folder))
        for split in SPLITS:
            # A class that a split lacks has a folder too: libraries number the classes by the folders that they see.
            classes = (f"{split}/{class_folder(*entry)}" for entry in enumerate(self.classes))
            for name in (f"images/{split}", f"labels/{split}") if self.format == "yolo" else (split, *classes):
                (folder / name).mkdir(parents=True, exist_ok=True)
        table = snapshot.table
        names = table["file_name"].to_pylist()
        columns = (table[name].to_pylist() for name in ("key", "width", "height"))
        rows = dict(zip(names, map(_Frozen._make, zip(*columns, strict=True)), strict=True))
        cache.check_copies(
            folder, (_row(entry, rows[entry.file_name], reduction) for entry in entries if entry.split in wanted)
        )
        if self.format == "yolo":
            self._labels(folder, self._unpacked(entries, wanted, few is not None) if label_files else None)
            shown = (entry for entry in entries if entry.split in wanted)
            view.write_sizes(folder, (view.ImageSize(entry.path, *rows[entry.file_name][1:]) for entry in shown))
        pairs = (
            (_row(entry, rows[entry.file_name], reduction), f"{folder}/{_safe(entry.path)}")
            if entry.split in wanted
            else (_row(entry, rows[entry.file_name], None), None)
            for entry in entries
        )
        dataset = snapshot.open_images()
        whole = sum(entry.size for entry in entries)
        done = enumerate(itertools.accumulate(entry.size for entry in entries), 1)

        def report() -> None:
            number, size = next(done)
            advanced(number, len(entries), size, whole)

        images.materialise(dataset, pairs, cache, report)
        return sum(entry.split in wanted for entry in entries)

    def _archive(self, folder: Path) -> Path:
        """The labels' archive in a view, fetched if it is not there."""
        archive = folder / view.LABELS
        return archive if archive.exists() else self.result.fetch("labels", archive)

    def _labelled(self, folder: Path) -> Callable[[IndexEntry], bool]:
        """Whether an image has a label; of a folder of classes each has."""
        if self.format != "yolo":
            return lambda _: True
        labelled = {name for name, text in read_archive(self._archive(folder)) if text.strip()}
        return lambda entry: _label(entry.path) in labelled

    @staticmethod
    def _unpacked(entries: Iterable[IndexEntry], splits: set[str], few: bool) -> Callable[[str], bool]:
        """Which label files are unpacked: those of a few images, or of whole splits."""
        if few:
            return {_label(entry.path) for entry in entries if entry.split in splits}.__contains__
        return lambda name: name.split("/", 2)[1] in splits

    def _labels(self, folder: Path, wanted: Callable[[str], bool] | None) -> None:
        """Fetches the labels' archive, and unpacks those of its files that are wanted."""
        archive = self._archive(folder)
        if wanted is None:
            return
        folders: set[Path] = set()
        for name, text in read_archive(archive):
            if not wanted(name):
                continue
            target = folder / _safe(name)
            with writing(target):
                if target.parent not in folders:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    folders.add(target.parent)
                target.write_bytes(text)


def _chosen(
    entries: Iterable[IndexEntry], few: Mapping[str, int], labelled: Callable[[IndexEntry], bool]
) -> list[IndexEntry]:
    """Some images of each split, spread evenly over those with labels, or over all where too few have any."""
    chosen: list[IndexEntry] = []
    by_split: dict[str, list[IndexEntry]] = {}
    for entry in entries:
        by_split.setdefault(entry.split, []).append(entry)
    for split, number in few.items():
        own = by_split.get(split, [])
        with_labels = [entry for entry in own if labelled(entry)]
        among = with_labels if len(with_labels) >= number else own
        count = min(number, len(among))
        chosen += [among[position * len(among) // count] for position in range(count)]
    return chosen


def _label(path: str) -> str:
    """The path of an image's label in the archive."""
    return f"labels/{path.partition('/')[2].rpartition('.')[0]}.txt"


def _safe(path: str) -> str:
    """Returns a path after checking that it does not lead out of the view. Raises InvalidReceipt."""
    if (".." in path or path.startswith("/")) and (path.startswith("/") or ".." in PurePosixPath(path).parts):
        raise InvalidReceipt(f"index.jsonl: path '{path}' leads out of the dataset; convert again.")
    return path


class _Frozen(NamedTuple):
    """What the snapshot says of an image: its key, and its size in pixels where that is known."""

    key: str
    width: int | None
    height: int | None


def _row(entry: IndexEntry, frozen: _Frozen, reduction: Reduction | None) -> ImageRow:
    key, width, height = frozen
    reduced = reduction if reduction is not None and reduction.applies(width, height) else None
    return ImageRow(entry.file_name, key, entry.size, entry.etag, None, entry.split, width, height, reduction=reduced)
