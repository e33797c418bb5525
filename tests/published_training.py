"""A toy's training on this machine, in this process, told to receivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import laptop as machine
import pytest
from event_receiver import SECRET, Receiver
from laptop import TOY, Dataset

from visionloop.core import catalog
from visionloop.core.receipts import Receipt, look
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Outcome
from visionloop.core.storage import Prefix
from visionloop.training.events import outbox


def epochs(*numbers: int) -> list[str]:
    """The ids of what a run called night tells of epochs."""
    kinds = ("metrics.{}.train", "metrics.{}.val", "checkpoint.{}.0", "progress.{}.val")
    return [f"night.train.{kind.format(number)}" for number in numbers for kind in kinds]


@dataclass
class Training:
    """A workspace of its own, in which the toy trains on what was converted in another one."""

    workspace: Prefix
    uris: dict[str, str]

    def train(self, *settings: str, run: str = "night", force: bool = False) -> Outcome:
        """The stage train."""
        chosen = {setting.partition("=")[0]: setting for setting in (*TOY, *settings)}
        arguments = {"converted": self.uris["convert"], "snapshot": self.uris["snapshot"], "set": [*chosen.values()]}
        invocation = Invocation(self.workspace.uri, run=run, trace_id="trace", force=force)
        return run_stage(catalog.stage("train"), arguments, invocation)

    def cleanup(self, run: str = "night", **arguments: str) -> None:
        """The stage cleanup."""
        run_stage(catalog.stage("cleanup"), arguments, Invocation(self.workspace.uri, run=run))

    def record(self, run: str = "night") -> RunRecord:
        return RunRecord(self.workspace, run)

    def receipt(self, outcome: Outcome) -> Receipt:
        """The receipt, as it lies in the workspace."""
        assert outcome.receipt is not None
        result = look(self.workspace, "train", outcome.receipt.key)
        assert result is not None
        return result.receipt


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, registry_template: Path) -> Iterator[dict[str, str]]:
    """The receipts of a dataset that was taken as far as convert."""
    folder = tmp_path_factory.mktemp("converted")
    dataset = Dataset(machine.file_prefix(folder / "digits", "dataset")).put(machine.sample_objects(6, 3, 3))
    made = machine.build(folder / "laptop", registry_template, machine.file_prefix(folder / "work"), {})
    yield made.prepare(str(folder / "digits"))
    assert dataset.uri
    made.close()


@pytest.fixture
def training(converted: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """The third party's trainer is installed; nothing is tracked; no try and no attempt is waited for."""
    monkeypatch.syspath_prepend(str(machine.THIRD_PARTY))
    monkeypatch.setenv("PYTHONPATH", str(machine.THIRD_PARTY))
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(outbox, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr("visionloop.core.policy.StagePolicy.backoff", lambda *_: 0.0)
    catalog.load.cache_clear()
    yield Training(machine.file_prefix(tmp_path / "workspace"), converted)
    catalog.load.cache_clear()


class Tell(Protocol):
    """Names a receiver to this process."""

    def __call__(self, server: Receiver, **more: str) -> None: ...


@pytest.fixture
def send_to(monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Names a receiver to this process."""

    def tell(server: Receiver, **more: str) -> None:
        variables = {"VISIONLOOP_EVENTS_URL": server.url, "VISIONLOOP_EVENTS_SECRET": SECRET, **more}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return tell
