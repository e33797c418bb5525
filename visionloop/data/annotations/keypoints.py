"""Keypoints whose names differ by left and right alone: those that a mirrored image exchanges."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Left and right as words of a name: ``left_eye``, ``LeftEye``, ``eye-L``.
_SIDE = re.compile(
    r"(?<![A-Za-z])(left|right|l|r)(?![a-z])|(?<=[a-z])(Left|Right|L|R)(?![a-z])|^(left|right)", re.IGNORECASE
)


def mirrored(names: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """The pairs of keypoints that a mirror exchanges, counted from 0; None where no two names are such a pair."""
    sides: dict[str, dict[str, int]] = {}
    for index, name in enumerate(names):
        if match := _SIDE.search(name):
            rest = f"{name[: match.start()]}*{name[match.end() :]}".lower()
            sides.setdefault(rest, {}).setdefault(match[0][0].lower(), index)
    pairs = tuple((side["l"], side["r"]) for side in sides.values() if len(side) == 2)
    return pairs or None
