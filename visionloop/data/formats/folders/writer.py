"""Writes canonical annotations as class folders: each image in the folder of its class, below the folder of its split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from posixpath import splitext

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.labels import LONGEST_NAME, class_folders, view_names
from visionloop.data.annotations.tables import Annotations, column
from visionloop.data.formats.folders import _NO_CLASSES
from visionloop.data.formats.keys import split_word
from visionloop.data.formats.written import Losses, Written, ranked, readable, renamed, rows_of_splits, unsaid
from visionloop.data.sentences import shown


def write(read: Annotations) -> Written:
    """The annotations as class folders.

    What they can't say: images without a class or with several, folders within a class, attributes and free values, and an order
    of classes that is not that of their names.

    Raises:
        InvalidConfig: For another task than classification.
    """
    if read.task != "classification":
        raise InvalidConfig(
            f"Class folders hold labels of whole images alone, and the dataset is for {read.task}; choose another --format."
        )
    losses = Losses()
    kept = readable(read, losses)
    class_of = _classes(read, losses)
    folders = _folders(read, losses)
    unsaid(read, losses, "a folder of images", "attributes", "metadata")
    names = read.images["file_name"].to_pylist()
    rows = [row for row in class_of if kept[row]]
    views = _flat([names[row] for row in rows])
    renamed(losses, list(views), views, "as a class has one folder")
    stated = any(split is not None for split in read.images["split"].to_pylist())
    # A class that is called as a split would be taken for one.
    if stated or any(split_word(folder) for folder in folders.values()):
        splits = rows_of_splits(read, losses, "an image folder with splits")
        placed = [(row, f"{split}/") for split, listed in splits.items() for row in listed]
    else:
        placed = [(row, "") for row in range(len(names))]
    written = set(rows)
    images = [(row, f"{above}{folders[class_of[row]]}/{views[names[row]]}") for row, above in placed if row in written]
    _count_classes(read, {class_of[row] for row in rows}, losses)
    return Written(images, (), losses)


def _classes(read: Annotations, losses: Losses) -> dict[int, int]:
    """The class id of each image, by row; images without one, or with several, are counted."""
    labels: dict[int, set[int]] = defaultdict(set)
    existing = {entry.id for entry in read.classes}
    class_ids = column(read.objects, "class_id").tolist()
    for image, class_id in zip(column(read.objects, "image").tolist(), class_ids, strict=True):
        labels[image].add(class_id)
    several = [image for image, ids in labels.items() if len(ids) > 1]
    foreign = [image for image, ids in labels.items() if len(ids) == 1 and not ids & existing]
    losses.add(len(read.images) - len(labels), "image has", "images have", "no label: left out")
    losses.add(len(several), "image has", "images have", "labels of several classes: left out")
    losses.add(len(foreign), "image has", "images have", "the id of no class: left out")
    return {image: next(iter(ids)) for image, ids in sorted(labels.items()) if len(ids) == 1 and ids & existing}


def _folders(read: Annotations, losses: Losses) -> dict[int, str]:
    """A folder for each class id; names that differ in case alone get a mark."""
    folders: dict[int, str] = {}
    taken: set[str] = set()
    numbered = class_folders(read)
    for entry in ranked(read):
        folder = numbered[entry.id].partition("_")[2]
        if folder.casefold() in taken:
            folder = f"{folder}-{hashlib.sha256(entry.name.encode()).hexdigest()[:8]}"
        taken.add(folder.casefold())
        folders[entry.id] = folder
    changed = [(entry.name, folders[entry.id]) for entry in read.classes if folders[entry.id] != entry.name]
    if changed:
        name, folder = changed[0]
        losses.add(
            len(changed),
            "class has",
            "classes have",
            f"a name that a folder can not have ({shown(name)} is {shown(folder)})",
        )
    return folders


def _flat(names: list[str]) -> dict[str, str]:
    """A name without folders for each image, each once."""
    flat: dict[str, str] = {}
    taken: set[str] = set()
    for name, view in view_names(names).items():
        plain = view.replace("/", "_")
        if plain.casefold() in taken or len(plain.encode()) > LONGEST_NAME:
            stem, extension = splitext(plain)
            mark = f"-{hashlib.sha256(name.encode()).hexdigest()[:16]}{extension}"
            plain = stem.encode()[: LONGEST_NAME - len(mark.encode())].decode(errors="ignore") + mark
        taken.add(plain.casefold())
        flat[name] = plain
    return flat


def _count_classes(read: Annotations, used: set[int], losses: Losses) -> None:
    """Counts what the folders don't show of the classes."""
    classes = ranked(read)
    empty = [entry.name for entry in classes if entry.id not in used]
    losses.add(len(empty), "class has", "classes have", f"no image, and so no folder ({', '.join(empty[:3])})")
    names = [entry.name for entry in classes if entry.id in used]
    if names != sorted(names):
        losses.add(
            len(names), "class is", "classes are", "numbered in the order of its name, no longer in that of its id"
        )
    if len(used) < 2:
        losses.say("Fewer than two classes have images, and class folders are read as a dataset only from two on.")
    apart = [name for name in names if name.lower() in _NO_CLASSES]
    losses.add(
        len(apart),
        "class has",
        "classes have",
        f"a name for which --format folders must be given to read it again ({', '.join(apart[:3])})",
    )
