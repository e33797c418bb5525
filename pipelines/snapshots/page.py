"""The page of a difference: what changed in numbers, and pictures before and after with what is drawn on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import reports, runs
from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.reports import Figure, Key
from visionloop.data import drawing
from visionloop.data.annotations.comparison import KINDS, ClassChange, Comparison
from visionloop.data.annotations.images import Image, images
from visionloop.data.annotations.matching import Matched, Named, match
from visionloop.data.images import ImageRow, read_frozen
from visionloop.pipelines.snapshots.difference import TITLES, not_measured

#: Examples of each kind, and the classes beyond which the table is cut.
EXAMPLES, CLASSES = 8, 100

#: The longest side of a picture in pixels.
SIDE = 300

#: What an object is drawn in, and the sign beside it, by what became of it.
GONE, NEW, MOVED, RECLASSED = ("#e5484d", "-"), ("#30a46c", "+"), ("#f5a623", "~"), ("#8e4ec6", "#")

#: The kinds whose images are shown before and after.
_TWICE = ("labels", "bytes", "picture_size")


@dataclass(frozen=True)
class Section:
    """The images of one kind: how many, and some of them, each as one picture or as two."""

    title: str
    count: int
    examples: Sequence[Sequence[Figure]]

    @property
    def more(self) -> int:
        """The number of images that are not shown."""
        return self.count - len(self.examples)


def render(before: Snapshot, after: Snapshot, comparison: Comparison, workspace: str) -> bytes:
    """The page's HTML. Pictures are read from the datasets where they still lie as they were frozen.

    Args:
        before: The earlier snapshot.
        after: The later one.
        comparison: How they differ.
        workspace: The workspace's URI.
    """
    album = drawing.Album()
    gallery = _Gallery(before, after, comparison, album)
    sections = list(gallery.sections())
    total = len(comparison.added) + len(comparison.removed) + _changed(comparison)
    drifted = [measure for measure in comparison.drift if measure.drifted]
    headline = (
        f"{total:,} image{'' if total == 1 else 's'} differ{'s' if total == 1 else ''}" if total else "No image differs"
    )
    if drifted:
        headline += f", and {' and '.join(measure.measure for measure in drifted)} drifted"
    rows = sorted(comparison.classes, key=_class_order)
    values: dict[str, Any] = {
        "title": f"{headline}: {before.id} and {after.id}",
        "headline": headline,
        "tone": "warn" if drifted else "" if comparison.differs else "good",
        "facts": {
            "Before": before.id,
            "After": after.id,
            "Task": " and ".join(dict.fromkeys((before.task, after.task))),
            "Date": runs.now(),
            **_datasets(before.dataset, after.dataset),
            "Workspace": workspace,
        },
        "comparison": comparison,
        "titles": TITLES,
        "not_measured": not_measured(comparison),
        "kinds": KINDS,
        "sections": sections,
        "classes": [_class_row(entry, rows) for entry in rows[:CLASSES]],
        "more_classes": max(0, len(rows) - CLASSES),
        "unread": gallery.unread,
        "left_out": album.left_out,
    }
    return reports.page("difference.html", values)


def _datasets(before: str, after: str) -> dict[str, str]:
    """Where the datasets lie: one fact where that is the same."""
    return {"Dataset": after} if before == after else {"Dataset before": before, "Dataset after": after}


def _changed(comparison: Comparison) -> int:
    """How many of the images that both have changed in any way."""
    arrays = [comparison.changed[kind] for kind in KINDS]
    return len(pc.unique(pa.concat_arrays(arrays)))


def _class_order(entry: ClassChange) -> tuple[bool, int]:
    """What came, went or was renamed first, then by how many objects more or fewer there are."""
    return entry.change is None, -abs((entry.after or 0) - (entry.before or 0))


def _class_row(entry: ClassChange, rows: Sequence[ClassChange]) -> dict[str, Any]:
    most = max((count or 0 for row in rows for count in (row.before, row.after)), default=0) or 1
    counts = {"before": entry.before, "after": entry.after}
    return {
        "name": entry.name,
        "was": entry.was,
        "change": entry.change,
        **counts,
        "shares": [None if count is None else round(100 * count / most, 1) for count in counts.values()],
    }


class _Gallery:
    """Draws examples of each kind. A dataset that can't be read at all gives one notice, and is not tried again."""

    def __init__(self, before: Snapshot, after: Snapshot, comparison: Comparison, album: drawing.Album) -> None:
        self._comparison, self._album = comparison, album
        self._sides = [_Shown(snapshot) for snapshot in (before, after)]
        self._renamed = {entry.was: entry.name for entry in comparison.classes if entry.was is not None}
        kinds = {
            "added": comparison.added,
            "removed": comparison.removed,
            **{kind: comparison.changed[kind] for kind in KINDS},
        }
        self._chosen = {kind: _spread(names) for kind, names in kinds.items()}
        before_wanted = {name for kind, names in self._chosen.items() if kind != "added" for name in names}
        after_wanted = {name for kind, names in self._chosen.items() if kind != "removed" for name in names}
        self._sides[0].load(before_wanted, self._renamed)
        self._sides[1].load(after_wanted, {})

    @property
    def unread(self) -> list[str]:
        """Why a dataset's pictures could not be read, a sentence each."""
        return list(dict.fromkeys(side.refused for side in self._sides if side.refused))

    def sections(self) -> Iterator[Section]:
        """The kinds that have any image, what people look at first."""
        comparison = self._comparison
        for kind in KINDS:
            if (names := comparison.changed[kind]) and kind in _TWICE:
                examples = [self._pair(name, labels=kind == "labels") for name in self._chosen[kind]]
                yield Section(f"Images with {TITLES[kind]}", len(names), examples)
        for kind, names, side in (("added", comparison.added, 1), ("removed", comparison.removed, 0)):
            if len(names):
                yield Section(f"Images {kind}", len(names), [[self._single(name, side)] for name in self._chosen[kind]])
        if names := comparison.changed["split"]:
            yield Section(
                f"Images with {TITLES['split']}", len(names), [[self._moved(name)] for name in self._chosen["split"]]
            )

    def _pair(self, name: str, *, labels: bool) -> list[Figure]:
        """An image before and after; what is equal in both is thin and grey."""
        old, new = (side.objects(name) for side in self._sides)
        matched = match(old, new)
        before, after = (_marks(matched, at) for at in (0, 1))
        note = "" if not labels or not matched.kept or _any(matched) else "attributes alone differ"
        others = [f"{reports.name(pair[0][0], 40)} → {reports.name(pair[1][0], 40)}" for pair in matched.reclassed[:3]]
        texts = [f"before{_labels(old, self._sides[0].task)}", f"after{_labels(new, self._sides[1].task)}"]
        texts[1] += f": {', '.join(others)}" if others else ""
        return [
            self._figure(side, name, " · ".join(filter(None, (text, note))), marks, _legend(matched, at))
            for at, (side, text, marks) in enumerate(zip(self._sides, texts, (before, after), strict=True))
        ]

    def _single(self, name: str, at: int) -> Figure:
        side = self._sides[at]
        objects = side.objects(name)
        colour, _ = (GONE, NEW)[at]
        marks = [_mark(named, colour) for named in objects]
        number = f"{len(objects):,} object{'' if len(objects) == 1 else 's'}"
        return self._figure(side, name, f"{side.split(name)}, {number}{_labels(objects, side.task)}", marks, [])

    def _moved(self, name: str) -> Figure:
        before, after = (side.split(name) for side in self._sides)
        note = f"{before} → {after}" if before != after else before
        return self._figure(
            self._sides[1],
            name,
            note,
            [_mark(named, drawing.QUIET, thin=True) for named in self._sides[1].objects(name)],
            [],
        )

    def _figure(
        self, side: _Shown, name: str, note: str, marks: Sequence[drawing.Mark], legend: Sequence[Key]
    ) -> Figure:
        data, missing = side.read(name)
        source = self._album.draw(data, marks, SIDE) if data is not None else None
        return Figure(source, name, ": ".join(filter(None, (note, missing))), legend if source else [])


class _Shown:
    """What is shown of one snapshot's images: their objects, their bytes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._rows: dict[str, ImageRow] = {}
        self._images: dict[str, Image] = {}
        self._names: dict[int, str] = {}
        self.refused: str | None = None
        self.task = snapshot.task
        try:
            self._dataset = snapshot.open_images()
        except VisionloopError as error:
            self.refused = error.sentence

    def load(self, wanted: set[str], renamed: Mapping[str, str]) -> None:
        """Takes the images of these names, and lets the annotations go."""
        if not wanted:
            return
        table = self._snapshot.table
        at = pc.index_in(pa.array(sorted(wanted), pa.string()), value_set=table["file_name"]).drop_null()
        fields = [name for name in ImageRow.__struct_fields__ if name in table.schema.names]
        for row in table.select(fields).take(at).to_pylist():
            self._rows[row["file_name"]] = ImageRow(**row)
        read = self._snapshot.read_annotations()
        self._names = {entry.id: renamed.get(entry.name, entry.name) for entry in read.classes}
        self._images = {image.file_name: image for image in images(read, at)}

    def objects(self, name: str) -> list[Named]:
        """An image's objects with the names of their classes."""
        annotations = self._images[name].annotations
        return [(self._names.get(entry.class_id, f"class {entry.class_id}"), entry) for entry in annotations]

    def split(self, name: str) -> str:
        """The split or splits of an image."""
        return " and ".join(self._rows[name].splits)

    def read(self, name: str) -> tuple[bytes | None, str]:
        """An image's bytes as they were frozen, or None and why there are none."""
        row = self._rows[name]
        if row.etag is None:
            return None, "was not there"
        if self.refused is not None:
            return None, "not read"
        try:
            data, changed = read_frozen(self._dataset, row)
        except NotFound:
            return None, "gone since"
        except VisionloopError as error:
            self.refused = error.sentence
            return None, "not read"
        return (None, "changed since") if changed else (data, "")


def _marks(matched: Matched, at: int) -> list[drawing.Mark]:
    """What is drawn before (0) and after (1): what changed last, so that it lies above."""
    only = (matched.gone, GONE) if at == 0 else (matched.new, NEW)
    changed = [_mark(named, only[1][0], only[1][1]) for named in only[0]]
    for pairs, (colour, sign) in ((matched.moved, MOVED), (matched.reclassed, RECLASSED)):
        changed += [_mark(pair[at], colour, sign) for pair in pairs]
    room = max(0, drawing.MARKS - len(changed))
    return [_mark(named, drawing.QUIET, thin=True) for named in matched.kept[:room]] + changed


def _mark(named: Named, colour: str, sign: str = "", *, thin: bool = False) -> drawing.Mark:
    """An object as it is drawn: its outline where it has one, else its box (with a sign both), and labelled keypoints."""
    _, entry = named
    values = entry.keypoints
    points = [(x, y) for x, y, seen in zip(values[::3], values[1::3], values[2::3], strict=False) if seen]
    box = entry.bbox if sign or not entry.polygons else None
    return drawing.Mark(box, entry.polygons, points, colour, sign, "thin" if thin else "plain")


def _any(matched: Matched) -> bool:
    """Whether anything but attributes differs."""
    return bool(matched.moved or matched.reclassed or matched.gone or matched.new)


def _legend(matched: Matched, at: int) -> list[Key]:
    """What the colours stand for, and how many there are of each."""
    only = (matched.gone, GONE, "only before") if at == 0 else (matched.new, NEW, "only after")
    entries = (
        (only[0], only[1], only[2]),
        (matched.moved, MOVED, "moved"),
        (matched.reclassed, RECLASSED, "other class"),
        (matched.kept, (drawing.QUIET, ""), "unchanged"),
    )
    return [
        Key(f"{name} ({sign})" if sign else name, colour, len(objects))
        for objects, (colour, sign), name in entries
        if objects
    ]


def _labels(objects: Sequence[Named], task: str) -> str:
    """The labels of an image as a note, where there is nothing to draw."""
    if task != "classification":
        return ""
    return f": {', '.join(reports.name(name, 40) for name, _ in objects[:5]) or 'no label'}"


def _spread(names: pa.Array, most: int = EXAMPLES) -> list[str]:
    """At most so many of the names, evenly spread."""
    if len(names) > most:
        names = names.take(pa.array([position * len(names) // most for position in range(most)]))
    chosen: list[str] = names.to_pylist()
    return chosen
