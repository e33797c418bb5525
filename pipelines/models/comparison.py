"""Versions side by side: settings, data and metrics; and what keeps their figures from being compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import pyarrow.compute as pc

from visionloop.components.evaluate.measuring import MEASURING
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts, texts
from visionloop.core.errors import InvalidConfig, VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.storage import open_prefix
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.tables import SPLITS
from visionloop.pipelines.models.listing import Entry, entry_of
from visionloop.pipelines.snapshots.difference import TITLES, class_sentence, difference
from visionloop.pipelines.snapshots.listing import annotated
from visionloop.registry import Registry, Version, resolve
from visionloop.registry.versions import EVALUATION
from visionloop.training.configuration.settings import display

#: How many classes a person is shown, those that differ most first, and the longest cell of a table in characters.
CLASSES, LONGEST_CELL = 20, 44

#: Stands where a version has no value.
NONE = "-"


@dataclass(frozen=True)
class Side:
    """One version. What its workspace does not give any more is None or empty, and told by a notice.

    Attributes:
        entry: What the registry says of it.
        trainer: The trainer and the version of its logic.
        settings: The resolved settings of its training by name.
        snapshot: The snapshot that it was trained and measured on.
        evaluation: What was measured.
        logic: The version of the logic that measured it.
    """

    entry: Entry
    trainer: tuple[str, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    evaluation: EvaluationResult | None = None
    logic: int | None = None

    @property
    def label(self) -> str:
        """``NAME/VERSION``."""
        return f"{self.entry.model}/{self.entry.version}"

    @property
    def metrics(self) -> Mapping[str, float]:
        """Its metrics, as evaluated, else as its tags have them."""
        return self.evaluation.metrics if self.evaluation else self.entry.metrics

    @property
    def metric(self) -> str | None:
        """The metric that its gate looked at."""
        return str(self.evaluation.gate["primary_metric"]) if self.evaluation else None

    @property
    def classes(self) -> list[str]:
        """Its class names by index; empty where they are not known."""
        return list(self.evaluation.classes) if self.evaluation else []


@dataclass(frozen=True)
class DataChange:
    """How the snapshot of a version differs from the first one's.

    Attributes:
        before: The first version's snapshot.
        after: The other one.
        images: The number of images by what became of them: added, removed, or what changed of those that both have.
        classes: A sentence for each class that came, went or was renamed.
        notices: What was not compared, and what else differs.
    """

    before: str
    after: str
    images: Mapping[str, int]
    classes: Sequence[str]
    notices: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """Versions side by side.

    Attributes:
        sides: The versions, as they were named.
        settings: The settings that differ: by name each version's value, as text.
        equal_settings: How many settings all of them share.
        data: Each other snapshot against the first.
        obstacles: Why figures of two versions can't be compared as they stand, a sentence each.
        notices: What is not known.
    """

    sides: Sequence[Side]
    settings: Mapping[str, Sequence[str]]
    equal_settings: int
    data: Sequence[DataChange]
    obstacles: Sequence[str]
    notices: Sequence[str]

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics: those that a gate looked at first."""
        first = [side.metric for side in self.sides if side.metric]
        names = sorted({name for side in self.sides for name in side.metrics})
        return list(dict.fromkeys([*first, *names]))

    @property
    def class_metric(self) -> str | None:
        """The metric by which classes are shown: the first that a class of any version has."""
        had = {
            name for side in self.sides if side.evaluation for of in side.evaluation.per_class.values() for name in of
        }
        return next((name for name in self.metrics if name in had), None)

    def by_class(self) -> list[tuple[str, list[float | None]]]:
        """Each class with its metric of every version, the greatest difference first."""
        metric = self.class_metric
        if metric is None:
            return []
        per_class = [side.evaluation.per_class if side.evaluation else {} for side in self.sides]
        names = dict.fromkeys(name for each in per_class for name in each)
        rows = [(name, [each.get(name, {}).get(metric) for each in per_class]) for name in names]
        return sorted(rows, key=lambda row: -_spread(row[1]))


def compared(registry: Registry, wanted: Sequence[str]) -> Comparison:
    """Puts versions side by side.

    Args:
        registry: The registry.
        wanted: Two or more of ``NAME/VERSION`` or ``NAME@ALIAS``.

    Raises:
        InvalidConfig: If there are fewer than two, or there is no such version.
    """
    if len(wanted) < 2:
        raise InvalidConfig(
            f"model compare {' '.join(wanted)}: one model alone; name two or more, NAME/VERSION or NAME@ALIAS."
        )
    notices: list[str] = []
    sides = [_side(resolve.named(model, registry), notices) for model in wanted]
    settings, equal = _settings(sides)
    return Comparison(
        sides=sides,
        settings=settings,
        equal_settings=equal,
        data=list(_data(sides, notices)),
        obstacles=list(_obstacles(sides, notices)),
        notices=list(dict.fromkeys(notices)),
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """What the command prints where stdout is not a terminal."""
    return {
        "models": [_as_json(side) for side in comparison.sides],
        "settings": {name: list(values) for name, values in comparison.settings.items()},
        "equal_settings": comparison.equal_settings,
        "data": [asdict(change) for change in comparison.data],
        "comparable": not comparison.obstacles,
        "obstacles": list(comparison.obstacles),
        "notices": list(comparison.notices),
    }


def facts(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """What the versions are, for people: a name and each version's text."""
    sides = comparison.sides
    yield "aliases", [", ".join(side.entry.aliases) or NONE for side in sides]
    yield "registered", [side.entry.time for side in sides]
    yield "verdict", [side.evaluation.verdict if side.evaluation else NONE for side in sides]
    yield "trainer", [side.trainer[0] if side.trainer else NONE for side in sides]
    yield "task", [side.snapshot.task if side.snapshot else NONE for side in sides]
    yield "snapshot", [side.entry.snapshot or NONE for side in sides]
    yield "dataset", [side.snapshot.dataset if side.snapshot else NONE for side in sides]
    yield "images", [_images(side.snapshot) for side in sides]
    yield "objects", [_objects(side.snapshot) for side in sides]
    yield "classes", [_classes(side.classes) for side in sides]
    yield "measured on", [_measured(side.evaluation) for side in sides]


def value_text(side: Side, name: str) -> str:
    """A metric of a version with its interval, where that was measured."""
    value, result = side.metrics.get(name), side.evaluation
    if value is None:
        return "not measured" if result and name in result.not_measured else NONE
    if result is None or name != side.metric or result.interval is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({result.interval[0]:.4f} to {result.interval[1]:.4f})"


def class_text(value: float | None) -> str:
    """A metric of a class."""
    return NONE if value is None else f"{value:.3f}"


def sentences(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What people are told beside the figures: its kind and a sentence."""
    for change in comparison.data:
        yield "Data", data_sentence(change)
    for text in comparison.obstacles:
        yield "Beware", text
    for text in comparison.notices:
        yield "Notice", text


def data_sentence(change: DataChange) -> str:
    """How two snapshots differ, in one sentence."""
    images = [f"{number:,} {TITLES.get(kind, kind)}" for kind, number in change.images.items() if number]
    parts = [f"images: {', '.join(images)}" if images else "the same images", *change.classes, *change.notices]
    return f"{change.after} against {change.before}: {'; '.join(text.rstrip('.') for text in parts)}."


def _side(version: Version, notices: list[str]) -> Side:
    """A version with what its receipts say."""
    entry = entry_of(version)
    try:
        if version.workspace is None:
            raise InvalidConfig(f"{version.label} was not registered by Visionloop.")
        results = open_prefix(version.workspace, "results")
        evaluated = receipts.nearest(version.tags.get(EVALUATION, ""), "evaluate", results)
        evaluated.workspace = results
        training = evaluated.input("training", "train").receipt
        settings = {name: parameter.value for name, parameter in training.parameters.items()}
        return Side(
            entry=entry,
            trainer=_trainer(evaluated),
            settings=settings,
            snapshot=Snapshot(evaluated.input("snapshot", "snapshot")),
            evaluation=read_evaluation(evaluated),
            logic=evaluated.receipt.logic_version,
        )
    except VisionloopError as error:
        notices.append(f"Of {version.label} the registry's tags alone are known: {error.sentence}")
        return Side(entry)


def _trainer(evaluated: Result) -> tuple[str, int]:
    name, logic = evaluated.receipt.parameters["trainer"].value
    return str(name), int(logic)


def _settings(sides: Sequence[Side]) -> tuple[dict[str, list[str]], int]:
    """The settings that differ, as text, and the number of the others; of the versions whose settings are known."""
    known = [side for side in sides if side.settings]
    names = sorted({name for side in known for name in side.settings})
    differing = {
        name: [_setting(side, name) for side in sides]
        for name in names
        if len({_setting(side, name) for side in known}) > 1
    }
    return differing, len(names) - len(differing)


def _setting(side: Side, name: str) -> str:
    """A setting as text; one that the version's training has not is told from one that is empty."""
    if name not in side.settings:
        return NONE
    value = side.settings[name]
    if isinstance(value, bool | int | float | str) or value is None:
        return display(value)
    return texts.json_line(value)


def _data(sides: Sequence[Side], notices: list[str]) -> Iterator[DataChange]:
    """Each other snapshot against the first one."""
    snapshots = {side.snapshot.id: side.snapshot for side in sides if side.snapshot}
    first, *others = snapshots.values() if snapshots else (None,)
    for other in others:
        if first is None:
            return
        try:
            found = difference(first, other)
        except VisionloopError as error:
            notices.append(f"How {other.id} differs from {first.id} is not known: {error.sentence}")
            continue
        kinds = {"added": found.added, "removed": found.removed, **found.changed}
        changed = [class_sentence(entry) for entry in found.classes if entry.change]
        more = [f"{len(changed) - CLASSES:,} more classes differ"] if len(changed) > CLASSES else []
        yield DataChange(
            first.id,
            other.id,
            {kind: len(names) for kind, names in kinds.items()},
            [*changed[:CLASSES], *more],
            found.notices,
        )


def _obstacles(sides: Sequence[Side], notices: list[str]) -> Iterator[str]:
    """Why the figures can't be compared as they stand."""
    known = [side for side in sides if side.evaluation]
    yield from _unlike("was measured by evaluate's logic", {side.label: side.logic for side in known})
    yield from _unlike("was trained for", {side.label: side.snapshot.task for side in known if side.snapshot})
    # Of one trainer alone: the definitions of the figures are the same for all.
    trainers = {side.label: side.trainer for side in known if side.trainer}
    for name in dict.fromkeys(name for name, _ in trainers.values()):
        logic = {label: version for label, (trainer, version) in trainers.items() if trainer == name}
        yield from _unlike(f"was measured by {name}'s logic", logic)
    for setting in MEASURING:
        values = {side.label: _setting(side, setting) for side in known if setting in side.settings}
        yield from _unlike(f"was measured with {setting}", values)
    yield from _other_classes(known)
    for other in known[1:]:
        try:
            sentence = _other_images(known[0], other)
        except VisionloopError as error:
            notices.append(
                f"Whether {known[0].label} and {other.label} were measured on the same images is not known: {error.sentence}"
            )
            continue
        if sentence:
            yield sentence


def _unlike(what: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence where a value is not the same for all versions, with those that have each."""
    groups: dict[Any, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(value, []).append(label)
    if len(groups) > 1:
        yield "; ".join(f"{listed(labels)} {what} {value}" for value, labels in groups.items()) + "."


def _other_classes(sides: Sequence[Side]) -> Iterator[str]:
    """A sentence for each version whose classes are not the first one's: its means are over others."""
    for other in sides[1:]:
        own, theirs = set(sides[0].classes), set(other.classes)
        if own != theirs:
            parts = [
                f"{side.label} alone has {listed([texts.sentence(name) for name in sorted(more)])}"
                for side, more in ((sides[0], own - theirs), (other, theirs - own))
                if more
            ]
            yield f"{'; '.join(parts)}: means over the classes are not of the same ones."


def _other_images(first: Side, other: Side) -> str:
    """How the images on which two versions were measured differ; empty where they are the same."""
    if not (first.evaluation and first.snapshot and other.evaluation and other.snapshot):
        return ""
    ours, theirs = first.evaluation, other.evaluation
    if (ours.snapshot, ours.split, ours.left_out.keys()) == (theirs.snapshot, theirs.split, theirs.left_out.keys()):
        return ""
    one, two = _rows(first.snapshot, ours), _rows(other.snapshot, theirs)
    if one == two:
        return ""
    return (
        f"{first.label} was measured on {len(one):,} images and {other.label} on {len(two):,}: "
        f"{len(one & two):,} of them are the same, with the same bytes and labels."
    )


def _rows(snapshot: Snapshot, result: EvaluationResult) -> set[tuple[Any, ...]]:
    """The images that were measured: name, size, ETag, and what is labelled in them."""
    table = snapshot.table.filter(pc.is_valid(snapshot.table["file_name"]))
    table = table.filter(snapshot.in_split(result.split))
    columns = [table[name].to_pylist() for name in ("file_name", "size", "etag")]
    # One of the first form has no digest of an image's labels: the whole dataset's stands in.
    labels = (
        table["content"].to_pylist()
        if "content" in table.schema.names
        else [snapshot.identity.dataset_hash] * len(table)
    )
    return {row for row in zip(*columns, labels, strict=True) if row[0] not in result.left_out}


def _images(snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return NONE
    return ", ".join(f"{split} {int(snapshot.in_split(split).sum()):,}" for split in SPLITS)


def _objects(snapshot: Snapshot | None) -> str:
    number = annotated(snapshot.result)[1] if snapshot else None
    return NONE if number is None else f"{number:,}"


def _classes(classes: Sequence[str]) -> str:
    return f"{len(classes):,}: {listed([texts.sentence(name) for name in classes])}" if classes else NONE


def _measured(result: EvaluationResult | None) -> str:
    if result is None:
        return NONE
    left_out = f", {len(result.left_out):,} left out" if result.left_out else ""
    return f"{result.split}, {result.images:,} image{'' if result.images == 1 else 's'}{left_out}"


def _spread(values: Sequence[float | None]) -> float:
    """How far values lie apart; one that is missing beside others is as far as can be."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return float("inf") if numbers else 0.0
    return max(numbers) - min(numbers)


def _as_json(side: Side) -> dict[str, Any]:
    snapshot, result = side.snapshot, side.evaluation
    return {
        **asdict(side.entry),
        "metrics": dict(side.metrics),
        "trainer": side.trainer[0] if side.trainer else None,
        "settings": dict(side.settings) or None,
        "data": {
            "snapshot": snapshot.id,
            "dataset": snapshot.dataset,
            "task": snapshot.task,
            "dataset_hash": snapshot.identity.dataset_hash,
            "images": len(snapshot.table),
            "splits": {split: int(snapshot.in_split(split).sum()) for split in SPLITS},
            "objects": annotated(snapshot.result)[1],
        }
        if snapshot
        else None,
        "evaluation": msgspec.to_builtins(result) if result else None,
        "logic_version": side.logic,
    }
