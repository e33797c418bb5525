"""``visionloop model``: the registered models, and what people decide about them."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from visionloop.components.export.formats import CHOICES
from visionloop.core import texts
from visionloop.core.encodings import print_json
from visionloop.core.errors import InvalidDataset
from visionloop.pipelines.cli.output import Output, aligned, say, show, wants_json
from visionloop.pipelines.cli.output import link as link_to
from visionloop.pipelines.cli.page import check_page, write_page
from visionloop.pipelines.environment import services_for
from visionloop.pipelines.models.opened import opened
from visionloop.training.configuration.settings import PRIMARY_METRICS

if TYPE_CHECKING:
    from visionloop.pipelines.cli.export import Report
    from visionloop.pipelines.models.comparison import Comparison
    from visionloop.pipelines.models.decisions import Decided
    from visionloop.pipelines.models.listing import Entry
    from visionloop.pipelines.models.removal import Removal
    from visionloop.pipelines.models.verification import Verified

#: How the command is called in a sentence.
COMMAND = "visionloop model"

application = typer.Typer(
    no_args_is_help=True,
    help="Look at registered models, compare them, verify one, promote one, go back, hand on its files, delete one.",
    rich_markup_mode=None,
)


@application.callback()
def model() -> None:
    """Look at registered models, compare them, verify one, promote one, go back, hand on its files, delete one."""


Model = Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Reason = Annotated[str, typer.Option(help="Why, for the version's tags and the run's record.")]
By = Annotated[str | None, typer.Option(help="Who decides (default: this machine's user).")]


@application.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model's name (default: all).")] = None,
    output: Output = None,
) -> None:
    """Lists the registered versions: aliases, time, metric, snapshot, and who made one the champion.

    Example: visionloop model list bottles
    """
    from visionloop.pipelines.models.listing import listed
    from visionloop.registry import Registry

    with services_for({}):
        entries = listed(Registry(os.environ, COMMAND), name)
    show({"models": [asdict(entry) for entry in entries]}, _table(entries), output)


@application.command("show")
def show_(model: Model, output: Output = None) -> None:
    """Shows one version: verdict, metrics, where it comes from, where its files lie, what people decided about it.

    Example: visionloop model show bottles@champion
    """
    from visionloop.pipelines.models.listing import details

    with opened(model, command=COMMAND) as registry:
        content = details(registry, model)
    show(content, _lines(content), output)


@application.command("compare")
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Two or more: NAME/VERSION or NAME@ALIAS.")],
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write it as a page, too.")] = None,
    output: Output = None,
) -> None:
    """Shows versions side by side: settings, data and metrics with their intervals, and what keeps figures from being compared.

    Example: visionloop model compare bottles@champion bottles/3 --page comparison.html
    """
    from visionloop.pipelines.models import comparison

    if page is not None:
        check_page(page)
    with opened(*models, command=COMMAND) as registry:
        compared = comparison.compared(registry, models)
        if page is not None:
            from visionloop.pipelines.models.page import render

            write_page(page, render(compared))
        content = comparison.as_json(compared) if wants_json(output) else {}
        show(content | ({"page": str(page.absolute())} if page else {}), _side_by_side(compared, page), output)


@application.command("promote")
def promote(model: Model, reason: Reason = "", by: By = None, output: Output = None) -> None:
    """Makes a version the champion. What the gate kept can be promoted; what it rejected can't.

    Example: visionloop model promote bottles/3 --reason "better at night"
    """
    from visionloop.pipelines.models import decisions

    with opened(model, command=COMMAND) as registry:
        decided = decisions.promote(registry, model, _person(by), reason)
    show(asdict(decided), _decided(decided), output)


@application.command("rollback")
def rollback(
    model: Name,
    to: Annotated[
        int | None,
        typer.Option(metavar="VERSION", help="Where to (default: the version that the champion superseded).", min=1),
    ] = None,
    reason: Reason = "",
    by: By = None,
    output: Output = None,
) -> None:
    """Makes the version before the champion once more; the one that it leaves comes back by promote alone.

    Example: visionloop model rollback bottles --reason "misses every lid"
    """
    from visionloop.pipelines.models import decisions

    with opened(model, command=COMMAND) as registry:
        decided = decisions.rollback(registry, model, to, _person(by), reason)
    show(asdict(decided), _decided(decided), output)


@application.command("link")
def link(
    model: Model,
    expires: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long a link is good for, at most a week.")
    ] = 3600,
    output: Output = None,
) -> None:
    """Prints a link to each file of a version, for somebody without keys: presigned on S3, of a folder the file's own URI.

    Example: visionloop model link bottles@champion --expires 600
    """
    from visionloop.pipelines.models.links import links

    with opened(model, command=COMMAND) as registry:
        found = links(registry, model, expires)
    if wants_json(output):
        # A signature is what the command is asked for: here alone it is not hidden.
        print_json({"links": [asdict(link) for link in found]}, signed=True)
        return
    for each in found:
        say(f"{each.file}  {each.size:,} bytes" + (f", until {each.expires_at}" if each.expires_at else ""))
        say(Text(texts.visible(each.url), no_wrap=True, overflow="ignore"))


@application.command("export")
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS, or a checkpoint's path or URI.")
    ],
    format: Annotated[str, typer.Option("--format", help=f"The format, one of: {', '.join(CHOICES)}.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where NAME-VERSION.onnx is put.")] = Path(),
    images: Annotated[
        list[str] | None,
        typer.Option("--images", help="Images to compare on, as predict takes them (default: drawn pictures)."),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="trainer=NAME", help="Of a checkpoint, what trained it (default: ultralytics)."),
    ] = None,
    output: Output = None,
) -> None:
    """Writes a model in another format, runs it beside the model on the same pictures, and refuses it (65) where they differ.

    Example: visionloop model export bottles@champion --format onnx --out exported
    """
    from visionloop.pipelines.cli.export import exported

    report = exported(model, format, out, images or [], COMMAND, set or [])
    show({"exports": [asdict(report)]}, _exported(report), output)
    if not report.accepted:
        raise InvalidDataset(f"The export of {report.label} is refused: {report.reason}.")


@application.command("verify")
def verify(
    model: Model,
    images: Annotated[
        Literal["none", "listing", "bytes"],
        typer.Option(
            help="The images: none; listing, as their store lists them (a folder's are hashed); bytes, read whole."
        ),
    ] = "listing",
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The PEM file of the public key that the model's signature is checked with."),
    ] = None,
    output: Output = None,
) -> None:
    """Reads the whole chain again, from the version to the images: ends with 0, or with 65 and the first broken link.

    Example: visionloop model verify bottles@champion --public-key signer.pub
    """
    from visionloop.pipelines.models.verification import verify as verified

    with opened(model, command=COMMAND) as registry, _hashing() as advanced:
        found = verified(registry, model, images, advanced, public_key)
    show(asdict(found), _verified(found), output)


@application.command("delete")
def delete(
    model: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The version.")],
    force: Annotated[
        bool, typer.Option("--force", help="Delete it though another version was trained from its weights.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    output: Output = None,
) -> None:
    """Deletes a version, then its files. Refused while an alias names it, or another version's lineage its weights.

    Example: visionloop model delete bottles/2 --dry-run
    """
    from visionloop.pipelines.models import removal

    with opened(model, command=COMMAND) as registry:
        removed = removal.delete(registry, model, force=force, dry_run=dry_run)
    show(asdict(removed), _removed(removed), output)


def _person(by: str | None) -> str:
    """Who decides: as the option says, else the user of this process."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"uid {os.getuid()}"


def _table(entries: Sequence[Entry]) -> list[str]:
    heading = ("MODEL", "ALIASES", "TIME", "METRIC", "SNAPSHOT", "PROMOTED BY")
    rows = [
        (
            f"{entry.model}/{entry.version}",
            ", ".join(entry.aliases) or "-",
            entry.time,
            _metric(entry.metrics),
            entry.snapshot or "-",
            entry.promoted_by or "-",
        )
        for entry in entries
    ]
    return aligned(heading, ([texts.sentence(cell) for cell in row] for row in rows)) if rows else ["No model."]


def _metric(metrics: Mapping[str, float]) -> str:
    """The metric by which models of a task are compared, as far as the names of a version's metrics say it."""
    # A model of another task than detection has the box's metric too.
    wanted = [name for name in reversed(list(PRIMARY_METRICS.values())) if name in metrics]
    return f"{wanted[0]} {metrics[wanted[0]]:.4f}" if wanted else "-"


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """What a person reads of one version."""
    given = texts.sentence(content["given_name"] or content["model"])
    yield f"Model     {content['model']}/{content['version']} ({given}), registered {content['time']}"
    yield f"Aliases   {', '.join(content['aliases']) or 'none'}"
    if content["verdict"]:
        yield f"Verdict   {content['verdict']}: {texts.sentence(content['reason'])}"
    for name, value in content["metrics"].items():
        yield f"Metric    {name} {value:.4f}"
    if content["task"]:
        yield f"Task      {content['task']}, trained by {content['trainer']}"
        yield f"Classes   {len(content['classes']):,}: {', '.join(map(texts.sentence, content['classes']))}"
    for label, name in (
        ("Snapshot", "snapshot"),
        ("Run", "run"),
        ("Training", "training"),
        ("Evaluated", "evaluation"),
    ):
        yield f"{label:<9} {content[name] or 'not known'}"
    yield f"Files     {content['files'] or 'not known'}"
    if content["superseded_by"]:
        yield f"Superseded by {content['model']}/{content['superseded_by']}"
    for entry in content["decisions"] or []:
        yield f"Decision  {entry['decision']} by {entry['by']} at {entry['at']}" + (
            f": {entry['reason']}" if entry["reason"] else ""
        )
    if content["cut_off"]:
        cut_off = content["cut_off"]
        yield f"Cut off   {cut_off['decision']} by {cut_off['by']} at {cut_off['at']}: run it again"


def _side_by_side(compared: Comparison, page: Path | None) -> Iterator[str | Text]:
    """What a person reads of versions side by side."""
    from visionloop.core import reports
    from visionloop.pipelines.models.comparison import CLASSES, LONGEST_CELL, class_text, facts, sentences, value_text

    sides, by_class = compared.sides, compared.by_class()
    rows = [*facts(compared), *(compared.settings.items())]
    rows += [(name, [value_text(side, name) for side in sides]) for name in compared.metrics]
    rows += [(f"class {name}", [class_text(value) for value in values]) for name, values in by_class[:CLASSES]]
    cells = ([reports.name(cell, LONGEST_CELL) for cell in (name, *values)] for name, values in rows)
    yield from aligned(("", *(side.label for side in sides)), cells)
    if by_class:
        more = f"; {len(by_class) - CLASSES:,} more: --output json has them all" if len(by_class) > CLASSES else ""
        yield f"Classes   by {compared.class_metric}, those that differ most first{more}"
    yield f"Settings  {compared.equal_settings:,} {'other settings ' if compared.settings else ''}are the same"
    for kind, text in sentences(compared):
        yield f"{kind:<9} {texts.sentence(text)}"
    if page is not None:
        yield Text("Page      ") + link_to(str(page))


@contextlib.contextmanager
def _hashing() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal's stderr: the files in bytes, then the images."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def advanced(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what.capitalize(), total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield advanced


def _verified(found: Verified) -> Iterator[str]:
    """What a person reads of a chain that holds."""
    yield f"{found.model}/{found.version} is what its records say, link by link:"
    for link in found.links:
        counted = f"{link.files:,} {'images' if link.link == 'images' else 'files'}" if link.files else ""
        hashed = f", {link.bytes:,} bytes hashed" if link.bytes else ""
        yield f"{link.link:<10} {link.subject}"
        yield f"{'':<10} {f'{counted}{hashed}: ' if counted else ''}{link.compared}"
    for note in found.notes:
        yield f"{'Note':<10} {texts.sentence(note)}"


def _removed(removed: Removal) -> Iterator[str]:
    """What a person reads of a deletion."""
    done = "is deleted" if removed.removed else "would be deleted"
    yield f"{removed.model}/{removed.version} {done}: {removed.objects:,} objects, {removed.bytes:,} bytes"
    for folder in removed.folders:
        yield f"          {folder}"


def _exported(report: Report) -> Iterator[str]:
    """What a person reads of an export."""
    yield f"{report.label} as {report.format} ({report.precision}): {report.size:,} bytes"
    yield f"Compared  on {report.pictures:,} pictures, {report.objects:,} objects"
    if report.value is not None and report.model_value is not None:
        yield f"Measured  {report.metric} {report.value:.4f}, the model itself {report.model_value:.4f}"
    differences = (report.least_overlap, report.score_difference, report.further_difference)
    overlap, score, further = ("infinite" if value is None else f"{value:.6f}" for value in differences)
    yield f"          least overlap {overlap}, scores differ by {score}, other outputs by {further}"
    if report.latency_ms is not None and report.model_latency_ms is not None:
        yield f"Time      {report.latency_ms:.1f} ms a picture, the model itself {report.model_latency_ms:.1f} ms"
    yield f"Written   {report.file}" if report.file else f"Refused   {report.reason}"
    yield from (f"          {file}" for file in report.beside)


def _decided(decided: Decided) -> Iterator[str]:
    """What a person reads of a decision."""
    label = f"{decided.model}/{decided.version}"
    if not decided.changed:
        yield f"{label} is the champion already; nothing to do."
        return
    before = f"before it was {decided.model}/{decided.previous}" if decided.previous else "before there was none"
    yield f"{label} is the champion now; {before}."
    why = f": {decided.reason}" if decided.reason else ""
    yield f"Decided by {decided.by} at {decided.at}{why}"
