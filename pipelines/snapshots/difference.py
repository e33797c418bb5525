"""How two snapshots differ, as a command prints it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import texts
from visionloop.core.errors import VisionloopError
from visionloop.core.stores import local_path
from visionloop.data.annotations.comparison import KINDS, ClassChange, Comparison, Side, Total, compare
from visionloop.pipelines.snapshots.uses import Uses

#: What of an image changed, for people.
TITLES: Mapping[str, str] = {
    "labels": "other labels",
    "bytes": "other bytes",
    "picture_size": "another width or height",
    "split": "another split",
    "stated_split": "another stated split",
}

#: How many names of a kind, and how many classes, a person is shown.
NAMES, CLASSES = 3, 30


#: The measure of drift that needs the pixels, and why there may be none of it.
BRIGHTNESS = "brightness"
UNSEEN = "not both were validated in the mode full, which reads the pixels"


def difference(before: Snapshot, after: Snapshot, uses: Uses | None = None) -> Comparison:
    """Compares two snapshots.

    Args:
        before: The earlier one.
        after: The later one.
        uses: What was made from the snapshots of their workspace: a validation that has read the pixels knows how bright they are.
    """
    comparison = compare(_side(before, uses), _side(after, uses))
    alike = not len(comparison.changed["split"])
    if alike and before.identity.split.get("rule") != after.identity.split.get("rule"):
        comparison = replace(
            comparison, notices=[*comparison.notices, "The splits have other rules and give each image the same."]
        )
    if before.identity.repeats != after.identity.repeats:
        comparison = replace(
            comparison, notices=[*comparison.notices, "The weights of the datasets repeat other images of train."]
        )
    return comparison


def not_measured(comparison: Comparison) -> dict[str, str]:
    """What drift is not measured of, and why."""
    return {} if any(entry.measure == BRIGHTNESS for entry in comparison.drift) else {BRIGHTNESS: UNSEEN}


def as_json(before: Snapshot, after: Snapshot, comparison: Comparison) -> dict[str, Any]:
    """What the command prints where stdout is not a terminal: every name, every class."""
    kinds = {"added": comparison.added, "removed": comparison.removed, **comparison.changed}
    return {
        "before": _described(before, comparison.before),
        "after": _described(after, comparison.after),
        "differs": comparison.differs,
        "images": {kind: {"count": len(names), "file_names": names.to_pylist()} for kind, names in kinds.items()},
        "moves": [{"before": old, "after": new, "images": count} for (old, new), count in comparison.moves.items()],
        "classes": [
            {"name": entry.name, "was": entry.was, "change": entry.change, "before": entry.before, "after": entry.after}
            for entry in comparison.classes
        ],
        "drift": [
            {
                "measure": entry.measure,
                "distance": round(entry.distance, 6),
                "chance": round(entry.chance, 6),
                "threshold": entry.threshold,
                "drifted": entry.drifted,
                "before": entry.before,
                "after": entry.after,
                "sentence": entry.sentence,
            }
            for entry in comparison.drift
        ],
        "not_measured": not_measured(comparison),
        "notices": list(comparison.notices),
    }


def lines(before: Snapshot, after: Snapshot, comparison: Comparison) -> Iterator[str]:
    """What a person reads."""
    for label, snapshot, total in (("Before", before, comparison.before), ("After", after, comparison.after)):
        splits = ", ".join(f"{split} {count:,}" for split, count in total.splits.items())
        yield f"{label:<8} {snapshot.id}: {total.images:,} images ({splits}), {total.objects:,} objects, {snapshot.dataset}"
    if not comparison.differs:
        yield "Nothing  differs in images and classes."
    for names, what in ((comparison.added, "added"), (comparison.removed, "removed")):
        if len(names):
            yield f"Images   {len(names):,} {what}: {some(names)}"
    for kind in KINDS:
        if names := comparison.changed[kind]:
            yield f"Images   {len(names):,} with {TITLES[kind]}: {some(names)}"
    for (old, new), count in comparison.moves.items():
        yield f"Split    {count:,} from {old} to {new}"
    changed = [entry for entry in comparison.classes if entry.change or entry.before != entry.after]
    for entry in changed[:CLASSES]:
        yield f"Class    {class_sentence(entry)}"
    if len(changed) > CLASSES:
        yield f"         {len(changed) - CLASSES:,} more classes: --output json has them all"
    for measure in comparison.drift:
        yield f"Drift    {'yes' if measure.drifted else 'no '}  {measure.sentence}"
    for name, reason in not_measured(comparison).items():
        yield f"Drift    -    {name} is not measured: {reason}"
    for text in comparison.notices:
        yield f"Notice   {text}"


def class_sentence(entry: ClassChange) -> str:
    """What became of a class."""
    name = texts.sentence(entry.name)
    if entry.before is None:
        return f"{name} added, objects {entry.after or 0:,}"
    if entry.after is None:
        return f"{name} removed, objects {entry.before:,} before"
    renamed = f"{texts.sentence(entry.was)} renamed to {name}" if entry.was is not None else name
    form = ", other keypoints" if entry.form else ""
    return f"{renamed}{form}, objects {entry.before:,} → {entry.after:,}"


def some(names: Sequence[Any], most: int = NAMES) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(texts.sentence(str(name)) for name in names[:most])}{more}"


def _described(snapshot: Snapshot, total: Total) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "dataset": snapshot.dataset,
        **({"datasets": [dataset.canonical() for dataset in snapshot.datasets]} if snapshot.several else {}),
        "task": snapshot.task,
        "images": total.images,
        "splits": dict(total.splits),
        "objects": total.objects,
    }


def _side(snapshot: Snapshot, uses: Uses | None) -> Side:
    on_files = all(local_path(dataset.uri) is not None for dataset in snapshot.datasets)
    brightness = [] if uses is None else _brightness(snapshot, uses)
    return Side(snapshot.table, snapshot.task, on_files, snapshot.read_annotations, brightness)


def _brightness(snapshot: Snapshot, uses: Uses) -> list[int]:
    """A snapshot's images by brightness, from one of its validations; empty where none has read the pixels."""
    for result in uses.results(snapshot.result.receipt.digest).get("validate", ()):
        with contextlib.suppress(VisionloopError):
            if seen := validation.read(result).brightness:
                return seen
    return []
