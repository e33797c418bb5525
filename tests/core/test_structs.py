"""A type is decoded by any number of threads, the first time too."""

from __future__ import annotations

import subprocess
import sys

#: Forks whose eight threads decode a type at once, the first time in their lives; prints how many forks died.
SCRIPT = """
import os, sys, threading

import msgspec

from visionloop.core import structs


class Inner(msgspec.Struct, frozen=True):
    value: float | int | str | None
    more: dict[str, "list[Inner]"]


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    one: Inner
    many: dict[str, Inner]
    number: int = 0


DATA = b'{"one": {"value": 1, "more": {}}, "many": {"a": {"value": "x", "more": {"b": []}}}}'


def fork():
    process = os.fork()
    if process == 0:
        sys.setswitchinterval(1e-6)
        barrier = threading.Barrier(8)
        def read():
            barrier.wait()
            structs.decode(DATA, Outer)
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

print(sum(fork() != 0 for _ in range(60)))
"""


def test_many_threads_may_decode_a_type_for_the_first_time_together() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == "0"
