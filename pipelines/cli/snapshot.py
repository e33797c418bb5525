"""``visionloop snapshot``: the snapshots of a workspace: what they hold, who uses them, how two differ; and how one is deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from visionloop.core.encodings import print_json
from visionloop.core.texts import json_line
from visionloop.data.datasets import dataset_sentence
from visionloop.pipelines.cli.dataset import dataset_store
from visionloop.pipelines.cli.output import Output, aligned, link, say, show, wants_json
from visionloop.pipelines.cli.page import check_page, write_page
from visionloop.pipelines.environment import services_for, workspace_store

if TYPE_CHECKING:
    from visionloop.pipelines.snapshots.listing import Entry

application = typer.Typer(
    no_args_is_help=True, help="Look at the snapshots of a workspace, compare two, delete one.", rich_markup_mode=None
)


@application.callback()
def snapshot() -> None:
    """Look at the snapshots of a workspace, compare two, delete one."""


Workspace = Annotated[str, typer.Option(help="Where the snapshots lie: s3://bucket/prefix, file:///folder or a path.")]
Id = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A snapshot's id (snap_…).")]


@application.command("list")
def list_(workspace: Workspace, output: Output = None) -> None:
    """Lists the snapshots, the newest first: dataset, task, counts, and the runs and registered versions that use them.

    Example: visionloop snapshot list --workspace results
    """
    from visionloop.pipelines.snapshots.listing import listed, open_workspace

    with workspace_store(workspace):
        entries = listed(open_workspace(workspace))
    show({"snapshots": [asdict(entry) for entry in entries]}, _table(entries), output)


@application.command("show")
def show_(snapshot: Id, workspace: Workspace, output: Output = None) -> None:
    """Shows one snapshot: what it holds, its classes with their objects, and what was made from it.

    Example: visionloop snapshot show snap_3f0c5a1b7d2e --workspace results
    """
    from visionloop.components.snapshot.taken import snapshot_of
    from visionloop.pipelines.snapshots.listing import details, open_workspace

    with workspace_store(workspace):
        results = open_workspace(workspace)
        content = details(results, snapshot_of(results, snapshot))
    show(content, _lines(content), output)


@application.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The earlier snapshot (snap_…).")],
    after: Annotated[str, typer.Argument(metavar="B", help="The later snapshot (snap_…).")],
    workspace: Workspace,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures before and after, too.")
    ] = None,
    output: Output = None,
) -> None:
    """Compares two snapshots: images, labels, splits, classes and drift. Exit 0 whether or not they differ.

    Example: visionloop snapshot diff snap_3f0c5a1b7d2e snap_91d2b64c08fa --workspace results --page diff.html
    """
    from visionloop.components.snapshot.taken import snapshot_of
    from visionloop.pipelines.snapshots import difference
    from visionloop.pipelines.snapshots.listing import open_workspace
    from visionloop.pipelines.snapshots.uses import Uses

    if page is not None:
        check_page(page)
    with workspace_store(workspace):
        results = open_workspace(workspace)
        old, new = snapshot_of(results, before), snapshot_of(results, after)
        comparison = difference.difference(old, new, Uses(results))
        if page is not None:
            from visionloop.pipelines.snapshots.page import render

            with dataset_store(*(dataset.uri for dataset in (*old.datasets, *new.datasets))):
                write_page(page, render(old, new, comparison, results.uri))
    written = {"page": str(page.absolute())} if page is not None else {}
    if wants_json(output):
        print_json(difference.as_json(old, new, comparison) | written)
        return
    show(None, difference.lines(old, new, comparison), "text")
    if page is not None:
        say(Text("Page     ") + link(str(page)))


@application.command("delete")
def delete(
    snapshot: Id,
    workspace: Workspace,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    output: Output = None,
) -> None:
    """Deletes a snapshot; its images stay where they lie. Refused while a registered version's lineage or a run needs it.

    Example: visionloop snapshot delete snap_3f0c5a1b7d2e --workspace results --dry-run
    """
    from visionloop.pipelines.snapshots import removal
    from visionloop.pipelines.snapshots.listing import open_workspace

    with workspace_store(workspace):
        results = open_workspace(workspace)
        plan = removal.planned(results, snapshot)
        with services_for({"workspace": workspace}) if results.children("register")[0] else nullcontext():
            removal.check_unused(results, plan)
        if not dry_run:
            removal.remove(results, plan)
    result = {
        "snapshot": plan.id,
        "removed": not dry_run,
        "objects": plan.count,
        "bytes": plan.size,
        "runs": plan.runs,
        "results": dict(plan.results),
    }
    show(result, _removed(result), output)


def _removed(result: dict[str, Any]) -> Iterator[str]:
    """What a person reads of a deletion."""
    done = "is deleted" if result["removed"] else "would be deleted"
    yield f"{result['snapshot']} {done}: {result['objects']:,} objects, {result['bytes']:,} bytes; the dataset is left as it is."
    if result["results"]:
        made = ", ".join(f"{stage} {count:,}" for stage, count in result["results"].items())
        yield f"Made from it and kept: {made}. They count again once the same snapshot is taken again; until then what needs it ends with 65."


def _table(entries: Sequence[Entry]) -> list[str]:
    heading = (
        "SNAPSHOT",
        "TIME",
        "TASK",
        "IMAGES",
        "TRAIN/VAL/TEST",
        "CLASSES",
        "OBJECTS",
        "RUNS",
        "VERSIONS",
        "DATASET",
    )
    rows = [
        (
            entry.id,
            entry.time,
            entry.task,
            f"{entry.images:,}",
            "/".join(f"{count:,}" for count in entry.splits.values()),
            f"{entry.classes:,}",
            "-" if entry.objects is None else f"{entry.objects:,}",
            f"{len(entry.runs):,}",
            _some(entry.versions) or "-",
            f"{entry.dataset} ({entry.format or 'not readable'})",
        )
        for entry in entries
    ]
    return aligned(heading, rows) if rows else ["No snapshot."]


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """What a person reads of one snapshot."""
    yield f"Snapshot  {content['id']}, taken {content['time']}"
    for dataset in content["datasets"]:
        yield f"Dataset   {dataset_sentence(dataset)}"
    for uri in ([] if content["datasets"] else [content["dataset"]]) + content["other_datasets"]:
        yield f"Dataset   {uri}"
    yield f"Format    {content['format'] or 'not readable'}"
    yield f"Task      {content['task']}"
    yield f"Images    {content['images']:,} ({', '.join(f'{name} {count:,}' for name, count in content['splits'].items())})"
    for name, value in content["options"].items():
        yield f"Option    {name} = {value if isinstance(value, str) else json_line(value)}"
    for licence in content["licences"]:
        yield f"Licence   {licence}"
    yield f"Bytes     {content['image_bytes']:,}"
    if content["missing_images"]:
        yield f"Missing   {content['missing_images']:,} images were not there"
    yield f"Objects   {content['objects'] or 0:,}"
    yield f"Classes   {len(content['classes']):,}"
    for entry in content["classes"]:
        yield f"          {entry['id']:>3}  {entry['name']}  {entry['objects']:,}"
    yield f"Runs      {_some(content['runs']) or 'none'}"
    yield f"Versions  {_some(content['versions'], len(content['versions'])) or 'none'}"
    made = ", ".join(f"{stage} {count:,}" for stage, count in content["results"].items())
    yield f"Results   {made or 'none'}"


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
