"""Says what lies where a dataset should: a file, an archive, images alone, or the folder above or below a dataset."""

from __future__ import annotations

import itertools
from pathlib import Path, PurePosixPath

from visionloop.core.errors import DatasetNotFound, NotFound, VisionloopError
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path, split_uri
from visionloop.data import formats
from visionloop.data.dice.tasks import LEGACY_FILE, TASKS, annotation_file
from visionloop.data.formats.folders.layout import Layout
from visionloop.data.formats.listing import IMAGES, LOOKED_INTO, ends_of, not_whole
from visionloop.data.formats.outline import outline
from visionloop.data.lfs import refuse_pointer

#: How many keys are listed to tell what lies there.
MOST_KEYS = 10_000

_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})

_ANNOTATION_FILES = frozenset({*map(annotation_file, TASKS), LEGACY_FILE})

_REMEDY = "export it from the labelling tool"


def no_dataset(prefix: Prefix, option: str) -> DatasetNotFound:
    """The error for a URI where no format fits: what lies there instead, and what to do; ``option`` names a format.

    Raises:
        InvalidDataset: If what lies there are Git LFS pointers.
    """
    return DatasetNotFound(f"{prefix.uri}: {_empty(prefix) or _no_format(prefix, option)}.")


def _empty(prefix: Prefix) -> str | None:
    """Why nothing lies at a URI; None if something does."""
    if any(True for _ in prefix.objects()):
        return None
    folder = local_path(prefix.uri)
    if folder is not None:
        if folder.is_dir():
            return f"the folder is empty; correct the URI, or {_REMEDY}"
        if not folder.exists():
            return "there is no such folder; correct the URI"
        if not folder.is_file():
            return "it is neither a folder nor a file; correct the URI"
    parent, name = split_uri(prefix.uri)
    try:
        start, end = ends_of(open_prefix(parent, prefix.role), name)
    except (NotFound, VisionloopError):
        return "no dataset lies there; correct the URI, or export it from the labelling tool"
    return _file(parent, name, start, end)


def _file(parent: str, name: str, start: bytes, end: bytes) -> str:
    """What a file is that is named in place of a folder."""
    if name in _ANNOTATION_FILES:
        return f"it is the dataset's file, not its folder; give {parent}"
    if PurePosixPath(name).suffix.lower() in _ARCHIVES:
        return "it is an archive, not a folder; unpack it and give the folder"
    if format_name := formats.named_file(outline(start, end)):
        title = formats.FORMATS[format_name].title
        return f"it is a file of {title}, not its folder; give {parent}"
    return "it is a file, not a folder; give the folder that holds the dataset"


def _no_format(prefix: Prefix, option: str) -> str:
    """What the objects at a URI are."""
    folder = local_path(prefix.uri)
    special = [name for name in sorted(_ANNOTATION_FILES) if folder is not None and Path(folder, name).exists()]
    if special:
        return f"{special[0]} is not a file but a pipe, a socket, a device or a folder; put the file there"
    keys = [info.key for info in itertools.islice(prefix.objects(), MOST_KEYS)]
    inner = sorted(key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] in _ANNOTATION_FILES)
    if inner:
        others = len(set(inner)) - 1
        more = f" ({others} more of them have a dataset)" if others else ""
        return f"the dataset lies in a folder below; give {prefix.uri}/{inner[0]}{more}"
    if outer := _outer(prefix):
        return f"these are a dataset's images; give the folder above, {outer}"
    listing = formats.Listing(keys, lambda key: _ends_if_read(prefix, key))
    for key, seen in listing.outlines.items():
        if seen.keys >= {"format_version", "images"}:
            return (
                f"{key} is a DICE file under another name; call it {annotation_file('TASK')}, "
                f"with one of {', '.join(TASKS)} as TASK, beside the folder images"
            )
    if broken := _broken(prefix, listing):
        return broken
    if all(PurePosixPath(key).suffix.lower() in IMAGES for key in keys):
        images = f"images lie there ({min(keys)}) without annotations; label them, and give the folder of both"
        # A tree of folders is taken for classes only where nothing else lies in it.
        return f"{images}, or name class folders with {option} folders" if len(Layout.of(keys).names) > 1 else images
    return (
        f"what lies there ({min(keys)}) is a dataset of no format that is read ({', '.join(formats.formats())}); "
        f"correct the URI, or name the format with {option}"
    )


def _broken(prefix: Prefix, listing: formats.Listing) -> str | None:
    """The first annotation file that is not whole, so that nothing tells its format; None without one.

    Raises:
        InvalidDataset: If a file is a Git LFS pointer.
    """
    for key in itertools.chain.from_iterable(listing.files(*extensions) for extensions in LOOKED_INTO):
        refuse_pointer(listing.ends(key)[0], key)
    for key in (*listing.files(".json"), *listing.files(".xml")):
        try:
            reason = not_whole(*ends_of(prefix, key))
        except (NotFound, VisionloopError):
            continue
        if reason:
            return f"{key}: {reason}; export it again"
    return None


def _outer(prefix: Prefix) -> str | None:
    """The folder above, if this is the folder of a dataset's images."""
    parent, name = split_uri(prefix.uri)
    try:
        if name != "images":
            return None
        _, objects = open_prefix(parent, prefix.role).children()
    except (NotFound, VisionloopError):
        return None
    return parent if any(info.key in _ANNOTATION_FILES for info in objects) else None


def _ends_if_read(prefix: Prefix, key: str) -> tuple[bytes, bytes]:
    """As ``_ends``; empty for a file that can't be read."""
    try:
        return ends_of(prefix, key)
    except (NotFound, VisionloopError):
        return b"", b""
