"""The snapshots of a workspace as people see them: what each holds, when it was taken, and which runs and versions use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from visionloop.components.snapshot import taken
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts, workspace
from visionloop.core.errors import InvalidConfig, InvalidDataset, NotFound
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path
from visionloop.data.annotations import parquet
from visionloop.data.annotations.tables import SPLITS, column
from visionloop.data.datasets import listed as listed_uris
from visionloop.data.datasets import recorded
from visionloop.pipelines.snapshots.uses import Uses

#: What of a snapshot's parameters says how its dataset was read, and what of it was taken.
_OPTIONS = ("dataset_format", "where", "classes")


@dataclass(frozen=True)
class Entry:
    """One snapshot.

    Attributes:
        id: ``snap_…``.
        time: When the store says that its newest receipt was written.
        dataset: Where its dataset lies, by the newest receipt; of several the first ones.
        other_datasets: Where else the same content was taken.
        format: The format that it was read as; None where its annotations can't be read.
        task: Its task.
        images: The number of images.
        classes: The number of classes.
        splits: The number of images of each split.
        objects: The number of objects; None where its annotations can't be read.
        runs: The runs that took it, or took it again.
        versions: The registered versions that were trained on it, ``NAME/VERSION``.
    """

    id: str
    time: str
    dataset: str
    other_datasets: list[str]
    format: str | None
    task: str
    images: int
    classes: int
    splits: dict[str, int]
    objects: int | None
    runs: list[str]
    versions: list[str]


def open_workspace(uri: str) -> Prefix:
    """A workspace that exists, or an empty folder or prefix that can become one.

    Raises:
        InvalidConfig: If something else lies there, or there is no such folder or bucket.
    """
    prefix = open_prefix(uri, "results")
    try:
        if prefix.exists(workspace.FILE):
            return prefix
        folder = local_path(prefix.uri)
        if folder is not None and not folder.is_dir():
            raise InvalidConfig(f"--workspace {uri}: there is no such folder; give the workspace of a run.")
        folders, objects = prefix.children()
    except NotFound:
        raise InvalidConfig(f"--workspace {uri}: there is no such bucket; give the workspace of a run.") from None
    if folders or objects:
        raise InvalidConfig(
            f"--workspace {uri}: no workspace, {workspace.FILE} is missing; give the workspace of a run."
        )
    return prefix


def listed(results: Prefix) -> list[Entry]:
    """The snapshots of a workspace, the newest first."""
    groups: dict[str, list[Result]] = {}
    for result in taken.every(results):
        groups.setdefault(str(result.receipt.scalars.get(taken.ID)), []).append(result)
    uses = Uses(results)
    entries = results.map(lambda group: _entry(group, uses), groups.values())
    return sorted(entries, key=lambda entry: (entry.time, entry.id), reverse=True)


def _entry(group: Sequence[Result], uses: Uses) -> Entry:
    """The entry of a snapshot, from all its receipts."""
    dated = sorted(group, key=_written, reverse=True)
    newest = dated[0]
    scalars = newest.receipt.scalars
    read_as, objects = annotated(newest)
    taken_of = [recorded(result.receipt.parameters["dataset"].value) for result in dated]
    datasets = list(dict.fromkeys(listed_uris([dataset.uri for dataset in each]) for each in taken_of))
    return Entry(
        id=str(scalars.get(taken.ID)),
        time=datetime.fromtimestamp(_written(newest), UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        dataset=datasets[0],
        other_datasets=datasets[1:],
        format=read_as,
        task=str(scalars.get("task")),
        images=int(scalars.get("images", 0)),
        classes=int(scalars.get("classes", 0)),
        splits={split: int(scalars.get(split, 0)) for split in SPLITS},
        objects=objects,
        runs=uses.runs([result.receipt.key for result in group]),
        versions=[version.label for version in uses.versions(newest.receipt.digest)],
    )


def _written(result: Result) -> float:
    """When the store says that a receipt was written, in seconds since 1970."""
    return result.prefix.head(receipts.FILE).modified


def annotated(result: Result) -> tuple[str | None, int | None]:
    """Format and number of objects, from the end of the annotations' file alone; None where it can't be read."""
    try:
        path = result.output("annotations").path
        if not path.endswith(".parquet"):
            return "dice", len(Snapshot(result).annotations.objects)
        length = parquet.footer_length(result.prefix.read_end(path, 8))
        return parquet.summary(result.prefix.read_end(path, length))
    except (InvalidDataset, NotFound, ValueError):
        return None, None


def details(results: Prefix, snapshot: Snapshot) -> dict[str, Any]:
    """All that is shown of one snapshot: its entry, its split's rule, its classes with their objects, its receipts, the results made from it."""
    own = [result for result in taken.every(results) if result.receipt.scalars.get(taken.ID) == snapshot.id]
    uses = Uses(results)
    entry = _entry(own or [snapshot.result], uses)
    annotations = snapshot.annotations
    numbers, counts = np.unique(column(annotations.objects, "class_id"), return_counts=True)
    objects = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    made = uses.results(snapshot.result.receipt.digest)
    return {
        **asdict(entry),
        "datasets": snapshot.dataset_counts(),
        "dataset_hash": snapshot.identity.dataset_hash,
        "split_rule": snapshot.identity.split.get("rule"),
        "options": {
            name: parameter.value for name, parameter in snapshot.result.receipt.parameters.items() if name in _OPTIONS
        },
        "classes": [
            {"id": kind.id, "name": kind.name, "objects": objects.get(kind.id, 0)} for kind in annotations.classes
        ],
        "licences": snapshot.licences,
        "missing_images": snapshot.table["etag"].null_count,
        "image_bytes": int(column(snapshot.table, "size").sum()),
        "receipts": [result.uri for result in own],
        "results": {stage: len(receipts) for stage, receipts in made.items()},
    }
