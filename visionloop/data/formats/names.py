"""What an image's key may be called, whatever the format."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidDataset
from visionloop.data.sentences import shown

#: Longest key that S3 takes, in bytes of UTF-8.
LONGEST_FILE_NAME = 1024

#: Names that no image's key can be: what RE2 finds here is looked at again for the sentence.
_SUSPICIOUS = r"^$|^/|/$|//|(^|/)\.\.?(/|$)|\\|[\x00-\x1f\x7f\x{80}-\x{9f}]"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def hostile(name: str) -> str | None:
    """Why a file name can't be an image's key below ``images/``, or None."""
    parts = name.split("/")
    if not name:
        return "is empty"
    if _URL.match(name):
        return "is a URL, which is not followed"
    if name.startswith("/"):
        return "is an absolute path"
    if "\\" in name:
        return "holds a backslash"
    if _CONTROL.search(name):
        return "holds a control character"
    if ".." in parts or "." in parts:
        return "holds a relative folder ('.' or '..')"
    if "" in parts:
        return "holds an empty folder or ends with a slash"
    if len(name.encode()) > LONGEST_FILE_NAME:
        return f"is longer than {LONGEST_FILE_NAME} bytes"
    return None


def checked(key: str, where: str) -> str:
    """A key that an annotation file names. Raises InvalidDataset, with ``where`` it stands, for one that can't be an image's."""
    if reason := hostile(key):
        raise InvalidDataset(f"{where}: {shown(key)} {reason}; name the image by its path below the dataset's folder.")
    return key


def check_names(names: pa.ChunkedArray, file: str, first: int, remedy: str) -> None:
    """``checked`` for many names at once; ``first`` is the index of the first image in the file."""
    suspicious = pc.or_(
        pc.match_substring_regex(names, _SUSPICIOUS), pc.greater(pc.binary_length(names), LONGEST_FILE_NAME)
    )
    for index in pc.indices_nonzero(suspicious).to_pylist():
        name = names[index].as_py()
        if reason := hostile(name):
            raise InvalidDataset(f"{file}: images[{first + index}].file_name: {shown(name)} {reason}; {remedy}")


def repeated(values: pa.Array | pa.ChunkedArray) -> tuple[int, int] | None:
    """The first row whose value an earlier row has, behind that row; None where each value occurs once."""
    if pc.count_distinct(values).as_py() == len(values):
        return None
    first_row: dict[object, int] = {}
    pairs = ((first_row.setdefault(value, row), row) for row, value in enumerate(values.to_pylist()))
    return next((pair for pair in pairs if pair[0] != pair[1]), None)
