"""Work in several threads: results in order, and no more of them in memory than a few."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future

import pytest

from visionloop.core import parallel
from visionloop.core.parallel import ahead_map


def numbers(taken: list[int], count: int = 100) -> Iterator[int]:
    for number in range(count):
        taken.append(number)
        yield number


def test_results_come_in_order_and_few_items_are_taken_before_their_turn() -> None:
    taken: list[int] = []
    results = ahead_map(lambda number: number * number, numbers(taken), 2, lambda _: 1, 100)
    for turn, result in enumerate(results):
        assert result == turn * turn
        assert len(taken) <= turn + 1 + 4
    assert taken == list(range(100))


class _AtOnce:
    """A pool whose work is done when it is handed over."""

    def __init__(self, threads: int) -> None:
        pass

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def shutdown(self, **_: bool) -> None:
        pass

    def submit(self, work: Callable[[int], int], item: int) -> Future[int]:
        done: Future[int] = Future()
        done.set_result(work(item))
        return done


def test_no_further_item_is_begun_while_large_results_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", _AtOnce)
    for size, waiting in ((10, 1), (5, 2), (1, 4)):
        taken: list[int] = []

        def size_of(_: int, size: int = size) -> int:
            return size

        results = ahead_map(lambda number: number, numbers(taken), 2, size_of, 10)
        assert next(results) == 0
        assert len(taken) == waiting
        assert isinstance(results, Generator)
        results.close()


def test_an_error_comes_in_its_turn_and_ends_the_rest() -> None:
    taken: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = ahead_map(work, numbers(taken), 2, lambda _: 1, 100)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(taken) < 10


def test_nothing_gives_nothing() -> None:
    assert list(ahead_map(str, [], 2, len, 1)) == []
