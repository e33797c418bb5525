"""The snapshot stage: lists and reads a dataset, resolves task and split, and writes the snapshot."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.snapshot import baseline, index, several
from visionloop.components.snapshot import dataset as source
from visionloop.components.snapshot.classes import read_classes
from visionloop.components.snapshot.kept import Kept, keep_listed, listing_of
from visionloop.components.snapshot.manifest import Identity, Snapshot, encode
from visionloop.components.snapshot.retraining.policy import ALWAYS, Decision
from visionloop.components.snapshot.several import Chosen, counts
from visionloop.components.snapshot.taken import snapshot_of
from visionloop.core import receipts, shards
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.runs import RUN_VARIABLE
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument
from visionloop.core.workspace import check_apart
from visionloop.data.annotations import parquet
from visionloop.data.annotations.difference import difference
from visionloop.data.annotations.findings import digest_of
from visionloop.data.annotations.selection import Selection
from visionloop.data.annotations.split import Assignment
from visionloop.data.annotations.split_rules import Rule, parse_split, split_from_object
from visionloop.data.annotations.tables import Annotations
from visionloop.data.annotations.where import parse_where
from visionloop.data.datasets import RunDataset, alone, listed, parameter, parse_datasets, recorded
from visionloop.data.dice.tasks import parse_task
from visionloop.training.configuration import merge_settings, split_strategy


@dataclass(frozen=True)
class Arguments:
    """The arguments of snapshot: a dataset, or the id of an earlier snapshot."""

    dataset: str | list[str] | None = argument(
        "The dataset, as it lies: s3://…, file://… or a path; several, which are trained on as one, as a JSON list of URIs or of "
        'objects such as {"uri": "s3://…", "name": "night", "weight": 2}, or each in an option of its own.',
        default=None,
        variable="DATASET_S3_URI",
        listed=True,
    )
    snapshot: str | None = argument("An earlier snapshot to use again (snap_…) in place of a dataset.", default=None)
    task: str | None = argument(
        "detection, segmentation, classification or pose; may be left out when the dataset has only one.",
        default=None,
        variable="TASK_TYPE",
    )
    split: str | None = argument(
        "How to split: train=0.8,val=0.1,test=0.1[,seed=0][,group=FIELD|folder|regex:PATTERN]; fold=2/5[,seed=0][,group=…]; "
        "time=FIELD,val=DATE,test=DATE; or test=val (val=test), whose images are then both; left out, the dataset decides.",
        default=None,
    )
    model_name: str | None = argument(
        "The name the model will be registered under; its champion is what --retraining compares with.", default=None
    )
    retraining: str | None = argument(
        "The retraining policy: a file (path or URI), or a JSON object: min_new_images, drift_above, "
        "champion_older_than_days, max_runs_per_week, max_gpu_hours_per_month.",
        default=None,
    )
    settings: str | None = argument(
        "The training's settings as a JSON object: with them the whole run's arguments are checked first.", default=None
    )
    gate: str | None = argument("The gate that evaluate will take, for that check.", default=None)
    dataset_format: str | None = argument(
        "The format to read the dataset as: dice, coco, yolo, folders, voc, labelstudio or cvat; left out, it is recognised.",
        default=None,
    )
    classes: str | None = argument(
        "The classes: a file (path or URI), or a JSON object: ignore, drop, keep, rename, by the dataset's own names; left out, "
        "all as they are.",
        default=None,
    )
    where: str | None = argument(
        "Which images and objects count, such as split != 'train' or metadata.source == 'night'; left out, all.",
        default=None,
    )
    checks: str | None = argument("The checks that validate will take, for that check of the arguments.", default=None)
    slices: str | None = argument("The slices that evaluate will take, for that check of the arguments.", default=None)
    costs: str | None = argument("The costs that evaluate will take, for that check of the arguments.", default=None)
    export: str | None = argument("The formats that export will take, for that check of the arguments.", default=None)
    shards: str | None = argument(
        "In how many shards validate and convert will be done: the scalar shards lists them.", default=None
    )


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` read and ``compute`` writes; ``listed`` is the number of objects of each dataset by URI."""

    dataset: source.SourceDataset
    chosen: Chosen
    identity: Identity
    kept: Sequence[Kept] = ()
    listed: Mapping[str, int] = field(default_factory=dict)

    @property
    def assignment(self) -> Assignment:
        """The split of each image."""
        return self.chosen.assignment


class SnapshotStage:
    """Freezes a dataset in about a second and a megabyte, however many bytes its images have."""

    name = "snapshot"
    logic_version = 3
    policy = POLICIES["snapshot"]
    arguments = Arguments
    description = "Freezes a dataset: what it holds, its task and its split; no image is copied."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Lists and reads the dataset; its hash, task and split make the key. Whether to go on is not part of it.

        With ``settings`` the run's other arguments are checked before the dataset is read.
        """
        if arguments.snapshot and arguments.dataset and not _from_variable(arguments.dataset):
            raise InvalidConfig("--dataset and --snapshot are both given; give the one to train on.")
        if not arguments.snapshot and not arguments.dataset:
            raise InvalidConfig(
                "snapshot needs --dataset (a URI) or --snapshot (snap_…), fields of the same names in an engine's form; give one of them."
            )
        parts = shards.listed(shards.parse_count(arguments.shards))
        notices = _preflight(context, arguments)
        if arguments.snapshot:
            resolution, identity, annotations = _existing(context, arguments)
        else:
            for dataset in parse_datasets(arguments.dataset or ""):
                check_apart(context.workspace.uri, dataset.uri)
            resolution, identity, annotations = _dataset(context, arguments)
        resolution.notices[:0] = notices
        if arguments.settings is not None and not context.planning:
            from visionloop.components.snapshot.preflight import check_for_task

            check_for_task(merge_settings((), arguments.settings), identity.task, arguments.gate, os.environ)
        resolution.notices += _told_early(arguments, resolution, annotations)
        decision = _decision(context, arguments, identity, annotations)
        resolution.run_scalars |= decision.scalars() | {"shards": parts}
        compared, obstacles = baseline.scalars(
            arguments.model_name, arguments.settings is not None, identity.id, context.workspace, os.environ
        )
        resolution.run_scalars |= compared
        resolution.notices += obstacles
        if not decision.go:
            resolution.notices.append(decision.reason)
        return resolution

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Writes identity, manifest and annotations, and lists the receipt under its snapshot id."""
        loaded = resolution.loaded
        read, identity = loaded.dataset.read, loaded.identity
        names = read.images["file_name"].to_pylist()
        assigned = {
            "split": [loaded.assignment.splits[name] for name in names],
            "also": pa.array([loaded.assignment.also.get(name) for name in names], pa.string()),
        }
        manifest = encode(
            read, loaded.dataset.declared, pa.table(assigned), loaded.dataset.content, loaded.chosen.repeats
        )
        attempt.write("snapshot", "snapshot.json", identity.encode(), result=True)
        attempt.write("manifest", "manifest.parquet", manifest, result=False)
        attempt.write("annotations", "annotations.parquet", parquet.encode(read), result=False)
        for kept in loaded.kept:
            kept.write()
        for uri, number in loaded.listed.items():
            keep_listed(context.workspace, uri, number)
        index.add(context.workspace, identity.id, f"{attempt.key_prefix.uri}/{receipts.FILE}")
        return Computed(scalars=scalars(loaded))

    def explain(self, existing: Result, resolution: Resolution[Loaded]) -> dict[str, list[str]]:
        """Returns the differences between an earlier snapshot and the dataset as it is now."""
        loaded = resolution.loaded
        snapshot = Snapshot(existing)
        changes = difference(snapshot.annotations, loaded.dataset.read)
        before = {row.file_name: (row.size, row.etag) for row in snapshot.rows}
        declared = (loaded.dataset.declared[name].to_pylist() for name in ("size", "etag"))
        now = dict(zip(loaded.dataset.read.images["file_name"].to_pylist(), zip(*declared, strict=True), strict=True))
        changed = sum(before[name] != now[name] for name in before.keys() & now.keys())
        if changed:
            changes.append(f"{changed} image{'s' if changed > 1 else ''} changed in the store")
        if snapshot.identity.split["rule"] != loaded.identity.split["rule"]:
            changes.append("another split")
        # The split's hash follows from the images; the changes above say what a person needs to know.
        explained = {"dataset_hash": changes, "split": []}
        wanted = recorded(resolution.parameters["dataset"].value)
        if snapshot.several or not alone(wanted):
            explained["dataset"] = [f"dataset {_shown(snapshot.datasets)} → {_shown(wanted)}"]
        return explained


def _shown(datasets: Sequence[RunDataset]) -> str:
    """Datasets in a short text, each with its weight where it has one."""
    return listed([entry.uri if entry.weight == 1 else f"{entry.uri} × {entry.weight:g}" for entry in datasets])


def scalars(loaded: Loaded) -> dict[str, Any]:
    """Returns the scalars of a snapshot's receipt."""
    return {
        "snapshot_id": loaded.identity.id,
        "dataset_hash": loaded.identity.dataset_hash,
        "task": loaded.identity.task,
        "images": len(loaded.dataset.read.images),
        "classes": len(loaded.dataset.read.classes),
        **loaded.assignment.counts,
        **({"datasets": counts(loaded.chosen)} if loaded.dataset.read.parts else {}),
    }


def _dataset(context: Context, arguments: Arguments) -> tuple[Resolution[Loaded], Identity, Annotations]:
    """Resolves the dataset as it is now."""
    datasets = parse_datasets(arguments.dataset or "")
    task = parse_task(arguments.task, "--task") if arguments.task else None
    selection = _selection(arguments)
    rule, origin = _run_rule(arguments.split)
    listing = functools.partial(listing_of, context)
    with several.lying(
        datasets, task, arguments.dataset_format, context.alive, listing, own_rules=rule is None
    ) as opened:
        several.remember(opened, context.workspace)
        chosen = several.choose(opened, selection, rule, "--split" if origin == "argument" else origin)
        read = chosen.read
        taken = several.declared(opened, read, context.fetched)
    own = several.own_rules(opened)
    if rule is None and own:
        origin = several.SPLIT_CONFIG
    stated = own[0] if own and not read.parts else own or None
    names = read.images["file_name"].to_pylist() if chosen.repeats is not None else []
    identity = Identity(
        dataset_hash=taken.dataset_hash,
        task=read.task,
        split={"rule": rule.canonical() if rule else stated, "assignment": chosen.assignment.digest()},
        repeats=several.repeats_digest(names, chosen.repeats),
    )
    if read.parts:
        notices = several.notices(opened, chosen)
    else:
        notices = [f"{datasets[0].uri}: {text}" for text in (*taken.notices(), *chosen.assignment.notices)]
    resolution = Resolution(
        parameters={
            "dataset": Parameter(parameter(datasets), "argument"),
            "dataset_hash": Parameter(identity.dataset_hash, "dataset"),
            "task": Parameter(read.task, "argument" if task else "dataset"),
            "split": Parameter(identity.split, origin),
            **_as_given(arguments, read, selection),
        },
        notices=notices,
        loaded=Loaded(
            taken,
            chosen,
            identity,
            [entry.kept for entry in opened if entry.kept is not None],
            {entry.dataset.uri: entry.source.listed for entry in opened},
        ),
    )
    return resolution, identity, read


def _selection(arguments: Arguments) -> Selection:
    """What of the dataset is trained on. Raises InvalidConfig before anything is read."""
    where = parse_where(arguments.where).text if arguments.where else None
    mapping = read_classes(arguments.classes) if arguments.classes else None
    return Selection(where, mapping if mapping is not None and mapping.canonical() else None)


def _as_given(arguments: Arguments, read: Annotations, selection: Selection) -> dict[str, Parameter]:
    """What else the receipt holds, each only where there is any: the format, the selection, what the annotations say twice."""
    parameters = {}
    if arguments.dataset_format:
        parameters["dataset_format"] = Parameter(read.format, "argument")
    if selection.classes is not None:
        parameters["classes"] = Parameter(selection.classes.canonical(), "argument")
    if selection.where is not None:
        parameters["where"] = Parameter(selection.where, "argument")
    if (elsewhere := _elsewhere(read)) is not None:
        # The hash of the dataset does not cover them, and an earlier snapshot would still have the keys of before.
        parameters["keys"] = Parameter(elsewhere, "dataset")
    if read.licences:
        # The hash of the dataset does not cover them, and an earlier snapshot would still have those of before.
        parameters["licences"] = Parameter(list(read.licences), "dataset")
    if read.findings:
        # The hash of the dataset does not cover them, and an earlier snapshot would still have what was corrected.
        parameters["findings"] = Parameter(digest_of(read.findings), "dataset")
    return parameters


def _elsewhere(read: Annotations) -> str | None:
    """Which images do not lie below ``images/``: None if all do, ``root`` if none does, else the SHA-256 of those that do not."""
    names = read.images["file_name"]
    outside = names.filter(pc.invert(pc.starts_with(read.images["key"], "images/")))
    if not len(outside):
        return None
    return "root" if len(outside) == len(names) else sha256(canonical(sorted(outside.to_pylist())))


def _preflight(context: Context, arguments: Arguments) -> list[str]:
    """Checks the run's arguments, unless the command line has just done so on this machine. Returns what is not checked here."""
    if arguments.settings is None or context.planning or RUN_VARIABLE in os.environ:
        return []
    # It imports what checks settings, gate and registry, which a stage by itself need not.
    from visionloop.components.snapshot.preflight import FIRST_POD, preflight

    values: dict[str, Any] = {"workspace": context.workspace.uri}
    values |= {entry.name: getattr(arguments, entry.name) for entry in fields(arguments) if entry.name != "settings"}
    if arguments.snapshot:
        values["dataset"] = None
    return preflight(values, merge_settings((), arguments.settings), FIRST_POD, os.environ)


def _told_early(arguments: Arguments, resolution: Resolution[Loaded], annotations: Annotations) -> list[str]:
    """Checks what evaluate is asked for against the images of test. Returns what can't come out as it is wished."""
    asked = {name: getattr(arguments, name) for name in ("gate", "slices", "costs")}
    if arguments.settings is None or not any(asked.values()):
        return []
    from visionloop.components.evaluate.loaded import SPLIT
    from visionloop.components.snapshot.preflight import told_early

    if resolution.existing is not None:
        snapshot = Snapshot(resolution.existing)
        names = snapshot.table["file_name"].filter(pa.array(snapshot.in_split(SPLIT))).to_pylist()
    else:
        assignment = resolution.loaded.assignment
        names = [name for name, split in assignment.splits.items() if SPLIT in (split, assignment.also.get(name))]
    return told_early(asked, merge_settings((), arguments.settings), annotations, names)


def _decision(context: Context, arguments: Arguments, identity: Identity, annotations: Annotations) -> Decision:
    """Decides whether the run goes on. The registry is imported only if there is a policy."""
    if not arguments.retraining:
        return ALWAYS
    from visionloop.components.snapshot.retraining.decision import decide_run

    return decide_run(
        arguments.retraining,
        arguments.model_name,
        context.workspace,
        context.run.name,
        identity.id,
        annotations,
        os.environ,
    )


def _from_variable(dataset: str | list[str]) -> bool:
    """Whether the dataset comes from the environment, over which an explicit snapshot takes precedence."""
    return os.environ.get("DATASET_S3_URI") == dataset


def _run_rule(argument: str | None) -> tuple[Rule | None, str]:
    """Returns the run's split and where it came from; without one the dataset's own counts, else the images' own field."""
    if argument:
        return parse_split(argument), "argument"
    strategy = split_strategy(os.environ)
    if strategy is not None:
        return split_from_object(strategy, "CONFIG.split_strategy"), "CONFIG.split_strategy"
    return None, "split field of the images"


def _existing(context: Context, arguments: Arguments) -> tuple[Resolution[Loaded], Identity, Annotations]:
    """Resolves an earlier snapshot: the newest of its receipts whose images all still exist unchanged."""
    wanted = str(arguments.snapshot)
    index.refuse_beside_snapshot("split", arguments.split)
    index.refuse_beside_snapshot("dataset-format", arguments.dataset_format)
    index.refuse_beside_snapshot("classes", arguments.classes)
    index.refuse_beside_snapshot("where", arguments.where)

    def accept(snapshot: Snapshot) -> None:
        _check_task(snapshot, arguments.task, wanted)
        if differences := missing_or_changed(snapshot, context):
            raise no_longer(snapshot, differences)

    snapshot = snapshot_of(context.workspace, wanted, accept)
    resolution = Resolution(
        existing=snapshot.result, run_scalars={"pinned": True}, notices=_moved_on(snapshot, context)
    )
    resolution.parameters = dict(snapshot.result.receipt.parameters)
    return resolution, snapshot.identity, snapshot.annotations


def no_longer(snapshot: Snapshot, differences: Sequence[str]) -> DatasetChanged:
    """The error for images of a snapshot that are gone or differ, each as one part of a sentence."""
    more = f" and {len(differences) - 1:,} more" if len(differences) > 1 else ""
    return DatasetChanged(
        f"{snapshot.id}: {snapshot.dataset} is no longer what was frozen ({differences[0]}{more}); restore it or take a new snapshot."
    )


def _check_task(snapshot: Snapshot, task: str | None, wanted: str) -> None:
    if task and parse_task(task, "--task") != snapshot.task:
        raise InvalidConfig(
            f"--task {task}: {wanted} was taken for {snapshot.task}; leave --task out or take a new snapshot."
        )


def missing_or_changed(snapshot: Snapshot, context: Context) -> list[str]:
    """Returns the images of a snapshot that are gone or differ from what was frozen, as one part of a sentence each."""
    table = snapshot.table
    now = several.declared_now(snapshot, context)
    columns = (table["key"], table["size"], table["etag"], now["size"], now["etag"])
    differences = []
    for key, size, etag, size_now, etag_now in zip(*(column.to_pylist() for column in columns), strict=True):
        if etag is None:
            continue
        if etag_now is None:
            differences.append(f"{key} is gone")
        elif (size_now, etag_now) != (size, etag):
            differences.append(f"{key} changed")
    return differences


def _moved_on(snapshot: Snapshot, context: Context) -> list[str]:
    """Returns a notice if the dataset's annotations are not the snapshot's any more."""
    try:
        annotations = several.changed_since(snapshot, context)
    except (InvalidDataset, InvalidConfig) as error:
        return [
            f"{snapshot.dataset}: the dataset can't be read any more ({error.sentence}) The snapshot's own annotations are used."
        ]
    if annotations is None:
        return []
    changes = "; ".join(difference(snapshot.annotations, annotations))
    return [
        f"{snapshot.dataset}: the dataset has moved on since {snapshot.id} ({changes}); the snapshot's own annotations are used."
    ]


STAGE: Stage[Arguments, Loaded] = SnapshotStage()
