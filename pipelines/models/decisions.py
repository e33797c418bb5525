"""What a person decides about a model: a version becomes the champion, or the one before it does again.

A decision stands as a tag of the registered model while it is carried out: one that was cut off is finished by the same command,
and by any other one it is finished if the alias has moved, else dropped. The alias moves only after the tags that say who moved it.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass

import msgspec

from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.components.register.aliases import forget_person, mark
from visionloop.core import receipts, runs, structs, texts
from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.runs import Decision
from visionloop.core.storage import Prefix
from visionloop.pipelines.models.workspace import held, run_of, workspace_of
from visionloop.registry import CHAMPION, Registry, Version, resolve
from visionloop.registry.versions import (
    DECISION,
    EVALUATION,
    PROMOTED,
    PROMOTED_AT,
    PROMOTED_BY,
    PROMOTED_REASON,
    SUPERSEDED_BY,
)

PROMOTE, ROLLBACK = "promote", "rollback"

#: The longest name of a person and the longest reason, in characters.
LONGEST_NAME, LONGEST_REASON = 200, 1000


@dataclass(frozen=True)
class Decided:
    """How a command ended.

    Attributes:
        model: The registered name.
        version: The champion from now on.
        previous: The champion before, if there was one.
        changed: Whether this command moved the alias, or finished what an earlier one began.
        by: Who decided it; None where nothing was to be done.
        at: When.
        reason: Why.
    """

    model: str
    version: int
    previous: int | None
    changed: bool
    by: str | None = None
    at: str | None = None
    reason: str | None = None


def promote(registry: Registry, wanted: str, by: str, reason: str) -> Decided:
    """Makes a version the champion, whatever the gate said but for a rejection.

    Args:
        registry: The registry.
        wanted: ``NAME/VERSION`` or ``NAME@ALIAS``.
        by: Who decides.
        reason: Why; may be empty.

    Raises:
        InvalidConfig: If there is no such version, Visionloop did not register it, its workspace can't be written, its files are
            gone with a workspace, the gate rejected it, or an alias that named it has moved.
        InvalidReceipt: If its evaluation or its files can't be read.
    """
    by, reason = checked(by, reason)
    version = resolve.named(wanted, registry)
    with held(workspace_of(version), version.name, "model promote") as results:
        if resolve.named(wanted, registry).number != version.number:
            raise InvalidConfig(f"{wanted}: the alias moved while the command waited; name the version.")
        _check(registry, version, results)
        if finished := _settle(registry, version.name, PROMOTE, version.number):
            return _told(finished)
        champion = registry.champion(version.name)
        if champion is not None and champion.number == version.number:
            return Decided(version.name, version.number, version.number, changed=False)
        return _told(_decide(registry, PROMOTE, version, champion, by, reason))


def rollback(registry: Registry, wanted: str, to: int | None, by: str, reason: str) -> Decided:
    """Makes a version the champion again that was it before.

    Args:
        registry: The registry.
        wanted: The model's name.
        to: The version; None for the one from which the champion took the alias.
        by: Who decides.
        reason: Why; may be empty.

    Raises:
        InvalidConfig: As ``promote`` does; also if the version never was the champion, or it is not known from which version
            the champion took the alias.
        InvalidReceipt: As ``promote`` does.
    """
    by, reason = checked(by, reason)
    name = resolve.registered_name(wanted, registry)
    target = _target(registry, name, to)
    with held(workspace_of(target), name, "model rollback") as results:
        if _target(registry, name, to).number != target.number:
            raise InvalidConfig(f"{name}: the champion moved while the command waited; run it again.")
        if finished := _settle(registry, name, ROLLBACK, target.number):
            return _told(finished)
        champion = registry.champion(name)
        if champion is not None and champion.number == target.number:
            return Decided(name, target.number, target.number, changed=False)
        target = resolve.named(target.label, registry)
        if PROMOTED not in target.tags:
            raise InvalidConfig(
                f"{target.label} never was the champion, so there is nothing to go back to; visionloop model promote {target.label} makes it one."
            )
        _check(registry, target, results)
        return _told(_decide(registry, ROLLBACK, target, champion, by, reason))


def checked(by: str, reason: str) -> tuple[str, str]:
    """Name and reason as they are recorded.

    Raises:
        InvalidConfig: If one is too long, or nothing is left of the name.
    """
    by, reason = texts.sentence(by), texts.sentence(reason)
    if not by or len(by) > LONGEST_NAME:
        raise InvalidConfig(f"--by: give a name of 1 to {LONGEST_NAME} characters.")
    if len(reason) > LONGEST_REASON:
        raise InvalidConfig(f"--reason has {len(reason):,} characters; give at most {LONGEST_REASON:,}.")
    return by, reason


def pending(registry: Registry, name: str) -> Decision | None:
    """The decision about a model that was cut off, or is being carried out; None where its tag can't be read."""
    with contextlib.suppress(msgspec.MsgspecError):
        return structs.decode(registry.model_tag(name, DECISION) or "", Decision)
    return None


def superseded(registry: Registry, champion: Version) -> list[Version]:
    """The versions from which the champion took the alias."""
    own = registry.of_name(champion.name)
    return [version for version in own if version.tags.get(SUPERSEDED_BY) == str(champion.number)]


def _target(registry: Registry, name: str, to: int | None) -> Version:
    """The version that a rollback goes back to."""
    if to is not None:
        return resolve.named(f"{name}/{to}", registry)
    if (cut_off := pending(registry, name)) and cut_off.decision == ROLLBACK:
        version = registry.version(name, cut_off.version)
        if version is not None and CHAMPION in version.aliases:
            return version
    champion = registry.champion(name)
    if champion is None:
        raise InvalidConfig(f"{name} has no champion; name the version to go back to with --to.")
    before = superseded(registry, champion)
    if len(before) == 1:
        return before[0]
    which = " and ".join(version.label for version in before)
    raise InvalidConfig(
        f"{champion.label} took the alias from {which or 'no version that is known'}; name the version to go back to with --to."
    )


def _check(registry: Registry, version: Version, results: Prefix) -> None:
    """Refuses a version that the gate rejected, and one whose files are gone."""
    verdict = evaluation_of(version, results)
    if verdict.training != version.training_digest:
        raise InvalidConfig(f"{version.label}: {version.tags[EVALUATION]} is not its evaluation; register it again.")
    if verdict.verdict not in ("promote", "keep"):
        raise InvalidConfig(
            f"{version.label}: the gate rejected it ({verdict.reason.rstrip('.')}), and so it can't be the champion; train a better model."
        )
    resolve.describe(version, registry)


def evaluation_of(version: Version, results: Prefix) -> EvaluationResult:
    """The evaluation by which a version was registered. Raises InvalidReceipt."""
    found = receipts.nearest(version.tags.get(EVALUATION, ""), "evaluate", results, outputs=False)
    return read_evaluation(found)


def _settle(registry: Registry, name: str, kind: str, version: int) -> Decision | None:
    """Ends a decision that was cut off. Returns it if this command is the same one, which then is done.

    It is finished if the alias has moved, or if it is asked for again; else it is dropped.
    """
    cut_off = pending(registry, name)
    if cut_off is None:
        return None
    champion = registry.champion(name)
    now = champion.number if champion else None
    same = (cut_off.decision, cut_off.version) == (kind, version)
    target = registry.version(name, cut_off.version)
    if target is not None and (now == cut_off.version or (same and now == cut_off.champion)):
        _carry_out(registry, cut_off, target)
        return cut_off if same else None
    _drop(registry, cut_off, target, champion)
    return None


def _decide(
    registry: Registry, kind: str, version: Version, champion: Version | None, by: str, reason: str
) -> Decision:
    decision = Decision(
        id=uuid.uuid4().hex[:12],
        decision=kind,
        model=version.name,
        version=version.number,
        champion=champion.number if champion else None,
        by=by,
        at=runs.now(),
        reason=reason,
    )
    registry.tag_model(version.name, DECISION, msgspec.json.encode(decision).decode())
    _carry_out(registry, decision, version)
    return decision


def _carry_out(registry: Registry, decision: Decision, version: Version) -> None:
    """Does everything that a decision is made of; whatever of it was done before is done again."""
    registry.tag(version, {PROMOTED_BY: decision.by, PROMOTED_AT: decision.at})
    if decision.reason:
        registry.tag(version, {PROMOTED_REASON: decision.reason})
    elif PROMOTED_REASON in version.tags:
        registry.untag(version, PROMOTED_REASON)
    left = registry.version(version.name, decision.champion) if decision.champion else None
    if left is not None and decision.decision == PROMOTE:
        registry.tag(left, {SUPERSEDED_BY: str(version.number)})
    elif left is not None:
        _leave(registry, left)
    registry.set_alias(version, CHAMPION)
    mark(registry, version, version.tags[EVALUATION])
    if (record := run_of(version)) is None:
        notice(
            f"{version.label}: the record of the run that registered it is gone; the decision stands in its tags alone."
        )
    else:
        record.write_decision(decision)
    registry.untag_model(version.name, DECISION)


def _leave(registry: Registry, version: Version) -> None:
    """Tags the version that a rollback leaves, so that register never brings it back."""
    if PROMOTED not in version.tags:
        registry.tag(version, {PROMOTED: version.tags.get(EVALUATION, version.label)})
    if SUPERSEDED_BY in version.tags:
        registry.untag(version, SUPERSEDED_BY)


def _drop(registry: Registry, decision: Decision, version: Version | None, champion: Version | None) -> None:
    """Takes back what a decision whose alias did not move has tagged."""
    if champion is not None and champion.tags.get(SUPERSEDED_BY) == str(decision.version):
        registry.untag(champion, SUPERSEDED_BY)
    # The alias of one that was superseded had moved.
    if version is not None and version.tags.get(PROMOTED_AT) == decision.at and SUPERSEDED_BY not in version.tags:
        forget_person(registry, version)
    registry.untag_model(decision.model, DECISION)


def _told(decision: Decision) -> Decided:
    return Decided(
        decision.model,
        decision.version,
        decision.champion,
        changed=True,
        by=decision.by,
        at=decision.at,
        reason=decision.reason or None,
    )
