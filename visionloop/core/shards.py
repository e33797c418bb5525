"""Shards: a stage's work on a part of the images, as a result of its own, and how the whole finds them again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from visionloop.core import receipts
from visionloop.core.canonical import stage_key
from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.receipts import Parameter, Result
from visionloop.core.stage import Arguments, Context, Loaded, Resolution, Stage
from visionloop.core.storage import Prefix

#: The parameter that makes a result that of a shard, and the argument of the same name.
PARAMETER = "shard"

#: The parameter that makes a result that of one export of a list, which names the results of all.
EXPORT = "export"

#: What the two arguments of a stage with shards mean.
SHARDS = (
    "The number of shards whose results are put together, where they are all there; what is missing is computed here. "
    "Outside the key."
)
SHARD = (
    "The shard to compute alone, such as 2/8: the second part of eight of the images, by the hash of their file names."
)

#: The most shards that a run may have.
MOST = 100

_COUNT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_SHARD = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """A part of a stage's images: the ``number``-th, from 1, of ``count``."""

    number: int
    count: int

    @property
    def text(self) -> str:
        """``2/8``."""
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class Wanted:
    """What a stage is asked to do: a shard, or the whole, for which there may be ``count`` shards (0: none)."""

    shard: Shard | None = None
    count: int = 0


def parse_count(text: str | None) -> int:
    """The number of shards that ``--shards`` asks for; 0 where it is left out.

    Raises:
        InvalidConfig: If it is not a whole number from 1 to MOST.
    """
    if not text:
        return 0
    if not _COUNT.fullmatch(text) or int(text) > MOST:
        raise InvalidConfig(f"--shards {text!s:.80}: give a whole number from 1 to {MOST}.")
    return int(text)


def parse_shard(text: str) -> Shard:
    """The shard that ``--shard`` names.

    Raises:
        InvalidConfig: If it is not a number of a number of shards.
    """
    match = _SHARD.fullmatch(text)
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or not shard.number <= shard.count <= MOST:
        raise InvalidConfig(
            f"--shard {text!s:.80}: give a shard and how many there are, such as 2/8: from 1 to at most {MOST}."
        )
    return shard


def wanted(shards: str | None, shard: str | None) -> Wanted:
    """What the two arguments of a stage ask for.

    Raises:
        InvalidConfig: If one of them is wrong, or both are there.
    """
    if shards and shard:
        raise InvalidConfig("--shards and --shard are both given: give --shard for a part, --shards for the whole.")
    return Wanted(parse_shard(shard) if shard else None, parse_count(shards))


def listed(count: int) -> list[str]:
    """The shards of a run, as an engine's loop takes them: ``["1/2", "2/2"]``; none for 0."""
    return [Shard(number, count).text for number in range(1, count + 1)]


def named(values: Mapping[str, Any]) -> str:
    """The shard among a stage's arguments; empty where there is none, or one that the stage itself will refuse."""
    text = values.get(PARAMETER)
    return text if isinstance(text, str) and _SHARD.fullmatch(text) else ""


def is_shard(result: Result) -> bool:
    """Whether a result is that of a shard."""
    return PARAMETER in result.receipt.parameters


def is_part(result: Result) -> bool:
    """Whether a result is that of a shard, or of one export of a list: a part of what a person knows as the stage's."""
    return not {PARAMETER, EXPORT}.isdisjoint(result.receipt.parameters)


@runtime_checkable
class Sharded(Stage[Arguments, Loaded], Protocol[Arguments, Loaded]):
    """A stage that may be done in shards: its arguments have ``shards`` and ``shard``."""

    def of_shard(self, whole: Resolution[Loaded]) -> Mapping[str, Parameter]:
        """Of the whole's parameters those that decide a shard's result."""


def resolved(stage: Sharded, context: Context, whole: Resolution[Loaded], shard: Shard) -> Resolution[Loaded]:
    """A shard's resolution. Where the whole is there already, that is the result: nothing is left to do.

    Its notices are the whole's to tell.

    Args:
        stage: The stage.
        context: Where it runs.
        whole: The resolution of the whole, by which its result is looked for.
        shard: The shard.
    """
    existing = None
    if not context.force:
        key = stage_key(stage.name, stage.logic_version, _digests(whole), _values(whole.parameters))
        existing = receipts.look(context.workspace, stage.name, key)
    if existing is not None and existing.obstacle() is not None:
        existing = None
    return Resolution(
        inputs=whole.inputs,
        parameters={**stage.of_shard(whole), PARAMETER: Parameter(shard.text, "argument")},
        existing=existing,
        loaded=whole.loaded,
    )


def standing(stage: Sharded, workspace: Prefix, whole: Resolution, count: int) -> dict[str, Result | None]:
    """The result of each shard, by the key that the shard itself computes; None where there is none.

    Args:
        stage: The stage.
        workspace: The workspace that is open now.
        whole: The resolution of the whole.
        count: The number of shards.
    """
    existing: dict[str, Result | None] = {}
    for text in listed(count):
        parameters = {**_values(stage.of_shard(whole)), PARAMETER: text}
        key = stage_key(stage.name, stage.logic_version, _digests(whole), parameters)
        result = receipts.look(workspace, stage.name, key)
        existing[text] = result if result is not None and result.intact() else None
    return existing


def results(stage: Sharded, context: Context, whole: Resolution, count: int) -> list[Result] | None:
    """The results of all shards; None where the whole has to be computed.

    That is so without shards, where one is missing (with a notice), and where the stage is forced to compute again.

    Args:
        stage: The stage.
        context: Where it runs.
        whole: The resolution of the whole.
        count: The number of shards; 0 for none.
    """
    if not count or context.force:
        return None
    existing = standing(stage, context.workspace, whole, count)
    missing = [text for text, result in existing.items() if result is None]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        notice(f"{stage.name}: of its shards {missing[0]}{more} is not there; all images are worked on here.")
        return None
    return [result for result in existing.values() if result is not None]


def _digests(resolution: Resolution) -> dict[str, str]:
    return {name: reference.digest for name, reference in resolution.inputs.items()}


def _values(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    return {name: parameter.value for name, parameter in parameters.items()}
