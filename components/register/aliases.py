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
        reason = _obstacle(registry, version, champion, result)
        if reason is None and approve == MANUAL:
            reason = f"A person approves: visionloop model promote {version.label} makes it the champion."
        if reason is None:
            return _promote(registry, version, champion, evaluation)
    challenger = registry.by_alias(version.name, CHALLENGER)
    if challenger is None or challenger.number != version.number:
        registry.set_alias(version, CHALLENGER)
    return Placed(CHALLENGER, reason)


def _obstacle(registry: Registry, version: Version, champion: Version | None, result: EvaluationResult) -> str | None:
    """Why the alias does not move, or None."""
    for other in (version, *registry.of_training(version.name, version.identity)):
        if _is_taken_back(other) and (champion is None or champion.number != other.number):
            where = f"is {champion.label} now" if champion else "was taken away"
            which = "" if other.number == version.number else f"{version.label} is the same training as {other.label}. "
            return f"{which}{other.label} was the champion once and the alias {where}: a rollback is not undone; visionloop model promote {version.label} makes it the champion{'' if which else ' again'}."
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
        for other in _before(registry, version, result.champion):
            registry.tag(other, {SUPERSEDED_BY: str(version.number)})
        mark(registry, version, evaluation)
    if result.verdict != "keep":
        return Placed(CHAMPION)
    kept = "It was the champion already, and the verdict keep takes no alias away."
    by_person = unfinished or PROMOTED_BY in version.tags
    return Placed(CHAMPION, "A person made it the champion." if by_person else kept)


def _before(registry: Registry, version: Version, compared: str) -> list[Version]:
    """The versions from which a version took the alias, where that was not noted: one killed attempt moved it and ended."""
    if compared in (NO_CHAMPION, version.identity):
        # Another operating point of the same training.
        others = registry.of_training(version.name, version.identity)
        return [other for other in others if other.number != version.number and _is_taken_back(other)]
    left = [other for other in registry.of_training(version.name, compared) if SUPERSEDED_BY not in other.tags]
    return [other for other in left if PROMOTED in other.tags] or left


def _is_taken_back(version: Version) -> bool:
    """Whether a version that is not the champion was it once and lost the alias to no other version: a person took it."""
    return PROMOTED in version.tags and SUPERSEDED_BY not in version.tags


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
