"""Reads class folders into the canonical annotations: an image's class is its folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats.folders.layout import Layout
from visionloop.data.formats.keys import Keys, counted
from visionloop.data.formats.rows import Rows, with_sizes
from visionloop.data.formats.source import Source
from visionloop.data.sentences import printable, shown

#: What stands for a file in sentences.
FILE = "the class folders"


def read_folders(source: Source) -> Annotations:
    """Reads a dataset; see ``visionloop.data.formats.folders.read``."""
    if source.task not in (None, "classification"):
        raise InvalidConfig(
            f"--task {source.task}: class folders are read for classification; choose --task classification."
        )
    if source.group is not None:
        raise InvalidConfig(
            f"{source.grouping}: images in class folders have no fields; leave it out, or give group=folder."
        )
    keys = Keys.of(source)
    layout = Layout.of(list(keys.images))
    names = layout.names
    if len(names) < 2:
        lie = f"only one, {shown(names[0])}, lies there" if names else "none lies there"
        raise InvalidDataset(
            printable(
                f"{source.prefix.uri}: at least two class folders with images are needed, and {lie}; correct the URI."
            )
        )
    rows = Rows()
    for position, entry in enumerate(layout.entries):
        image = rows.image(entry.key, entry.key, position, split=entry.split)
        rows.object(image, 0, entry.name, entry.key)
        source.alive()
    classes, images, objects, _ = rows.number(names)
    return Annotations(
        format="folders",
        task="classification",
        file=FILE,
        classes=classes,
        images=with_sizes(images, source, keys.images),
        objects=objects,
        object_field="images[{image}].class",
        notices=(*keys.notices(), *_passed_over(keys, layout), *_hints(layout)),
        metadata={"dataset_id": None, "dataset_name": None},
    )


def _passed_over(keys: Keys, layout: Layout) -> Iterator[str]:
    """The images in no class folder, and the files that are not images."""
    if layout.outside:
        number = counted(len(layout.outside), "image lies", "images lie")
        yield printable(f"{number} in no class folder ({shown(layout.outside[0])}): passed over.")
    others = [key for key in keys.all if key not in keys.images]
    if others:
        yield printable(
            f"{counted(len(others), 'file is', 'files are')} not an image ({shown(others[0])}): passed over."
        )


def _hints(layout: Layout) -> Iterator[str]:
    """Classes that a split lacks, and folders that are doubled."""
    doubled = sorted({entry.name for entry in layout.entries if entry.folders[:1] == (entry.name,)})
    if doubled:
        yield printable(
            f"{counted(len(doubled), 'class folder is', 'class folders are')} doubled ({doubled[0]}/{doubled[0]}/): their "
            "images are of that class."
        )
    deeper = sum(bool(entry.folders) and entry.folders[0] != entry.name for entry in layout.entries)
    if deeper:
        yield f"{counted(deeper, 'image lies', 'images lie')} deeper in a class folder: each is of the first folder's class."
    by_split: dict[str, set[str]] = defaultdict(set)
    for entry in layout.entries:
        by_split[entry.split or ""].add(entry.name)
    for split, present in sorted(by_split.items()):
        if lacking := sorted(set(layout.names) - present):
            yield printable(
                f"{split} lacks {counted(len(lacking), 'class', 'classes')} ({shown(lacking[0])}); numbers stay."
            )
