"""A process whose work is under short limits: ``python limited.py CASE``; ends as a stage does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

from visionloop.core import limits
from visionloop.core.errors import VisionloopError
from visionloop.core.limits import Limits, undisturbed

limits.TICK_SECONDS = 0.05
limits.STUCK_SECONDS = 0.3
limits.TELL_SECONDS = 0.3


def never_returns() -> None:
    """Foreign code that no signal interrupts: a mutex locked twice."""
    library = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def work(case: str, limited: Limits) -> None:
    first = True
    while True:
        if first:
            print("ready", flush=True)
            first = False
        if case != "silent":
            limited.alive()
        if case.startswith("stuck"):
            if case == "stuck-telling":
                limited.on_stuck = lambda _: time.sleep(60)
            else:
                limited.on_stuck = lambda error: print("told", error.exit_code, flush=True)
            never_returns()
        time.sleep(0.01)


def main(case: str) -> int:
    limit, used, silence = 60.0, 0.0, 60.0
    if case == "limit":
        limit = 0.2
    if case in ("used", "stuck-limit"):
        limit, used = 100.0, 99.8
    if case in ("silent", "stuck-silent", "stuck-telling"):
        silence = 0.2
    try:
        with Limits("toy", limit, used, silence) as limited:
            try:
                if case == "swallowed":
                    swallow(limited)
                work(case, limited)
            finally:
                print("cleaned up", limited.asked_to_end, flush=True)
    except VisionloopError as error:
        with undisturbed():
            if case == "twice":
                print("telling", flush=True)
                sys.stdin.readline()
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def swallow(limited: Limits) -> None:
    """Catches the error that should end it, and works on."""
    try:
        work("swallowed", limited)
    except VisionloopError:
        print("swallowed", flush=True)
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "thread":
        # Without signals a thread's limit is still watched.
        threading.Thread(target=lambda: os._exit(main("stuck-limit"))).start()
        signal.pause()
    sys.exit(main(sys.argv[1]))
