"""What of starting weights a training goes on from: classes are found again by their names, not by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visionloop.core.logs import notice
from visionloop.data.sentences import printable

#: How many names a notice lists.
NAMED = 5


def tell(weights: str, names: Mapping[int, str], classes: Sequence[str]) -> None:
    """Says which classes go on from the starting weights, which are new and which are dropped.

    Args:
        weights: The weights as they were asked for.
        names: Their class names by index; empty where they have none.
        classes: The dataset's class names by index.
    """
    if not names:
        return
    row_of = rows(names, classes)
    new = [name for name, row in zip(classes, row_of, strict=True) if row is None]
    dropped = [name for index, name in sorted(names.items()) if index not in row_of]
    if new or dropped:
        notice(
            f"train: of the classes of the starting weights {weights} {len(classes) - len(new)} go on by their names; "
            f"{_listed(new)} new, {_listed(dropped)} dropped."
        )


def rows(names: Mapping[int, str], classes: Sequence[str]) -> list[int | None]:
    """The index in the starting weights of each class: by its exact name, else without case and white space at its ends."""
    exact = {name: index for index, name in sorted(names.items(), reverse=True)}
    loose = {_plain(name): index for index, name in sorted(names.items(), reverse=True)}
    return [exact.get(name, loose.get(_plain(name))) for name in classes]


def _plain(name: str) -> str:
    return name.strip().lower()


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none is"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(printable, names[:NAMED]))}{more} {'is' if len(names) == 1 else 'are'}"
