"""Timers and signals inside a stage: its time limit (79), silence (124), SIGTERM (143) and Ctrl-C (130).

They raise an error in the main thread, so that a stage runs its own ``finally`` blocks. An engine's deadline just kills the
process, so it is set ten minutes later. If the stage is stuck in a library's code that never returns, a thread ends the process
after a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from visionloop.core import logs
from visionloop.core.errors import Silent, Terminated, TimeLimit, UserStopped, VisionloopError
from visionloop.core.policy import SILENCE_SECONDS
from visionloop.core.processes import started

#: The process whose death ends the stage: the local runner's (an engine has none).
RUNNER_VARIABLE = "VISIONLOOP_RUNNER_PID"

TICK_SECONDS = 1.0
STUCK_SECONDS = 60.0
TELL_SECONDS = 10.0


class Limits:
    """A context manager around a stage's work. ``alive`` is called for each piece of finished work."""

    def __init__(self, stage: str, limit: float, used: float, silence: float = SILENCE_SECONDS) -> None:
        """``limit`` and ``used`` are seconds: the stage's own limit, and what earlier attempts of this run used of it."""
        self.stage, self.limit, self.used, self.silence = stage, limit, used, silence
        self.started = time.monotonic()
        self._last_sign = self.started
        self._due: tuple[float, VisionloopError] | None = None
        self._may_go_on = False
        self._finished = threading.Event()
        self._previous: dict[int, object] = {}
        self._timer = (0.0, 0.0)
        self._runner = _runner()
        self.on_tick: Callable[[], None] = lambda: None
        self.on_stuck: Callable[[VisionloopError], None] = lambda _: None

    @property
    def seconds(self) -> float:
        """Seconds used over all attempts."""
        return self.used + time.monotonic() - self.started

    @property
    def stopping(self) -> bool:
        """Whether a signal or a limit has asked the stage to end."""
        return self._due is not None

    @property
    def asked_to_end(self) -> bool:
        """Whether a signal from outside has asked the stage to end, rather than a limit of its own."""
        return self._due is not None and isinstance(self._due[1], Terminated | UserStopped)

    def allow(self, seconds: float) -> None:
        """Raises the stage's own limit to this many seconds; it is never lowered."""
        self.limit = max(self.limit, seconds)

    def give_time(self) -> None:
        """Gives a stage that was asked to end time to save its work: the time until it counts as stuck starts again."""
        if self._due is not None:
            self._due = (time.monotonic(), self._due[1])
            self._may_go_on = True

    def alive(self) -> None:
        """Reports a finished piece of work. Raises the error that the stage was asked to end with, if it is still working anyway."""
        self._last_sign = time.monotonic()
        in_main = threading.current_thread() is threading.main_thread()
        if self._due is not None and in_main and not self._may_go_on:
            # A library's own `except` swallowed it.
            raise self._due[1]

    def __enter__(self) -> Limits:
        """Starts the timers; does nothing outside the main thread, where Python delivers no signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                self._previous[number] = signal.signal(number, self._handle)
            self._timer = signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
        threading.Thread(target=self._end_if_stuck, name="limits", daemon=True).start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Stops the timers and restores the signal handlers.

        If the stage was asked to end, an exception that it ended with instead is replaced by the error it was asked to end with.
        """
        self._finished.set()
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
            for number, handler in self._previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._previous.clear()
        if self._due is not None and isinstance(error, Exception) and error is not self._due[1]:
            raise self._due[1] from error

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._due is not None:
            return
        error: VisionloopError | None
        if number == signal.SIGTERM:
            error = Terminated(f"{self.stage} was asked to end by SIGTERM; run it again to resume.")
        elif number == signal.SIGINT:
            error = UserStopped(f"{self.stage} was stopped by the user; run it again to resume.")
        else:
            error = self._check()
        if error is not None:
            self._due = (time.monotonic(), error)
            raise error

    def _check(self) -> VisionloopError | None:
        if self.seconds > self.limit:
            return TimeLimit(
                f"{self.stage} used up its time limit of {self.limit:g} s over all attempts; raise the policy's timeout."
            )
        if time.monotonic() - self._last_sign > self.silence:
            return Silent(f"{self.stage} finished no work for {self.silence:g} s; it is tried again.")
        if self._runner is not None and not _lives(self._runner):
            return Terminated(f"{self.stage} ends because the run that started it is gone; run it again to resume.")
        self.on_tick()
        return None

    def _end_if_stuck(self) -> None:
        while not self._finished.wait(TICK_SECONDS):
            overdue = (
                self.seconds - self.limit > STUCK_SECONDS
                or time.monotonic() - self._last_sign > self.silence + STUCK_SECONDS
            )
            raised = self._due is not None and time.monotonic() - self._due[0] > STUCK_SECONDS
            if raised or (overdue and self._due is None):
                error = self._due[1] if self._due else self._check() or Silent(f"{self.stage} is stuck.")
                # In a thread of its own: the report must not get stuck as well.
                teller = threading.Thread(target=self.on_stuck, args=(error,), name="stuck", daemon=True)
                teller.start()
                teller.join(TELL_SECONDS)
                # The reader of this process's output may be gone.
                with contextlib.suppress(OSError, ValueError):
                    logs.last_words(error.sentence)
                os._exit(error.exit_code)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Lets an ending stage report why: Ctrl-C reaches it twice, from the terminal and from the process that started it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _runner() -> tuple[int, float | None] | None:
    value = os.environ.get(RUNNER_VARIABLE, "")
    return (int(value), started(int(value))) if value.isascii() and value.isdigit() else None


def _lives(runner: tuple[int, float | None]) -> bool:
    return runner[1] is not None and started(runner[0]) == runner[1]
