"""Work on many items in several threads at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def parallel_map(work: Callable[[Item], Made], items: Iterable[Item], threads: int | None) -> Iterator[Made]:
    """Runs ``work`` on each item; results in the items' order.

    At the first error, or when the caller stops taking results, items that have not begun are dropped.

    Args:
        work: What is done with an item.
        items: The items.
        threads: How many are worked on at once; None takes a few more than there are CPUs.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
