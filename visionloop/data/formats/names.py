"""Names that can be an image's key."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidDataset
from visionloop.data.dice import format as dice

#: Names that no image's key can be: what RE2 finds here is looked at again for the sentence.
_SUSPICIOUS = r"^$|^/|/$|//|(^|/)\.\.?(/|$)|\\|[\x00-\x1f\x7f\x{80}-\x{9f}]"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def check_names(names: pa.ChunkedArray, file: str, first: int, remedy: str) -> None:
    """Raises InvalidDataset for a name that can't be a key; ``first`` is the index of the first image in the file."""
    hostile = pc.or_(
        pc.match_substring_regex(names, _SUSPICIOUS), pc.greater(pc.binary_length(names), dice.LONGEST_FILE_NAME)
    )
    for index in pc.indices_nonzero(hostile).to_pylist():
        name = names[index].as_py()
        reason = "is a URL, which is not followed" if _URL.match(name) else dice.hostile(name)
        if reason:
            raise InvalidDataset(f"{file}: images[{first + index}].file_name: {dice.shown(name)} {reason}; {remedy}")
