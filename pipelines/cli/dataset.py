"""``visionloop dataset``: what a dataset is, before anything is trained on it, and datasets in other formats."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionloop.core.errors import InvalidDataset
from visionloop.data.sentences import printable, with_more
from visionloop.pipelines.cli.output import Output, show
from visionloop.pipelines.environment import configured, services_for, workspace_store

if TYPE_CHECKING:
    from visionloop.components.snapshot.manifest import Snapshot
    from visionloop.data.annotations.codes import Checks
    from visionloop.data.annotations.findings import Finding
    from visionloop.data.annotations.tables import Annotations
    from visionloop.data.formats.source import Source

#: How many findings are printed for a person.
MOST_FINDINGS = 20

application = typer.Typer(
    no_args_is_help=True, help="Look at a dataset, or write it in another format.", rich_markup_mode=None
)


@application.callback()
def dataset() -> None:
    """Look at a dataset, or write it in another format."""


FormatName = Annotated[
    str | None,
    typer.Option("--format", help="The format to read it as (default: recognised from what lies there)."),
]
Task = Annotated[
    str | None, typer.Option(help="detection, segmentation, classification or pose (default: the dataset's).")
]


@application.command("inspect")
def inspect(
    uri: Annotated[str, typer.Argument(help="Where the dataset lies: s3://…, file://… or a path.")],
    format_name: FormatName = None,
    task: Task = None,
    checks: Annotated[
        str | None, typer.Option(help="Severities and thresholds of the checks: a JSON or YAML file, or its text.")
    ] = None,
    output: Output = None,
) -> None:
    """Reads a dataset as it lies, and prints format, task, splits, classes, counts and findings; writes nothing.

    Example: visionloop dataset inspect s3://datasets/pets
    """
    with dataset_store(uri), tempfile.TemporaryDirectory(prefix="visionloop-") as work:
        summary = inspected(uri, format_name, task, Path(work), checks)
    show(summary, lines(summary), output)
    errors = [finding["sentence"] for finding in summary["findings"] if finding["severity"] == "error"]
    if errors:
        raise InvalidDataset(with_more(errors[0], len(errors) - 1))


@application.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The dataset to read: s3://…, file://… or a path.")],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where DICE is written: an empty folder or prefix.")
    ],
    format_name: FormatName = None,
    task: Task = None,
    output: Output = None,
) -> None:
    """Writes a dataset of any format as DICE; images are linked in folders, copied by the store in a store.

    Example: visionloop dataset import coco-pets pets
    """
    from visionloop.pipelines.cli.exchange import exchanged

    with dataset_store(source, destination), tempfile.TemporaryDirectory(prefix="visionloop-") as work:
        result = exchanged(source, destination, format_name, "dice", task, Path(work))
    show(result, written_lines(result), output)


@application.command("export")
def export(
    snapshot: Annotated[str, typer.Argument(help="The snapshot to write (snap_…).")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="Where it is written: an empty folder or prefix.")],
    written_as: Annotated[str, typer.Option("--format", help="coco, yolo, voc, folders or dice.")],
    workspace: Annotated[
        str, typer.Option(help="Where the snapshot lies: s3://bucket/prefix, file:///folder or a path.")
    ],
    output: Output = None,
) -> None:
    """Writes what a snapshot holds, with the splits that it gave, in a format that other tools read.

    Example: visionloop dataset export snap_3f0c5a1b7d2e pets-yolo --format yolo --workspace results
    """
    from visionloop.components.snapshot.taken import snapshot_of
    from visionloop.core.storage import open_prefix
    from visionloop.pipelines.cli.exchange import check_images, exported

    with contextlib.ExitStack() as stack:

        def accept(taken: Snapshot) -> None:
            stack.enter_context(dataset_store(*(dataset.uri for dataset in taken.datasets), destination))
            check_images(taken, workspace)

        stack.enter_context(workspace_store(workspace))
        taken = snapshot_of(open_prefix(workspace, "results"), snapshot, accept)
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="visionloop-"))
        result = exported(taken, workspace, destination, written_as, Path(work))
    show(result, written_lines(result), output)


def inspected(
    uri: str, format_name: str | None, task: str | None, work: Path, checks: str | None = None
) -> dict[str, Any]:
    """What a dataset holds; raises as ``read_dataset`` and ``resolve_checks``.

    Args:
        uri: Where it lies.
        format_name: The format to read it as, or None to recognise it.
        task: The task, or None to take the dataset's.
        work: A folder for large files.
        checks: Severities and thresholds, as ``resolve_checks`` takes them.
    """
    from visionloop.components.validate.options import resolve_checks
    from visionloop.data.formats import formats

    wanted = resolve_checks(checks)
    read = read_dataset(uri, format_name, task, work)
    return {
        "dataset": read.source.prefix.uri,
        "format": read.format_name,
        "title": formats()[read.format_name].title,
        "evidence": read.evidence,
        **_counts(read.annotations),
        "licences": list(read.annotations.licences),
        "findings": [asdict(entry) for entry in _findings(read.source, read.annotations, wanted)],
        "notices": read.notices,
    }


@dataclass(frozen=True)
class Read:
    """A dataset that was read: where it lies, its format and what shows it, its annotations, and what was noticed."""

    source: Source
    format_name: str
    evidence: str | None
    annotations: Annotations
    notices: list[str]


def read_dataset(uri: str, format_name: str | None, task: str | None, work: Path) -> Read:
    """Reads a dataset as it lies.

    Args:
        uri: Where it lies.
        format_name: The format to read it as, or None to recognise it.
        task: The task, or None to take the dataset's.
        work: A folder for large files.

    Raises:
        DatasetNotFound: If no dataset lies there; the sentence says what does.
        InvalidConfig: If several formats fit, or the format or the task is not one that is read.
        InvalidDataset: If it can't be read.
    """
    from visionloop.components.snapshot.dataset import format_of
    from visionloop.core.storage import open_prefix
    from visionloop.data.dice.tasks import parse_task
    from visionloop.data.formats import Source, reader
    from visionloop.data.formats.hints import with_hint

    source = Source(
        open_prefix(uri, "dataset"),
        work,
        task=None if task is None else parse_task(task, "--task"),
    )
    name, evidence = format_of(source, format_name, "--format")
    annotations = with_hint(reader(name)(source).sorted(), source)
    notices = [*annotations.notices]
    if source.passed_over:
        key, kind = min(source.passed_over.items())
        notices.append(printable(f"{len(source.passed_over):,} passed over that can't be read: {key} is {kind}."))
    return Read(source, name, evidence, annotations, notices)


def _findings(source: Source, annotations: Annotations, checks: Checks) -> list[Finding]:
    """What validate would find without reading an image, but for equal files; the splits are those that are stated."""
    import numpy as np
    import pyarrow.compute as pc

    from visionloop.data.annotations import presence, quality
    from visionloop.data.annotations.checks import check, too_small
    from visionloop.data.annotations.split import assign
    from visionloop.data.annotations.tables import SPLITS
    from visionloop.data.headers import MISSING, Missing

    images = annotations.images
    names = images["file_name"]
    listed = pc.is_in(images["key"], value_set=source.objects(annotations.below)["key"].combine_chunks())
    headers: dict[str, Missing | None] = dict.fromkeys(names.filter(pc.is_null(images["width"])).to_pylist())
    headers |= dict.fromkeys(names.filter(pc.invert(listed)).to_pylist(), MISSING)
    objects = presence.outcomes(annotations)
    findings = check(annotations, headers, objects)
    findings += quality.of_boxes(annotations, objects, quality.IMGSZ, checks)
    try:
        assignment = assign(annotations, None)
    except InvalidDataset:
        return checks.applied(findings)  # too few images to be split; a run may be given another rule
    assigned, also = assignment.splits, assignment.also
    splits: dict[str, presence.Flags] = {
        split: np.array([split in (assigned[name], also.get(name)) for name in names.to_pylist()]) for split in SPLITS
    }
    counts = presence.count_labels(annotations, objects, splits, too_small(annotations))
    findings += [*presence.absences(annotations, counts), *quality.class_imbalance(annotations, counts, checks)]
    return checks.applied(findings)


def _counts(annotations: Annotations) -> dict[str, Any]:
    """Task, splits, classes and counts of canonical annotations."""
    import numpy as np
    import pyarrow.compute as pc

    from visionloop.data.annotations.tables import column

    images, objects = annotations.images, annotations.objects
    splits = {entry["values"]: entry["counts"] for entry in pc.value_counts(images["split"]).to_pylist()}
    numbers, counts = np.unique(column(objects, "class_id"), return_counts=True)
    by_class = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return {
        "task": annotations.task,
        "file": annotations.file,
        "images": len(images),
        "objects": len(objects),
        "splits": {name: splits[name] for name in ("train", "val", "test") if name in splits},
        "without_split": splits.get(None, 0),
        "without_object": len(images) - int(np.unique(column(objects, "image")).size),
        "without_size": images["width"].null_count,
        "classes": [
            {"id": entry.id, "name": entry.name, "objects": by_class.get(entry.id, 0)} for entry in annotations.classes
        ],
    }


def lines(summary: dict[str, Any]) -> Iterator[str]:
    """What a person reads."""
    evidence = f" ({summary['evidence']})" if summary["evidence"] else ""
    yield f"Format   {summary['title']}{evidence}"
    yield f"Task     {summary['task']}"
    splits = [f"{name} {number:,}" for name, number in summary["splits"].items()]
    if summary["without_split"]:
        splits.append(f"without a split {summary['without_split']:,}")
    yield f"Images   {summary['images']:,}: {', '.join(splits)}"
    for field, words in (("without_object", "without an object"), ("without_size", "of unknown size")):
        if summary[field]:
            yield f"         {summary[field]:,} {words}"
    yield f"Objects  {summary['objects']:,}"
    yield f"Classes  {len(summary['classes']):,}"
    for entry in summary["classes"]:
        yield f"         {entry['id']:>3}  {entry['name']}  {entry['objects']:,}"
    for licence in summary["licences"]:
        yield f"Licence  {licence}"
    for notice in summary["notices"]:
        yield f"Notice   {notice}"
    for finding in summary["findings"][:MOST_FINDINGS]:
        yield f"{finding['severity'].capitalize():<8} {finding['code']}: {finding['sentence']}"
    if len(summary["findings"]) > MOST_FINDINGS:
        yield f"         {len(summary['findings']) - MOST_FINDINGS:,} more findings: --output json has them all"


def written_lines(result: dict[str, Any]) -> Iterator[str]:
    """What a person reads of a dataset that was written."""
    yield f"Written  {result['title']}: {result['destination']}"
    yield f"Task     {result['task']}"
    yield f"Images   {result['images']:,}"
    yield f"Objects  {result['objects']:,} read"
    for notice in result["notices"]:
        yield f"Notice   {notice}"


def dataset_store(*uris: str) -> contextlib.AbstractContextManager[None]:
    """The embedded store, where a dataset lies in one and none is configured."""
    in_store = next((uri for uri in uris if uri.startswith("s3://")), None)
    if in_store and not configured("dataset"):
        return services_for({"dataset": in_store})
    return contextlib.nullcontext()
