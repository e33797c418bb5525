"""Which images a split keeps together: those with one value of a field, in one folder, or whose names have a part in common."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.tables import Annotations
from visionloop.data.sentences import shown

#: The group of an image is the folder that its file name has.
FOLDER = "folder"

#: The group of an image is what a regular expression finds in its file name; the pattern follows.
REGEX = "regex:"

#: The most characters of a pattern.
LONGEST_PATTERN = 1000


def field_of(group: str | None) -> str | None:
    """The field that a format's reader must read for a group; None where the file name alone says it."""
    return None if group is None or group == FOLDER or group.startswith(REGEX) else group


def check_group(group: str, where: str) -> None:
    """Checks a group's pattern, if it has one.

    Raises:
        InvalidConfig: If it is not a regular expression of RE2 (https://github.com/google/re2/wiki/Syntax), which knows no
            pattern that takes forever, or is longer than LONGEST_PATTERN.
    """
    if not group.startswith(REGEX):
        return
    pattern = group.removeprefix(REGEX)
    if not pattern:
        raise InvalidConfig(f"{where}: {REGEX} needs a pattern behind it, such as regex:^(video_[0-9]+)/.")
    if len(pattern) > LONGEST_PATTERN:
        raise InvalidConfig(
            f"{where}: the pattern has {len(pattern):,} characters, more than {LONGEST_PATTERN:,}; write a shorter one."
        )
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ").partition(": ")[0]
        raise InvalidConfig(
            f"{where}: {shown(pattern)} is not a regular expression of RE2 ({reason}); correct the pattern."
        ) from None


def groups_of(read: Annotations, group: str | None, names: Sequence[str] | None = None) -> list[str | None]:
    """The group of each image, by row; None for one that belongs to none.

    Args:
        read: The annotations; their column ``group`` holds the values of the field that a rule names.
        group: A field, FOLDER, or REGEX with a pattern; None groups nothing.
        names: The names in which folders and patterns are looked for, by row; the file names if they are left out.

    Raises:
        InvalidConfig: If no image lies in a folder, or the pattern matches no file name.
    """
    if group is None:
        return [None] * len(read.images)
    if field_of(group) is not None:
        values: list[str | None] = read.images["group"].to_pylist()
        return values
    names = read.images["file_name"].to_pylist() if names is None else list(names)
    if group == FOLDER:
        values = [name.rpartition("/")[0] or None for name in names]
        problem = "no image lies in a folder"
    else:
        values = _matched(names, group.removeprefix(REGEX))
        problem = "the pattern matches no file name"
    if names and not any(values):
        raise InvalidConfig(f"{read.file}: group={group}: {problem} ({shown(names[0])}); group by something else.")
    return values


def _matched(names: list[str], pattern: str) -> list[str | None]:
    """The first group of the pattern's first match in each name, else the whole match; None where both are empty."""
    array = pa.array(names, pa.string())
    # No file name has control characters, so these marks find what was put between them.
    try:
        marked = pc.replace_substring_regex(array, pattern, "\x01\\1\x02\\0\x03", max_replacements=1)
    except pa.ArrowInvalid:  # the pattern has no group
        marked = pc.replace_substring_regex(array, pattern, "\x01\x02\\0\x03", max_replacements=1)
    values: list[str | None] = []
    for text in marked.to_pylist():
        first, _, whole = text.partition("\x01")[2].partition("\x03")[0].partition("\x02")
        values.append(first or whole or None)
    return values
