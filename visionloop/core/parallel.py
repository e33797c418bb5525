"""Work on many items in several threads at once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def ahead_map(
    work: Callable[[Item], Made], items: Iterable[Item], threads: int, size: Callable[[Made], int], most: int
) -> Iterator[Made]:
    """As ``parallel_map``, for items without end: only a few are worked on before their turn.

    Args:
        work: What is done with an item.
        items: The items; each is taken when its work begins.
        threads: How many are worked on at once, and how many results wait at most.
        size: The bytes of a result.
        most: The bytes of waiting results above which no further item is begun.
    """
    waiting: deque[Future[Made]] = deque()
    left = iter(items)

    def has_room() -> bool:
        done = sum(size(future.result()) for future in waiting if future.done() and future.exception() is None)
        return len(waiting) < 2 * threads and done < most

    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while not waiting or has_room():
                    for item in itertools.islice(left, 1):
                        waiting.append(pool.submit(work, item))
                        break
                    else:
                        break
                if not waiting:
                    return
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
