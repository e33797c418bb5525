"""Reads a run's datasets: each is recognised and read by itself, then they are merged, selected from and split."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionloop.components.snapshot import dataset as single
from visionloop.components.snapshot.kept import Kept, listing_of
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.annotations.content import annotations_hash
from visionloop.data.annotations.merged import datasets_of, merge, names_alone
from visionloop.data.annotations.selection import Selection
from visionloop.data.annotations.split import Assignment, assign
from visionloop.data.annotations.split_rules import Rule, SharedSplit, TimeRule, shared_split, split_from_object
from visionloop.data.annotations.tables import OBJECTS, SPLITS, Annotations, column
from visionloop.data.annotations.weights import times
from visionloop.data.datasets import RunDataset, alone
from visionloop.data.dice.tasks import METADATA
from visionloop.data.formats import Source, formats, reader
from visionloop.data.formats.hints import with_hint
from visionloop.data.formats.written import with_splits
from visionloop.data.sentences import passed_over_notice, printable

#: Where a dataset of the DICE format says its split.
SPLIT_CONFIG = f"{METADATA}: split_config"

#: Called with a dataset's URI, gives what is called with the number of its objects that are listed so far.
Listing = Callable[[str], Callable[[int, int], None]]


@dataclass
class Lying:
    """One of a run's datasets as it lies: recognised, and not read yet.

    Attributes:
        dataset: Where it lies, what it is called, what it weighs.
        source: Its objects.
        format: The name of the format that it is read as.
        evidence: What shows that; None where it was asked for.
        rule: The split that it asks for itself; None without one.
        kept: What need not be read again; None in a folder.
    """

    dataset: RunDataset
    source: Source
    format: str
    evidence: str | None
    rule: Rule | None
    kept: Kept | None = None

    def look_for(self, rule: Rule | None) -> None:
        """Has reading it find the field that the split's rule names."""
        if rule is not None and not isinstance(rule, SharedSplit):
            self.source.group, self.source.option = rule.field, "time" if isinstance(rule, TimeRule) else "group"


@dataclass(frozen=True)
class Chosen:
    """What a run's datasets give: the part that is selected, split, and as often as it weighs.

    Attributes:
        read: The annotations, without the images that a weight leaves out.
        assignment: The split of each image.
        repeats: How often each is trained on; None where that is once.
        left_out: How many train images of each dataset its weight leaves out.
        notices: What reading, selecting and weighing showed, a sentence each.
    """

    read: Annotations
    assignment: Assignment
    repeats: npt.NDArray[np.int32] | None
    left_out: Mapping[str, int]
    notices: tuple[str, ...]


@contextlib.contextmanager
def lying(
    datasets: Sequence[RunDataset],
    task: str | None,
    format_name: str | Mapping[str, str] | None,
    alive: Callable[[], None] = lambda: None,
    listing: Listing = lambda uri: lambda number, size: None,
    *,
    own_rules: bool = True,
    again: bool = False,
) -> Iterator[list[Lying]]:
    """The datasets, each recognised alone.

    Args:
        datasets: The datasets.
        task: The task that is asked for; None takes what they have.
        format_name: The format to read all as, or that of each by its name; None recognises it.
        alive: Called while work goes on.
        listing: Shows how far a listing is.
        own_rules: Whether the split counts that a dataset asks for itself.
        again: Whether the formats are those that were recognised before: each counts as long as it fits.

    Raises:
        DatasetNotFound: If no dataset lies at one of the URIs.
        InvalidConfig: If several formats fit, or the requested one is not a format that is read.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for dataset in datasets:
            prefix = open_prefix(dataset.uri, "dataset")
            source = stack.enter_context(single.opened(prefix, task, alive, listing(dataset.uri)))
            with _about(dataset, datasets):
                wanted = format_name.get(dataset.name) if isinstance(format_name, Mapping) else format_name
                name, evidence = single.format_of(source, wanted, again=again)
                metadata = single.read_metadata(prefix) if name == "dice" else {}
                rule = _own_rule(dataset, datasets, metadata) if own_rules else None
                opened.append(Lying(dataset, source, name, evidence, rule))
        yield opened


def remember(opened: Sequence[Lying], workspace: Prefix) -> None:
    """Lets what did not change since it was read be taken from the workspace."""
    for entry in opened:
        entry.kept = single.remember(entry.source, workspace)


def choose(
    opened: Sequence[Lying], selection: Selection, rule: Rule | None, origin: str, *, hints: bool = True
) -> Chosen:
    """Reads the datasets as one, selects, splits and weighs.

    Args:
        opened: The datasets.
        selection: What of them is taken.
        rule: The run's rule; None leaves each dataset its own.
        origin: Where the run's rule was written, for errors.
        hints: Whether missing images get a hint, for which all objects are listed.

    Raises:
        InvalidDataset: If one can't be read, they do not fit each other, nothing is left or a split stays empty.
    """
    for entry in opened:
        entry.look_for(rule or entry.rule)
    datasets = [entry.dataset for entry in opened]
    read = selection.of(_read(opened, hints=hints))
    if not read.parts:
        own = rule or opened[0].rule
        return Chosen(read, assign(read, own, origin if rule else SPLIT_CONFIG), None, {}, ())
    owned = {} if rule else {entry.dataset.name: entry.rule for entry in opened if entry.rule is not None}
    assignment = _assigned(read, rule, origin, owned)
    return _weighed(read, assignment, datasets)


def read_again(opened: Sequence[Lying], selection: Selection, rule: Rule | None) -> Annotations:
    """The annotations as ``choose`` gives them, of datasets that a snapshot was taken of."""
    if all(float(entry.dataset.weight).is_integer() for entry in opened):
        return selection.of(_read(opened, hints=False))
    return choose(opened, selection, rule, "--split", hints=False).read


def declared(
    opened: Sequence[Lying], read: Annotations, advanced: single.Advanced = lambda done, total, size, whole: None
) -> single.SourceDataset:
    """The datasets with what their stores declare of each image. Image bytes are read only in folders, which declare no ETag."""
    if not read.parts:
        (entry,) = opened
        declares = single.declared_of(entry.source, read.images["key"], read.below, advanced)
        return single.SourceDataset(read, declares, entry.evidence, entry.source.passed_over)
    below = {part.name: part.below for part in read.parts}
    sources = {entry.dataset.name: (entry.source, below[entry.dataset.name]) for entry in opened}
    return single.SourceDataset(read, declared_of(read.images["key"], sources, advanced))


def read_snapshot_again(snapshot: Snapshot, context: Context) -> Annotations:
    """The annotations of a snapshot's datasets as they are now; of a store nothing is read that did not change."""
    rule = snapshot.identity.split.get("rule")
    run_rule = (
        None if rule is None or isinstance(rule, list) else shared_split(rule) or split_from_object(rule, "--split")
    )
    listing = functools.partial(listing_of, context)
    with lying(
        snapshot.datasets,
        snapshot.task,
        snapshot.formats,
        context.alive,
        listing,
        own_rules=isinstance(rule, list),
        # The same dataset may lie there in another format by now.
        again="dataset_format" not in snapshot.result.receipt.parameters,
    ) as opened:
        remember(opened, context.workspace)
        return read_again(opened, snapshot.selection, run_rule)


def changed_since(snapshot: Snapshot, context: Context) -> Annotations | None:
    """The annotations of a snapshot's datasets as they are now; None if they are the snapshot's.

    Of a million images the tables are half a gigabyte: those of now and those of then are never held together while they are equal.
    """
    now = annotations_hash(read_snapshot_again(snapshot, context))
    return None if now == annotations_hash(snapshot.annotations) else read_snapshot_again(snapshot, context)


def declared_now(snapshot: Snapshot, context: Context) -> pa.Table:
    """What the stores declare now of a snapshot's images, as ``dataset.DECLARED``, by row."""
    keys, listing = snapshot.table["key"], functools.partial(listing_of, context)
    parts = {part.name: part.below for part in snapshot.annotations.parts}
    with contextlib.ExitStack() as stack:
        sources: dict[str, tuple[Source, str]] = {}
        for dataset in snapshot.datasets:
            prefix = open_prefix(dataset.uri, "dataset")
            source = stack.enter_context(single.opened(prefix, snapshot.task, context.alive, listing(dataset.uri)))
            sources[dataset.name] = source, parts.get(dataset.name, snapshot.annotations.below)
        if not parts:
            ((source, below),) = sources.values()
            return single.declared_of(source, keys, below, context.fetched)
        return declared_of(keys, sources, context.fetched)


def declared_of(
    keys: pa.ChunkedArray,
    sources: Mapping[str, tuple[Source, str]],
    advanced: single.Advanced = lambda done, total, size, whole: None,
) -> pa.Table:
    """As ``dataset.declared_of``, of images in several datasets.

    Args:
        keys: Their keys, which begin with the name of the dataset.
        sources: By that name the dataset, and the key below which all its images lie.
        advanced: As there, over all of them; the bytes are not known ahead, and 0.
    """
    owners = np.asarray(datasets_of(keys).to_pylist(), object)
    tables, rows, done = [single.DECLARED.empty_table()], [np.empty(0, np.int64)], 0
    for name, (source, below) in sources.items():
        own = np.flatnonzero(owners == name)
        stripped = [key.partition("/")[2] for key in keys.take(pa.array(own)).to_pylist()]
        before = done

        def report(number: int, total: int, size: int, whole: int, before: int = before) -> None:
            advanced(before + number, len(keys), 0, 0)

        tables.append(single.declared_of(source, pa.chunked_array([stripped], pa.string()), below, report))
        rows.append(own)
        done += len(own)
    order = np.argsort(np.concatenate(rows))
    return pa.concat_tables(tables).take(pa.array(order)).combine_chunks()


def notices(opened: Sequence[Lying], chosen: Chosen) -> list[str]:
    """The notices about the datasets: how each was read, what was selected, how they were split and weighed."""
    if not chosen.read.parts:
        return []
    lines = []
    by_name = counts(chosen)
    for entry in opened:
        numbers = by_name[entry.dataset.name]
        evidence = f" ({entry.evidence})" if entry.evidence else ""
        splits = ", ".join(f"{split} {numbers[split]:,}" for split in SPLITS if numbers[split]) or "no image"
        title = formats()[entry.format].title
        lines.append(printable(f"{entry.dataset.name}: {entry.dataset.uri}, read as {title}{evidence}: {splits}."))
        if passed := passed_over_notice(entry.source.passed_over):
            lines.append(f"{entry.dataset.name}: {passed}")
    return [*lines, *chosen.read.notices, *chosen.assignment.notices, *chosen.notices]


def own_rules(opened: Sequence[Lying]) -> list[Any]:
    """The rule that each dataset has itself, in their order, for a snapshot's identity; empty without any."""
    rules = [entry.rule.canonical() if entry.rule is not None else None for entry in opened]
    return rules if any(rules) else []


def repeats_digest(names: Sequence[str], repeats: npt.NDArray[np.int32] | None) -> str | None:
    """SHA-256 over the images that are trained on more than once, and how often; None without any."""
    if repeats is None:
        return None
    return sha256(canonical([[name, count] for name, count in zip(names, repeats.tolist(), strict=True) if count > 1]))


def counts(chosen: Chosen) -> dict[str, dict[str, int]]:
    """By dataset: its images, those of each split, how many more times some are trained on, and how many its weight leaves out."""
    if not chosen.read.parts:
        return {}
    owners = np.asarray(datasets_of(chosen.read.images["key"]).to_pylist(), object)
    names = np.asarray(chosen.read.images["file_name"].to_pylist(), object)
    by_name: dict[str, dict[str, int]] = {}
    for part in chosen.read.parts:
        own = owners == part.name
        splits, also = chosen.assignment.splits, chosen.assignment.also
        counted = Counter(split for name in names[own] for split in (splits[name], also.get(name)))
        entry: dict[str, int] = {"images": int(own.sum())}
        entry |= {split: counted[split] for split in SPLITS}
        if more := 0 if chosen.repeats is None else int((chosen.repeats[own] - 1).sum()):
            entry["repeated"] = more
        if chosen.left_out.get(part.name):
            entry["left_out"] = chosen.left_out[part.name]
        by_name[part.name] = entry
    return by_name


def _read(opened: Sequence[Lying], *, hints: bool) -> Annotations:
    parts = []
    for entry in opened:
        with _about(entry.dataset, opened):
            read = reader(entry.format)(entry.source).sorted()
            parts.append((entry.dataset, with_hint(read, entry.source) if hints else read))
    return parts[0][1] if alone([dataset for dataset, _ in parts]) else merge(parts)


def _own_rule(dataset: RunDataset, datasets: Sequence[RunDataset], metadata: Mapping[str, Any]) -> Rule | None:
    if metadata.get("split_config") is None:
        return None
    where = SPLIT_CONFIG if alone(datasets) else f"{dataset.name}/{SPLIT_CONFIG}"
    return split_from_object(metadata["split_config"], where)


def _assigned(read: Annotations, rule: Rule | None, origin: str, owned: Mapping[str, Rule]) -> Assignment:
    """The split of each image of several datasets: by the run's rule, else by each dataset's own, else as it is stated."""
    hashed = names_alone(read)
    decided: dict[str, Any] = {}
    notices: list[str] = []
    owners = np.asarray(datasets_of(read.images["key"]).to_pylist(), object)
    for part in read.parts:
        rows = np.flatnonzero(owners == part.name)
        if part.name not in owned or not len(rows):
            continue
        images = read.images.take(pa.array(rows)).combine_chunks()
        inside = set(images["file_name"].to_pylist())
        own = replace(read, file=part.file, images=images, shared=tuple(name for name in read.shared if name in inside))
        assignment = assign(
            own, owned[part.name], f"{part.name}/{SPLIT_CONFIG}", [hashed[row] for row in rows.tolist()]
        )
        decided |= assignment.splits
        notices += assignment.notices
    if decided:
        shared = tuple(name for name in read.shared if name not in decided)
        read = replace(with_splits(read, decided), shared=shared)
    whole = assign(read, rule, origin, hashed)
    return replace(whole, notices=(*notices, *whole.notices))


def _weighed(read: Annotations, assignment: Assignment, datasets: Sequence[RunDataset]) -> Chosen:
    """Leaves out and repeats images of train as their datasets' weights say; a notice counts both."""
    if all(dataset.weight == 1 for dataset in datasets):
        return Chosen(read, assignment, None, {}, ())
    names = read.images["file_name"].to_pylist()
    owners = datasets_of(read.images["key"]).to_pylist()
    train = np.array([assignment.splits[name] == "train" for name in names], bool)
    number = times(names_alone(read), owners, train, {dataset.name: dataset.weight for dataset in datasets})
    if train.any() and not number[train].any():
        raise InvalidDataset(
            f"--dataset: the weights leave out all {int(train.sum()):,} train images; give larger ones."
        )
    notices, left_out = [], {}
    for dataset in datasets:
        own = train & (np.asarray(owners, object) == dataset.name)
        if dataset.weight == 1:
            continue
        left_out[dataset.name] = int((number[own] == 0).sum())
        more = int(np.maximum(number[own] - 1, 0).sum())
        said = [f"leaves out {left_out[dataset.name]:,}"] if left_out[dataset.name] else []
        said += [f"repeats {int((number[own] > 1).sum()):,} ({more:,} more in all)"] if more else []
        done = " and ".join(said) or "changes none"
        notices.append(f"{dataset.name}: its weight {dataset.weight:g} {done}, of {int(own.sum()):,} train images.")
    kept = number > 0
    gone = {name for name, stays in zip(names, kept.tolist(), strict=True) if not stays}
    repeats = number[kept]
    splits = {name: split for name, split in assignment.splits.items() if name not in gone}
    return Chosen(
        _only(read, kept),
        replace(assignment, splits=splits),
        repeats if (repeats > 1).any() else None,
        left_out,
        tuple(notices),
    )


def _only(read: Annotations, kept: npt.NDArray[np.bool_]) -> Annotations:
    """The images that are kept, with their objects."""
    if kept.all():
        return read
    images = read.images.filter(pa.array(kept)).combine_chunks()
    image = column(read.objects, "image")
    objects = read.objects.filter(pa.array(kept[image])).combine_chunks()
    rows = (np.cumsum(kept) - 1)[image[kept[image]]]
    objects = objects.set_column(0, OBJECTS.field(0), pa.array(rows.astype(np.int32)))
    present = set(images["file_name"].to_pylist()) if read.findings or read.shared else set()
    return replace(
        read,
        images=images,
        objects=objects,
        shared=tuple(name for name in read.shared if name in present),
        findings=tuple(entry for entry in read.findings if entry.file_name is None or entry.file_name in present),
    )


@contextlib.contextmanager
def _about(dataset: RunDataset, all_of_them: Sequence[object]) -> Iterator[None]:
    """Has an error of one of several datasets name it."""
    try:
        yield
    except (DatasetNotFound, InvalidDataset, InvalidConfig) as error:
        if len(all_of_them) == 1 or dataset.uri in str(error):
            raise
        raise type(error)(f"{dataset.uri}: {error}") from error
