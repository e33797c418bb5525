"""What was made from a snapshot: the runs that took it, the results of later stages, the registered versions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from visionloop.core import receipts, shards
from visionloop.core.receipts import Result
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix

#: The stages whose results are made from a snapshot, in the order of the pipeline.
STAGES = ("validate", "convert", "train", "evaluate")


@dataclass(frozen=True)
class RegisteredAs:
    """A version that register's receipt names: the registered model's name, its number, and the digest of its training."""

    name: str
    number: int
    key: str

    @property
    def label(self) -> str:
        """``NAME/VERSION``."""
        return f"{self.name}/{self.number}"


class Uses:
    """A workspace's receipts and runs by the snapshot that they name, each read once. What can't be read names none."""

    def __init__(self, workspace: Prefix) -> None:
        """Nothing is read yet."""
        self._workspace = workspace

    def runs(self, keys: Collection[str]) -> list[str]:
        """The names of the runs whose snapshot has one of these keys."""
        return [run for run, key in self._runs if key in keys]

    def results(self, digest: str) -> dict[str, list[Result]]:
        """The results of each later stage whose snapshot has a result digest, with register's; stages without any are left out."""
        made = {stage: [result for result in self._of(stage) if _snapshot_of(result) == digest] for stage in STAGES}
        made["register"] = [result for result, evaluated in self._registered if _snapshot_of(evaluated) == digest]
        return {stage: results for stage, results in made.items() if results}

    def versions(self, digest: str) -> list[RegisteredAs]:
        """The versions that were registered from it, by name and number."""
        registered = {
            RegisteredAs(str(scalars["model_name"]), int(scalars["version"]), result.receipt.key)
            for result, evaluated in self._registered
            if _snapshot_of(evaluated) == digest and (scalars := result.receipt.scalars).get("version") is not None
        }
        # A version that was registered again, after its receipt did not count any more, has two.
        named = {(version.name, version.number): version for version in registered}
        return [named[label] for label in sorted(named)]

    @cached_property
    def _runs(self) -> list[tuple[str, str | None]]:
        names = sorted(self._workspace.children("runs")[0])
        keys = self._workspace.map(lambda run: RunRecord(self._workspace, run).state("snapshot").key, names)
        return list(zip(names, keys, strict=True))

    @cached_property
    def _registered(self) -> list[tuple[Result, Result]]:
        """register's receipts, each with the evaluation that it names."""
        evaluated = {result.receipt.key: result for result in self._of("evaluate")}
        pairs = []
        for result in self._of("register"):
            reference = result.receipt.inputs.get("evaluation")
            match = receipts.KEY_IN_URI.search(reference.receipt or "") if reference else None
            if match and match[1] in evaluated:
                pairs.append((result, evaluated[match[1]]))
        return pairs

    def _of(self, stage: str) -> list[Result]:
        if stage not in self._read:
            self._read[stage] = list(self._receipts(stage))
        return self._read[stage]

    @cached_property
    def _read(self) -> dict[str, list[Result]]:
        return {}

    def _receipts(self, stage: str) -> Iterator[Result]:
        keys = self._workspace.children(stage)[0]
        looked = self._workspace.map(lambda key: receipts.look(self._workspace, stage, key), keys)
        # Of a shard only the whole is a result that a person knows.
        return (result for result in looked if result is not None and not shards.is_part(result))


def _snapshot_of(result: Result) -> str | None:
    """The digest of the snapshot that a result was made from."""
    reference = result.receipt.inputs.get("snapshot")
    return reference.digest if reference else None
