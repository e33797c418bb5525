"""What a check is, and how one ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from visionloop.core.errors import VisionloopError

Subject = TypeVar("Subject")

State = Literal["passed", "failed", "not checked"]

#: How a check can end.
STATES: tuple[State, ...] = ("passed", "failed", "not checked")


class Broken(AssertionError):
    """A check fails; the sentence says what is wrong, and what to do."""


class NotChecked(Exception):
    """A check can't say anything here; the sentence says why."""


@dataclass(frozen=True)
class Outcome:
    """How a check ended, in a sentence.

    Attributes:
        task: The task that it was made for; None for what all tasks share.
        check: Its name.
        state: ``passed``, ``failed`` or ``not checked``.
        sentence: What holds, what is wrong, or why nothing can be said.
    """

    task: str | None
    check: str
    state: State
    sentence: str


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One promise of a trainer, and the function that checks it.

    Attributes:
        name: A word or two.
        promise: The sentence that holds where it passes.
        function: Raises `Broken` or `NotChecked`; may return a sentence that says more than the promise.
    """

    name: str
    promise: str
    function: Callable[[Subject], str | None]

    def __call__(self, subject: Subject) -> str:
        """Checks, and returns the sentence. Raises what the function raises, and what the trainer raised."""
        return self.function(subject) or self.promise

    def outcome(self, subject: Subject, task: str | None) -> Outcome:
        """Checks; whatever the trainer raises is a failure."""
        try:
            return Outcome(task, self.name, "passed", self(subject))
        except NotChecked as error:
            return Outcome(task, self.name, "not checked", str(error))
        except Broken as error:
            return Outcome(task, self.name, "failed", str(error))
        except VisionloopError as error:
            return Outcome(task, self.name, "failed", f"{type(error).__name__}: {error.sentence}")
        except Exception as error:  # noqa: BLE001 - the trainer is a stranger's
            return Outcome(task, self.name, "failed", f"It raised {type(error).__name__}: {error}")


class Checks(list[Check[Subject]]):
    """Checks in their order; `add` makes one of a function, by the first line of its docstring."""

    def add(self, function: Callable[[Subject], str | None]) -> Callable[[Subject], str | None]:
        """Adds a function under its name."""
        promise = (function.__doc__ or "").strip().splitlines()[0]
        self.append(Check(function.__name__.replace("_", " "), promise, function))
        return function


def require(holds: object, sentence: str) -> None:
    """Raises `Broken` with a sentence where something does not hold."""
    if not holds:
        raise Broken(sentence)


@contextlib.contextmanager
def refused(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Raises `Broken` unless its body raises one of the errors."""
    names = " or ".join(error.__name__ for error in errors)
    try:
        yield
    except errors:
        return
    except Exception as error:
        raise Broken(f"{what} ends with {type(error).__name__}: {error}; raise {names}.") from error
    raise Broken(f"{what} is taken; raise {names}.")
