"""What is measured: a training that has just ended, or a registered version or checkpoint on a dataset of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.convert.converted import Converted, IndexEntry
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.train.loaded import fetch_weights, resolve_settings
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.folders import temporary_folder
from visionloop.core.receipts import NOT_TRACKED, InputReference, Result
from visionloop.core.storage import Prefix
from visionloop.data import view
from visionloop.data.annotations.labels import class_folder, class_order, keypoint_names
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.tables import SPLITS
from visionloop.data.archive import read_archive
from visionloop.data.sentences import printable
from visionloop.registry import Registry, package, resolve
from visionloop.training import catalog, weights
from visionloop.training.configuration import merge_settings
from visionloop.training.trainers import Predictor, Trainer

#: Settings that decide how a model is measured rather than what it is.
MEASURING = ("conf", "iou", "max_det")

#: All settings that a checkpoint's measurement takes.
TAKEN = ("imgsz", "batch", "single_cls", *MEASURING)

#: Why an image is not measured: a classification has no place for one of a class that the model does not have.
OTHER_CLASS = "of a class that the model does not have"


@dataclass(frozen=True)
class Candidate:
    """The model that is measured.

    Attributes:
        digest: The result digest of its training; ``sha256:`` and the digest of a checkpoint whose training is not known.
        converted: The converted dataset that it is measured on.
        fetch: Writes its checkpoint into a file.
        tracking: How its training is tracked, where this evaluation is part of the same run.
        timings: Where the time of that training went.
        label: What people call it; empty for a training that has just ended.
    """

    digest: str
    converted: Result
    fetch: Callable[[Path], Path]
    tracking: dict[str, Any] | str = NOT_TRACKED
    timings: Mapping[str, float] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Model:
    """A model that exists already, as it is named.

    Attributes:
        label: What people call it: ``NAME/VERSION``, or where the checkpoint lies.
        reference: What stands for it in a key.
        trainer: The trainer that measures it.
        config: How it is measured.
        fetch: Writes its checkpoint into a file.
        task: Its task; None where the file alone says it.
        classes: Its class names by index; None where the file alone says them.
        keypoints: The names of its keypoints; None where they are not known.
    """

    label: str
    reference: InputReference
    trainer: Trainer
    config: dict[str, Any]
    fetch: Callable[[Path], Path]
    task: str | None = None
    classes: tuple[str, ...] | None = None
    keypoints: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Adapted:
    """A view whose labels have a model's class numbers.

    Attributes:
        entries: Its images.
        positions: The model's class number by the dataset's; None for a class that the model does not have.
        config: How the model is measured, with what its file says.
        shared: The classes of both, where the dataset has others than the model; None where they are the same.
        left_out: The images that are not in it any more, with the reason.
    """

    entries: list[IndexEntry]
    positions: list[int | None]
    config: dict[str, Any]
    shared: list[str] | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def trained(training: Result) -> Candidate:
    """The model of a training."""
    return Candidate(
        digest=training.receipt.digest,
        converted=training.input("converted", "convert"),
        fetch=lambda local: training.fetch("best", local),
        tracking=training.receipt.tracking,
        timings=training.receipt.timings,
    )


def is_registered(model: str) -> bool:
    """Whether a model is named as one of the registry's, rather than by where its checkpoint lies."""
    kind = weights.reference_kind(model)
    return kind in ("registered", "name") or (kind == "path" and resolve.names_a_version(model))


def found(model: str, task: str | None, settings: str | None, workspace: Prefix | None = None) -> Model:
    """Finds a model: ``NAME/VERSION``, ``NAME@ALIAS``, or a checkpoint's path or URI.

    Args:
        model: As it is named.
        task: The dataset's task, by which a checkpoint's settings are resolved; None before it is known.
        settings: Of a checkpoint the settings of its measurement, a JSON object, with its trainer.
        workspace: The workspace that is open now.

    Raises:
        InvalidConfig: If there is no such model, or a setting has no meaning here.
        InvalidReceipt: If a registered model's files are gone.
    """
    explicit = merge_settings((), settings)
    return _registered(model, explicit, workspace) if is_registered(model) else _checkpoint(model, task, explicit)


def _registered(model: str, settings: Mapping[str, Any], workspace: Prefix | None) -> Model:
    if given := sorted(name for name in settings if name != "trainer"):
        raise InvalidConfig(
            f"--set {given[0]}: a registered model is measured as in its training; leave it out, or name its checkpoint."
        )
    registry = Registry(os.environ, "evaluate")
    version = resolve.named(model, registry)
    uri, description = resolve.describe(version, registry)
    trainer = catalog.trainer(description.trainer)
    digest = version.training_digest or description.training_digest

    def fetch(local: Path) -> Path:
        return package.fetch_checkpoint(uri, description, local, version.checkpoint_sha256, workspace)

    return Model(
        version.label,
        InputReference(version.training_receipt, digest),
        trainer,
        dict(description.config),
        fetch,
        description.task,
        tuple(description.classes),
        tuple(description.keypoints),
    )


def _checkpoint(model: str, task: str | None, settings: Mapping[str, Any]) -> Model:
    other = sorted(name for name in settings if name not in ("trainer", *TAKEN))
    if other:
        raise InvalidConfig(
            f"--set {other[0]}: a checkpoint's measurement takes {', '.join(('trainer', *TAKEN))}; leave it out."
        )
    config, trainer = resolve_settings(settings, task or _a_task(settings))
    with temporary_folder("weights") as folder:
        located = weights.locate(model, trainer, os.environ, fetch_weights, folder)
    if located.kind != "file":
        raise InvalidConfig(f"--model {model}: {located.kind}, not a checkpoint; give a file of a trained model.")

    def fetch(local: Path) -> Path:
        with temporary_folder("weights") as folder:
            file = weights.materialise(located, fetch_weights, folder)
            if file is None:
                raise InvalidConfig(f"--model {model}: no file; give a checkpoint.")
            shutil.copyfile(file, local)
        return local

    measured_by = {name: config.values[name] for name in TAKEN if name in config.values}
    measured_by |= {name: config.values[name] for name in ("primary_metric", "primary_metric_mode")}
    if "imgsz" not in settings:
        measured_by.pop("imgsz")  # the file says what it was trained with
    return Model(model, InputReference(None, located.identity), trainer, measured_by, fetch)


def _a_task(settings: Mapping[str, Any]) -> str:
    """A task of the trainer that settings name: a checkpoint's own is known once it is loaded."""
    tasks = catalog.trainer(str(settings["trainer"])).tasks if "trainer" in settings else ()
    return "detection" if not tasks or "detection" in tasks else sorted(tasks)[0]


def parse_split(text: str | None) -> str:
    """The split that is measured; test where none is named. Raises InvalidConfig."""
    if text and text not in SPLITS:
        raise InvalidConfig(f"--split-name {text}: give one of {', '.join(SPLITS)}.")
    return text or "test"


def check_fits(model: Model, snapshot: Snapshot) -> None:
    """Refuses a dataset that a model can't be measured on, as far as that is known before the model is loaded.

    Raises:
        InvalidConfig: If the model is for another task.
        InvalidDataset: If it has other keypoints, or no class of the dataset.
    """
    check_task(model, snapshot.task)
    check_keypoints(model.label, model.keypoints, snapshot)
    if model.classes is not None:
        dataset = class_order(snapshot.annotations)
        positions_of(model.label, snapshot.dataset, dataset, model.classes, model.config)


def check_task(model: Model, task: str) -> None:
    """Refuses a model of another task. Raises InvalidConfig."""
    if model.task not in (None, task):
        raise InvalidConfig(
            f"--model {model.label} is for {model.task}, but the dataset's task is {task}: name a model for that task, or another --task."
        )
    if task not in model.trainer.tasks:
        raise InvalidConfig(
            f"--model {model.label}: the trainer {model.trainer.name} has no models for {task}; name another one by --set trainer=NAME."
        )


def check_keypoints(label: str, keypoints: Sequence[str] | None, snapshot: Snapshot) -> None:
    """Refuses a model that was trained on other keypoints. Raises InvalidDataset."""
    theirs = keypoint_names(snapshot.annotations) or ()
    if keypoints is not None and tuple(keypoints) != tuple(theirs):
        raise InvalidDataset(
            f"{snapshot.dataset}: its keypoints are {', '.join(theirs) or 'none'}, and those of {label} are "
            f"{', '.join(keypoints) or 'none'}; a model is measured on its own alone."
        )


def check_file(candidate: Candidate, predictor: Predictor, snapshot: Snapshot) -> None:
    """Refuses a checkpoint of another task, as its file says it. Raises InvalidConfig."""
    task = getattr(predictor, "task", None)
    if task not in (None, snapshot.task):
        raise InvalidConfig(
            f"--model {candidate.label} is for {task}, but the dataset's task is {snapshot.task}: name a model for that task, or another --task."
        )


def positions_of(
    label: str, where: str, dataset: Sequence[str], classes: Sequence[str], config: Mapping[str, Any]
) -> list[int | None]:
    """The model's class number by the dataset's; None for a class that the model does not have.

    Args:
        label: What people call the model.
        where: The dataset.
        dataset: Its class names by index.
        classes: The model's class names by index.
        config: How the model is measured: with ``single_cls`` all classes count as its only one.

    Raises:
        InvalidDataset: If they share none.
    """
    if len(classes) == 1 and config.get("single_cls"):
        return [0] * len(dataset)
    index = {name: position for position, name in enumerate(classes)}
    positions = [index.get(name) for name in dataset]
    if all(position is None for position in positions):
        raise InvalidDataset(
            f"{where}: none of its classes ({_some(dataset)}) is one of {label} ({_some(classes)}); "
            "name another dataset or model, or rename classes by --classes."
        )
    return positions


def adapted(
    folder: Path,
    split: str,
    entries: Sequence[IndexEntry],
    converted: Converted,
    label: str,
    predictor: Predictor,
    config: Mapping[str, Any],
) -> Adapted:
    """Gives a view's labels the class numbers of a model, without those of classes that the model does not have.

    Args:
        folder: The view's folder.
        split: The only split in it.
        entries: Its images.
        converted: What it is a view of.
        label: What people call the model.
        predictor: The model.
        config: How it is measured.

    Raises:
        InvalidDataset: If nothing is left to measure.
    """
    dataset, classes = converted.classes, tuple(predictor.classes)
    # A file says what it was trained with; a registered model's settings do too.
    own = {"imgsz": size} if (size := getattr(predictor, "imgsz", None)) and "imgsz" not in config else {}
    used = {**config, **own}
    positions = positions_of(label, converted.result.uri, dataset, classes, config)
    if dataset == classes:
        return Adapted(list(entries), positions, used)
    shared = [name for name, position in zip(dataset, positions, strict=True) if position is not None]
    as_one = bool(config.get("single_cls"))
    told = None if as_one or set(dataset) == set(classes) else shared
    kept, left_out = _placed(folder, split, entries, converted, classes, positions)
    return Adapted(kept, positions, used, told, left_out)


def restricted(
    folder: Path,
    split: str,
    entries: Sequence[IndexEntry],
    converted: Converted,
    classes: Sequence[str],
    shared: Sequence[str],
) -> tuple[list[IndexEntry], list[int | None]]:
    """Leaves the labels of some classes in a view, by a model's class numbers.

    Args:
        folder: The view's folder.
        split: The only split in it.
        entries: Its images.
        converted: What it is a view of.
        classes: The model's class names by index.
        shared: The classes that are left, which the model and the dataset have.

    Returns:
        The images that are left, and the model's class number by the dataset's.

    Raises:
        InvalidDataset: If none is.
    """
    positions = [classes.index(name) if name in shared else None for name in converted.classes]
    return _placed(folder, split, entries, converted, classes, positions)[0], positions


def _placed(
    folder: Path,
    split: str,
    entries: Sequence[IndexEntry],
    converted: Converted,
    classes: Sequence[str],
    positions: Sequence[int | None],
) -> tuple[list[IndexEntry], dict[str, str]]:
    """Renumbers labels, or moves a classification's images; returns the images that are left, and why the others are not."""
    if converted.format == "yolo":
        _renumber(folder, split, positions)
        return list(entries), {}
    return _move(folder, split, entries, converted, classes, positions)


def _renumber(folder: Path, split: str, positions: Sequence[int | None]) -> None:
    """Writes the archive of labels and its unpacked files again."""

    def renumbered(text: str) -> str:
        lines = []
        for line in text.splitlines(keepends=True):
            number, space, rest = line.partition(" ")
            if (position := positions[int(number)]) is not None:
                lines.append(f"{position}{space}{rest}")
        return "".join(lines)

    archive = folder / view.LABELS
    partial = archive.with_suffix(".part")
    view.write_archive(partial, ((name, renumbered(text.decode())) for name, text in read_archive(archive)))
    partial.replace(archive)
    for file in (folder / "labels" / split).rglob("*.txt"):
        file.write_text(renumbered(file.read_text(encoding="utf-8")), encoding="utf-8")


def _move(
    folder: Path,
    split: str,
    entries: Sequence[IndexEntry],
    converted: Converted,
    classes: Sequence[str],
    positions: Sequence[int | None],
) -> tuple[list[IndexEntry], dict[str, str]]:
    """Moves the images of a classification into folders of the model's classes; those of other classes go."""
    own = {
        f"{split}/{class_folder(number, name)}": None if position is None else class_folder(position, classes[position])
        for number, (name, position) in enumerate(zip(converted.classes, positions, strict=True))
    }
    before = folder.with_name(f"{folder.name}-before")
    (folder / split).rename(before)
    for number, name in enumerate(classes):
        (folder / split / class_folder(number, name)).mkdir(parents=True)
    kept, left_out = [], {}
    for entry in entries:
        parts = entry.path.split("/", 2)
        target = own["/".join(parts[:2])]
        if target is None:
            left_out[entry.file_name] = OTHER_CLASS
            continue
        path = f"{split}/{target}/{parts[2]}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (before / "/".join(parts[1:])).rename(folder / path)
        kept.append(msgspec.structs.replace(entry, path=path))
    shutil.rmtree(before)
    if not kept:
        raise InvalidDataset(
            f"{converted.result.uri}: no image of the split '{split}' is of a class that the model has; name another split or dataset."
        )
    return kept, left_out


def reason_of(shared: Sequence[str] | None, dataset: Sequence[str], classes: Sequence[str]) -> str:
    """What stands in the place of a gate's reason; nobody's name is in it, for it is part of a result."""
    end = "nothing is decided or registered."
    if shared is None:
        return f"The model was measured; {end}"
    parts = [
        f"{who} alone has {_some(more)}"
        for who, more in (
            ("the dataset", [name for name in dataset if name not in classes]),
            ("the model", [name for name in classes if name not in dataset]),
        )
        if more
    ]
    number = f"{len(shared):,} class{'' if len(shared) == 1 else 'es'}"
    return f"The model was measured on the {number} that it shares with the dataset ({'; '.join(parts)}); {end}"


def converted_of(uri: str, snapshot: Result, workspace: Prefix) -> Result:
    """A converted dataset of a snapshot. Raises InvalidReceipt."""
    result = receipts.load(uri, "convert", workspace)
    if result.receipt.inputs["snapshot"].digest != snapshot.receipt.digest:
        raise InvalidReceipt(
            f"{uri}: converted from another snapshot than {snapshot.uri}; give the one of this snapshot."
        )
    return result


def _some(names: Sequence[str]) -> str:
    return listed([printable(name) for name in names])
