"""A run whose training is stopped is evaluated and registered under its own key, on each engine's compiled form."""

from __future__ import annotations

from pathlib import Path

import laptop as machine
import pytest
from event_receiver import SECRET, receiving
from event_schemas import check
from laptop import TOY, Dataset, Laptop, wait_for
from test_pipelines_events import FIELDS, Cluster, story

from visionloop.core import catalog, stop
from visionloop.core.receipts import Receipt
from visionloop.core.stop import EVALUATE, Stop

pytestmark = pytest.mark.slow


class WholeCluster(Cluster):
    """The compiled DAG's commands, all of them."""

    left_out = ()


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(6, 3, 3)).uri


def trained(laptop: Laptop, run: str) -> Receipt:
    """The training that a run made or found."""
    state = laptop.record(run).state("train")
    assert state.key is not None
    assert state.state == "succeeded"
    return laptop.receipt("train", state.key)


def registered(laptop: Laptop) -> dict[str, str]:
    """The training's key of each version, by the digest that it is registered for."""
    tags = [laptop.tags(*version) for version in laptop.versions()]
    return {entry["visionloop.training_digest"]: entry["visionloop.training_key"] for entry in tags}


def test_argos_commands_go_on_from_a_stopped_training(
    file_laptop: Laptop, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(machine.THIRD_PARTY))
    catalog.load.cache_clear()
    fields = {"workspace": file_laptop.workspace.uri, "model_name": "Tiny Digits", "dataset": dataset, **FIELDS}
    with receiving() as receiver:
        secret = {"VISIONLOOP_EVENTS_URL": receiver.url, "VISIONLOOP_EVENTS_SECRET": SECRET}
        engine = WholeCluster(tmp_path, file_laptop, {"visionloop-events": secret}, {})
        try:
            stop.ask(file_laptop.record("first"), Stop(EVALUATE))
            ran, _ = engine.run("first", fields)
            engine.exit("first", fields, "Succeeded")
            again, _ = engine.run("second", fields)
        finally:
            catalog.load.cache_clear()
    assert [name.partition("-")[0] for name in ran] == [
        "snapshot",
        "validate",
        "convert",
        "train",
        "evaluate",
        "register",
    ]
    stopped = trained(file_laptop, "first")
    assert (stopped.parameters["stopped_after_epoch"].value, stopped.scalars["stopped_after_epoch"]) == (1, 1)
    # The next run finds no whole training: it goes on from the epoch that is there.
    assert any(name.startswith("train") for name in again)
    whole = trained(file_laptop, "second")
    assert whole.scalars["epochs"] == 4
    assert registered(file_laptop) == {stopped.digest: stopped.key, whole.digest: whole.key}
    events = story(receiver, "first")
    assert [posted.kind for posted in events] == [
        "started",
        "metrics",
        "metrics",
        "checkpoint",
        "progress",
        "completed",
    ]
    assert events[-1].data["training_results"]["total_epochs"] == 1


def test_kubeflows_pipeline_goes_on_from_a_stopped_training(file_laptop: Laptop, dataset: str) -> None:
    settings = (*(setting for setting in TOY if not setting.startswith("epochs")), "epochs=100000")
    command = file_laptop.start(*file_laptop.train_command(dataset, "--run", "night", settings=settings))
    wait_for(lambda: file_laptop.record("night").state("snapshot").attempt, command)
    stop.ask(file_laptop.record("night"), Stop(EVALUATE))
    summary = command.end().expect().summary
    stopped = trained(file_laptop, "night")
    assert summary["stages"]["train"]["key"] == stopped.key
    assert registered(file_laptop) == {stopped.digest: stopped.key}


def test_a_stopped_run_is_told_as_one_and_nothing_behind_its_training_runs(file_laptop: Laptop, dataset: str) -> None:
    with receiving() as receiver:
        file_laptop.variables |= {"VISIONLOOP_EVENTS_URL": receiver.url, "VISIONLOOP_EVENTS_SECRET": SECRET}
        command = file_laptop.start(*file_laptop.train_command(dataset, "--run", "night"))
        wait_for(lambda: file_laptop.record("night").state("snapshot").attempt, command)
        stop.ask(file_laptop.record("night"), Stop())
        sentence = command.end().refused(130)
    assert sentence.endswith(", as was asked for; start the run again to resume.")
    *_, stopped, again = [posted for posted in receiver.taken if posted.kind != "log"]
    check(stopped)
    assert stopped.kind == "stopped"
    assert (stopped.id, stopped.data) == (again.id, again.data)  # train's, and cleanup's under the same id
    assert file_laptop.record("night").state("train").state == "cancelled"
    assert file_laptop.versions() == []
