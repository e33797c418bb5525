"""Pictures for the page: a few examples of each kind of finding with what is wrong drawn, and a mosaic of labelled images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate.report import Report, ReportedFinding
from visionloop.core.errors import InvalidDataset, NotFound
from visionloop.core.reports import Figure, Key
from visionloop.data import drawing
from visionloop.data.annotations.checks import object_field
from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.images import Annotation, Image, images
from visionloop.data.annotations.labels import class_index
from visionloop.data.annotations.quality import Twins
from visionloop.data.annotations.tables import SPLITS, offsets
from visionloop.data.locations import Location, located

#: Examples of a kind, and pictures of the mosaic for each split.
EXAMPLES = 4
MOSAIC = {"train": 12, "val": 6, "test": 6}

#: Longest side of a picture of the mosaic in pixels, and the classes that stand below a picture.
MOSAIC_SIDE = 220
LEGEND = 6


@dataclass(frozen=True)
class Kind:
    """The findings of one code and severity: how many in how many images, with examples; ``sentences`` are of no image.

    ``shown`` is the number of findings that have an example.
    """

    code: str
    severity: str
    count: int
    images: int
    examples: Sequence[Figure]
    sentences: Sequence[str]
    shown: int

    @property
    def more(self) -> int:
        """The number of findings that are not shown."""
        return self.count - self.shown - len(self.sentences)


class Gallery:
    """Draws a snapshot's images. Without a dataset none is read, and figures have no picture."""

    def __init__(
        self, snapshot: Snapshot, dataset: Location | None, album: drawing.Album, alive: Callable[[], None]
    ) -> None:
        """``album`` bounds what the page holds; ``alive`` is called for each picture."""
        self._snapshot, self._dataset, self._album, self._alive = snapshot, dataset, album, alive
        self._order = class_index(snapshot.annotations)
        self._names = {entry.id: entry.name for entry in snapshot.annotations.classes}

    @classmethod
    def of(cls, snapshot: Snapshot, album: drawing.Album, alive: Callable[[], None], *, read: bool) -> Gallery:
        """A snapshot's gallery; ``read`` says whether images may be read."""
        return cls(snapshot, snapshot.open_images() if read else None, album, alive)

    def kinds(self, report: Report, twins: Twins) -> list[Kind]:
        """The findings by kind: errors first, then by how many there are; an image with a twin is shown beside it."""
        groups: dict[tuple[str, str], list[ReportedFinding]] = {}
        for finding in report.findings:
            groups.setdefault((finding.severity, finding.code), []).append(finding)
        ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "error", -len(item[1]), item[0][1]))
        return [self._kind(severity, code, findings, twins) for (severity, code), findings in ordered]

    def mosaic(self, left_out: Collection[str]) -> list[Figure]:
        """Labelled images of each split, evenly spread over its file names; without those that are left out."""
        if self._dataset is None:
            return []
        names: dict[str, list[str]] = {split: [] for split in SPLITS}
        for row in self._snapshot.rows:
            if row.file_name not in left_out and self._labelled[self._rows[row.file_name]]:
                names[row.split].append(row.file_name)
        return [
            figure
            for split in SPLITS
            for name in _spread(sorted(names[split]), MOSAIC[split])
            if (figure := self._figure(name, split, side=MOSAIC_SIDE)).source is not None
        ]

    def _kind(self, severity: str, code: str, findings: Sequence[ReportedFinding], twins: Twins) -> Kind:
        names = {finding.file_name for finding in findings if finding.file_name is not None}
        # One example an image as long as there are others.
        first: dict[str | None, ReportedFinding] = {}
        for finding in findings:
            first.setdefault(finding.file_name, finding)
        paired = any((code, name) in twins for name in names)
        most = EXAMPLES // 2 if paired else EXAMPLES
        shown = [finding for finding in first.values() if finding.file_name is not None][:most]
        figures: list[Figure] = []
        for finding in shown:
            name = finding.file_name or ""
            figures.append(self._figure(name, self._note(finding), finding.field))
            if (code, name) in twins:
                figures.append(self._figure(twins[code, name], f"the other one of {name}"))
        return Kind(
            code,
            severity,
            len(findings),
            len(names),
            figures,
            [self._note(finding) for finding in findings if finding.file_name is None][:EXAMPLES],
            len(shown),
        )

    def _note(self, finding: ReportedFinding) -> str:
        """A finding's sentence without the names that stand beside it."""
        sentence = finding.sentence.removeprefix(f"{self._snapshot.annotations.file}: ")
        return sentence.removeprefix(f"{finding.file_name}: ").replace(f": {finding.file_name}: ", ": ", 1)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        names = self._snapshot.annotations.images["file_name"].to_pylist()
        return {name: row for row, name in enumerate(names)}

    @cached_property
    def _labelled(self) -> Sequence[bool]:
        """Whether each image has an annotation, by row."""
        bounds = offsets(self._snapshot.annotations)
        return (bounds[1:] > bounds[:-1]).tolist()  # type: ignore[no-any-return]

    def _image(self, name: str) -> Image:
        return next(images(self._snapshot.annotations, [self._rows[name]]))

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        return {row.file_name: row.key for row in self._snapshot.rows if row.etag is not None}

    def _figure(self, name: str, note: str, field: str = "", side: int = drawing.SIDE) -> Figure:
        """An image with its objects; where ``field`` names one of them, that one stands out."""
        image = self._image(name)
        fields = (object_field(self._snapshot.annotations, image, entry) for entry in image.annotations)
        wrong = next((index for index, named in enumerate(fields) if _is_of(field, named)), None)
        shown = drawing.colours((self._position(entry) for entry in image.annotations), len(self._order))
        marks = [
            _mark(entry, drawing.QUIET, "thin") if wrong is not None else _mark(entry, shown[self._position(entry)])
            for position, entry in enumerate(image.annotations)
            if position != wrong
        ]
        if wrong is not None:
            marks = [*marks[: drawing.MARKS - 1], _mark(image.annotations[wrong], style="wrong")]
        source = self._read(name, marks, side)
        legend = self._legend(image.annotations, shown) if source and wrong is None else []
        return Figure(source, name, note, legend)

    def _read(self, name: str, marks: Sequence[drawing.Mark], side: int) -> str | None:
        if self._dataset is None or name not in self._keys:
            return None
        self._alive()
        try:
            prefix, key = located(self._dataset, self._keys[name])
            return self._album.draw(prefix.read(key), marks, side)
        except (NotFound, InvalidDataset):
            return None  # a finding says so

    def _position(self, annotation: Annotation) -> int:
        """The index of its class; a class that the file does not have comes behind the others."""
        return self._order.get(annotation.class_id, len(self._order))

    def _legend(self, annotations: Iterable[Annotation], colours: Mapping[int, str]) -> list[Key]:
        counts = Counter(annotation.class_id for annotation in annotations)
        keys = [
            Key(
                self._names.get(class_id, "ignored" if class_id == IGNORED else f"class {class_id}"),
                colours[self._order.get(class_id, len(self._order))],
                count,
            )
            for class_id, count in counts.most_common()
        ]
        others = sum(key.count or 0 for key in keys[LEGEND:])
        return keys[:LEGEND] + ([Key("others", drawing.QUIET, others)] if others else [])


def _is_of(field: str, object_named: str) -> bool:
    """Whether a finding's field is an object's, or a part of it."""
    return field.startswith(object_named) and field[len(object_named) :][:1] in ("", ".", "[", ":")


def _mark(
    annotation: Annotation,
    colour: str = drawing.QUIET,
    style: Literal["plain", "thin", "wrong"] = "plain",
) -> drawing.Mark:
    """An annotation as it is drawn: its outline where it has one, else its box (a wrong one both), and labelled keypoints."""
    polygons, values = annotation.polygons, annotation.keypoints
    points = [(x, y) for x, y, seen in zip(values[::3], values[1::3], values[2::3], strict=False) if seen]
    box = annotation.bbox if style == "wrong" or not polygons else None
    return drawing.Mark(box, polygons, points, colour, style=style)


def _spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spread."""
    if len(names) <= most:
        return list(names)
    return [names[position * len(names) // most] for position in range(most)]
