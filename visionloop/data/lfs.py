"""Git LFS: what stands in place of a file that was not fetched (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""

from __future__ import annotations

from visionloop.core.errors import InvalidDataset
from visionloop.data.sentences import printable

#: What it is, and what to do.
POINTER = "a Git LFS pointer in place of the file"
REMEDY = "run git lfs pull where the dataset was cloned, and upload it again where it lies in a store"

#: What every version of it begins with.
_START = b"version https://git-lfs.github.com/spec/"


def is_pointer(start: bytes) -> bool:
    """Whether a file's first bytes are those of a pointer."""
    return start.startswith(_START)


def refuse_pointer(start: bytes, key: str) -> None:
    """Raises InvalidDataset if the first bytes of a dataset's file are those of a pointer; ``key`` names it."""
    if is_pointer(start):
        raise InvalidDataset(printable(f"{key}: {POINTER}; {REMEDY}."))
