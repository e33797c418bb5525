"""The confusion matrix as the page shows it: of many classes the worst alone, the others as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The number of classes up to which all are shown, and how many are where there are more.
MOST = 20
WORST = 10

#: The number of pairs of classes that are listed where classes are folded.
PAIRS = 10

BACKGROUND = "background"


def folded(matrix: Sequence[Sequence[int]], classes: Sequence[str], order: Sequence[str]) -> dict[str, Any] | None:
    """The matrix's rows, each cell with its share of its column, the true class.

    Args:
        matrix: Counts, rows predicted, columns true, the last of each the background where there is one more than classes.
        classes: Class names by index.
        order: The same names in the order in which they are shown; of many classes the first ``WORST``.

    Returns:
        ``names``, ``rows``, ``shown`` and ``others`` (how many classes have a row of their own, and how many are one row), and ``pairs`` (the most frequent confusions
        among all classes, where some are folded); None without a square matrix of these classes.
    """
    size = len(matrix)
    if size not in (len(classes), len(classes) + 1) or any(len(row) != size for row in matrix):
        return None
    index = {name: position for position, name in enumerate(classes)}
    shown = [name for name in order if name in index][: WORST if len(classes) > MOST else None]
    groups = [(name, [index[name]]) for name in shown]
    others = [position for name, position in index.items() if name not in set(shown)]
    if others:
        groups.append((f"{len(others)} others", others))
    if size > len(classes):
        groups.append((BACKGROUND, [size - 1]))
    counts = [[_sum(matrix, rows, columns) for _, columns in groups] for _, rows in groups]
    totals = [sum(column) or 1 for column in zip(*counts, strict=True)]
    return {
        "names": [name for name, _ in groups],
        "rows": [
            {
                "name": name,
                "cells": [
                    {
                        "count": count,
                        "share": round(count / totals[column], 3),
                        "right": column == row and column < len(shown),
                    }
                    for column, count in enumerate(counts[row])
                ],
            }
            for row, (name, _) in enumerate(groups)
        ],
        "shown": len(shown),
        "others": len(others),
        "pairs": _pairs(matrix, classes) if others else [],
    }


def _sum(matrix: Sequence[Sequence[int]], rows: Sequence[int], columns: Sequence[int]) -> int:
    return sum(matrix[row][column] for row in rows for column in columns)


def _pairs(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Mapping[str, Any]]:
    """The pairs of classes that are confused most often, with the share of the true class's objects."""
    totals = [sum(row[column] for row in matrix) or 1 for column in range(len(classes))]
    pairs = [
        (matrix[row][column], column, row)
        for row in range(len(classes))
        for column in range(len(classes))
        if row != column and matrix[row][column]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [
        {"true": classes[column], "predicted": classes[row], "count": count, "share": f"{count / totals[column]:.0%}"}
        for count, column, row in pairs[:PAIRS]
    ]
