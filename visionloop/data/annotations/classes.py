"""A class of a dataset, whatever format it came in."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


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
