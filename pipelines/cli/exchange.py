"""What ``visionloop dataset import`` and ``export`` do: a dataset that was read is written in a format where nothing lies yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.stage import missing_or_changed, no_longer
from visionloop.core import runs
from visionloop.core.errors import InvalidDataset
from visionloop.core.limits import Limits
from visionloop.core.policy import POLICIES
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats import formats, writer
from visionloop.data.formats.exchange import check_empty, write_dataset
from visionloop.data.formats.keys import counted
from visionloop.data.formats.written import with_splits
from visionloop.data.locations import Location
from visionloop.data.sentences import with_more
from visionloop.pipelines.cli.dataset import read_dataset


def exchanged(
    uri: str, destination: str, format_name: str | None, written_as: str, task: str | None, work: Path
) -> dict[str, Any]:
    """Reads a dataset as it lies and writes it in a format.

    Args:
        uri: Where it lies.
        destination: Where it is written.
        format_name: The format to read it as, or None to recognise it.
        written_as: The format to write.
        task: The task, or None to take the dataset's.
        work: A folder for large files.

    Raises:
        InvalidConfig: If something lies at the destination, or the format is not written or does not hold the task.
        InvalidDataset: If it can't be read, or reading shows an error, by which labels would be lost.
        DatasetNotFound: If no dataset lies there.
    """
    writer(written_as)
    target = check_empty(destination, open_prefix(uri, "dataset").uri)
    read = read_dataset(uri, format_name, task, work)
    errors = [finding.sentence for finding in read.annotations.findings if finding.severity == "error"]
    if errors:
        raise InvalidDataset(with_more(errors[0], len(errors) - 1))
    notices = [*read.notices, *(finding.sentence for finding in read.annotations.findings)]
    named = dict(read.annotations.metadata)
    named["dataset_name"] = named.get("dataset_name") or read.source.prefix.uri.rpartition("/")[2]
    annotations = replace(read.annotations, metadata=named)
    return written(annotations, read.source.prefix, target, written_as, notices, work)


def check_images(snapshot: Snapshot, workspace: str) -> None:
    """Raises DatasetChanged if an image of a snapshot is gone, or is not the one that was frozen."""
    results = open_prefix(workspace, "results")
    context = Context(
        results,
        runs.RunRecord(results, runs.run_name(None)),
        "",
        Limits("snapshot", POLICIES["snapshot"].timeout, 0.0),
        POLICIES["snapshot"],
        planning=True,
    )
    if differences := missing_or_changed(snapshot, context):
        raise no_longer(snapshot, differences)


def exported(snapshot: Snapshot, workspace: str, destination: str, written_as: str, work: Path) -> dict[str, Any]:
    """Writes what a snapshot holds, with its splits; ``check_images`` comes before.

    Raises:
        InvalidConfig: If something lies at the destination, or the format is not written or does not hold the task.
        InvalidDataset: If the format can't hold a name.
    """
    writer(written_as)
    source = snapshot.open_images()
    uri = open_prefix(workspace, "results").uri
    target = check_empty(destination, *(dataset.uri for dataset in snapshot.datasets), workspace=uri)
    annotations = frozen(snapshot)
    errors = [finding.sentence for finding in annotations.findings if finding.severity == "error"]
    notices = (
        [f"{counted(len(errors), 'error stays', 'errors stay')} as they are in what is written: {errors[0]}"]
        if errors
        else []
    )
    if more := int((snapshot.repeats - 1).sum()):
        words = counted(more, "repetition of a train image is", "repetitions of train images are")
        notices.append(f"{words} not written: a weight is of the run that named it.")
    return written(annotations, source, target, written_as, notices, work)


def frozen(snapshot: Snapshot) -> Annotations:
    """A snapshot's annotations with the splits that it gave."""
    names, splits, also = (snapshot.table[name].to_pylist() for name in ("file_name", "split", "also"))
    # What val and test share is of val, whichever of the two it was taken from.
    both = {name for name, other in zip(names, also, strict=True) if other is not None}
    split_of = {name: "val" if name in both else split for name, split in zip(names, splits, strict=True)}
    return replace(with_splits(snapshot.annotations, split_of), shared=tuple(name for name in names if name in both))


def written(
    annotations: Annotations, source: Location, target: Prefix, name: str, notices: list[str], work: Path
) -> dict[str, Any]:
    """Writes a dataset, with a bar on a terminal, and says what was written.

    Args:
        annotations: What is written.
        source: Where its images lie.
        target: Where it is written.
        name: The format.
        notices: What reading it showed.
        work: A folder for large files.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {
            "images": bar.add_task("Images", total=len(annotations.images)),
            "files": bar.add_task("Files", total=None),
        }
        report = write_dataset(
            annotations, source, target, name, work, lambda kind, done: bar.update(tasks[kind], completed=done)
        )
    return {
        "source": source.uri,
        "destination": target.uri,
        "format": name,
        "title": formats()[name].title,
        "task": annotations.task,
        "images": report.images,
        "objects": len(annotations.objects),
        "files": report.files,
        "notices": [*notices, *report.notices],
    }
