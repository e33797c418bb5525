"""Moves the aliases champion and challenger, and leaves alone what a person did with them."""

from __future__ import annotations

from dataclasses import dataclass

from visionloop.components.calls import AUTO, MANUAL
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.registry import CHALLENGER, CHAMPION, NO_CHAMPION, Registry, Version
from visionloop.registry.versions import (
    EVALUATION,
    PROMOTED,
    PROMOTED_AT,
    PROMOTED_BY,
    PROMOTED_REASON,
    SUPERSEDED_BY,
)


@dataclass(frozen=True)
class Placed:
    """The alias that a version got, and why it is not the one that the verdict asked for."""

    alias: str
    reason: str | None = None


def move(
    registry: Registry, version: Version, result: EvaluationResult, evaluation: str, approve: str = AUTO
) -> Placed:
    """Gives a version the alias of its verdict. The lock of the model's name must be held.

    The champion's alias moves only if the champion is still the one that was compared with, and never to a version that a
    person took it from.

    Args:
        registry: The registry.
        version: The version.
        result: Its evaluation, whose verdict is promote or keep.
        evaluation: The evaluate receipt's URI.
        approve: One of APPROVE.
    """
    version = registry.version(version.name, version.number) or version
    champion = registry.champion(version.name)
    if champion is not None and champion.number == version.number:
        return _already(registry, version, result, evaluation)
    reason = None
    if result.verdict == "promote":
        reason = _obstacle(version, champion, result)
        if reason is None and approve == MANUAL:
            reason = f"A person approves: visionloop model promote {version.label} makes it the champion."
        if reason is None:
            return _promote(registry, version, champion, evaluation)
    challenger = registry.by_alias(version.name, CHALLENGER)
    if challenger is None or challenger.number != version.number:
        registry.set_alias(version, CHALLENGER)
    return Placed(CHALLENGER, reason)


def _obstacle(version: Version, champion: Version | None, result: EvaluationResult) -> str | None:
    """Why the alias does not move, or None."""
    if PROMOTED in version.tags and SUPERSEDED_BY not in version.tags:
        where = f"is {champion.label} now" if champion else "was taken away"
        return f"{version.label} was the champion once and the alias {where}: a rollback is not undone; visionloop model promote {version.label} makes it the champion again."
    now = champion.identity if champion else NO_CHAMPION
    if now != result.champion:
        where = f"is {champion.label} now" if champion else "is gone"
        return f"The champion {where}, which is not the one that was compared; evaluate again to compare with it."
    return None


def _promote(registry: Registry, version: Version, champion: Version | None, evaluation: str) -> Placed:
    """Moves the alias: if the stage is killed after that, a rerun finds the alias moved and sets the rest."""
    # Of a version that a person made the champion once: now it is by its evaluation.
    forget_person(registry, version)
    registry.set_alias(version, CHAMPION)
    if champion is not None:
        registry.tag(champion, {SUPERSEDED_BY: str(version.number)})
    mark(registry, version, evaluation)
    return Placed(CHAMPION)


def _already(registry: Registry, version: Version, result: EvaluationResult, evaluation: str) -> Placed:
    """Completes a version that is the champion: an attempt was killed after moving the alias, or it was all along."""
    unfinished = PROMOTED not in version.tags or SUPERSEDED_BY in version.tags
    if unfinished and result.verdict == "promote":
        if result.champion not in (NO_CHAMPION, version.identity):
            for other in registry.of_training(version.name, result.champion):
                registry.tag(other, {SUPERSEDED_BY: str(version.number)})
        mark(registry, version, evaluation)
    if result.verdict != "keep":
        return Placed(CHAMPION)
    promoted = PROMOTED in version.tags and SUPERSEDED_BY not in version.tags
    kept = "It was the champion already, and the verdict keep takes no alias away."
    by_person = not promoted or PROMOTED_BY in version.tags
    return Placed(CHAMPION, "A person made it the champion." if by_person else kept)


def forget_person(registry: Registry, version: Version) -> None:
    """Removes what says that a person made the version the champion."""
    for tag in (PROMOTED_BY, PROMOTED_AT, PROMOTED_REASON):
        if tag in version.tags:
            registry.untag(version, tag)


def mark(registry: Registry, version: Version, evaluation: str) -> None:
    """Tags the champion as promoted, with its evaluation; it is not a challenger any more, and not superseded."""
    if SUPERSEDED_BY in version.tags:
        registry.untag(version, SUPERSEDED_BY)
    challenger = registry.by_alias(version.name, CHALLENGER)
    if challenger is not None and challenger.number == version.number:
        registry.remove_alias(version.name, CHALLENGER)
    registry.tag(version, {EVALUATION: evaluation, PROMOTED: evaluation})
