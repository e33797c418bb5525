"""A class of a dataset, whatever format it came in."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from visionloop.data.sentences import shown

#: Longest name of a class, in characters.
LONGEST_CLASS_NAME = 1000

#: Control characters, and halves of characters, which no store takes.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

#: In place of the id of a class: a crowd region of no class of the dataset, which stands for whatever lies in it. No file may hold it.
IGNORED = -(2**31)


class Class(Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """One class. For pose: the names of its keypoints, the pairs that a skeleton joins, and those that a mirror swaps.

    ``skeleton`` counts keypoints from 1, as COCO does; ``flip_pairs`` counts them from 0.
    """

    id: Annotated[int, Meta(ge=0, lt=2**31)]
    name: str
    supercategory: str | None = None
    color: str | None = None
    keypoints: tuple[str, ...] | None = None
    skeleton: tuple[tuple[int, int], ...] | None = None
    flip_pairs: tuple[tuple[int, int], ...] | None = None


def wrong_class_name(name: str) -> str | None:
    """Why a class can't have a name, which it says too; None if it can."""
    if not name.strip() or _CONTROL.search(name):
        return f"{shown(name)} is empty or holds a control character"
    if len(name) > LONGEST_CLASS_NAME:
        return f"{shown(name[:80])} has {len(name):,} characters, more than {LONGEST_CLASS_NAME:,}"
    return None
