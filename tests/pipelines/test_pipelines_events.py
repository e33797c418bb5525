"""The events of a run on each engine's compiled form, held against their schemas: the real stages, with the toy's training."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import laptop as machine
import pytest
from compiled import Argo
from event_receiver import SECRET, Posted, Receiver, receiving
from event_schemas import check
from laptop import TOY, Dataset, Laptop
from test_pipelines_argo_commands import VISIONLOOP, Workflow, substitute

from visionloop.core import catalog
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.templates import OUTPUTS
from visionloop.pipelines.targets import cluster

pytestmark = pytest.mark.slow

#: The kinds of what is told of the toy's four epochs, in order.
STORY = ["started", *["metrics", "metrics", "checkpoint", "progress"] * 4, "completed"]

#: The toy's settings as a form's fields.
FIELDS = dict(setting.split("=") for setting in TOY)


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """A small one."""
    return Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(6, 3, 3)).uri


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """One of CloudEvents and one of bare data."""
    with receiving() as own, receiving() as bare:
        yield own, bare


def story(receiver: Receiver, run: str, bare: bool = False) -> list[Posted]:
    """What a run told, without its log; each event keeps its schema."""
    events = [posted for posted in receiver.taken if posted.data["job_id"] == run]
    for posted in events:
        check(posted)
        assert posted.headers["Authorization"] == ("Bearer as.it.is" if bare else posted.headers["Authorization"])
        assert posted.id.startswith(f"{run}.train.")
    assert len({posted.data["trace_id"] for posted in events}) == 1
    assert len({posted.id for posted in events}) == len(events)
    return [posted for posted in events if posted.kind != "log"]


class Cluster(Workflow):
    """The compiled DAG's commands, each with the variables that its pod has of the cluster's ConfigMap and Secrets."""

    left_out: tuple[str, ...] = ("evaluate", "export", "register")

    def __init__(
        self, folder: Path, laptop: Laptop, secrets: Mapping[str, Mapping[str, str]], config: Mapping[str, str]
    ):
        self.argo, self.folder, self.laptop = Argo(argo_files(cluster())), folder, laptop
        self.secrets, self.config = secrets, config
        self.published: set[str] = set()

    def variables(self, template: Mapping[str, Any]) -> dict[str, str]:
        held = dict(self.laptop.environment)
        container = template["container"]
        for entry in container["env"]:
            key = entry.get("valueFrom", {}).get("configMapKeyRef", {}).get("key")
            if key in self.config:
                held[entry["name"]] = self.config[key]
        for entry in container["envFrom"]:
            held |= self.secrets.get(entry["secretRef"]["name"], {})
        if "VISIONLOOP_EVENTS_URL" in held:
            self.published.add(template["name"])
        return held

    def exit(self, uid: str, arguments: Mapping[str, str], status: str) -> None:
        """The command of the exit handler."""
        template = self.argo.templates["visionloop-cleanup", self.argo.exit_stage()]
        inputs = {entry["name"]: entry.get("value", "") for entry in template["inputs"]["parameters"]}
        inputs |= {"workspace": arguments["workspace"], "engine_status": status}
        values = {f"inputs.parameters.{name}": value for name, value in inputs.items()} | {"workflow.uid": uid}
        words = [substitute(word, lambda name: str(values[name])) for word in template["container"]["args"]]
        done = subprocess.run(
            [str(VISIONLOOP), *(word.replace(OUTPUTS, str(self.folder / uid / "cleanup")) for word in words)],
            env=self.variables(template),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_run_of_argos_templates_is_told_by_the_pods_that_have_the_secret(
    file_laptop: Laptop,
    dataset: str,
    receivers: tuple[Receiver, Receiver],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, bare = receivers
    monkeypatch.syspath_prepend(str(machine.THIRD_PARTY))
    catalog.load.cache_clear()
    variables = {
        "VISIONLOOP_EVENTS_URL": own.url,
        "VISIONLOOP_EVENTS_SECRET": SECRET,
        "CALLBACK_URL": f"{bare.url}/{{run}}",
        "CALLBACK_TOKEN": "as.it.is",
    }
    engine = Cluster(tmp_path, file_laptop, {"visionloop-events": variables}, {"CALLBACK_INTERVAL": "3"})
    fields = {"workspace": file_laptop.workspace.uri, "model_name": "Tiny Digits", "dataset": dataset, **FIELDS}
    try:
        ran, _ = engine.run("first", fields)
        engine.exit("first", fields, "Succeeded")
        again, _ = engine.run("second", fields)
        engine.exit("second", fields, "Succeeded")
    finally:
        catalog.load.cache_clear()
    assert any(name.startswith("train") for name in ran)
    assert engine.published == {"train", "cleanup"}
    first = story(own, "first")
    assert [posted.kind for posted in first] == STORY
    assert first[-1].data["reused"] is False
    assert first[-1].data["dataset_snapshot_id"].startswith("snap_")
    events = story(bare, "first", bare=True)
    assert [posted.data["epoch"] for posted in events if posted.kind == "progress"] == [3, 4]
    assert {posted.path for posted in events} == {
        f"/events/first/{kind}" for kind in ("started", "metrics", "checkpoint", "progress", "completed")
    }
    assert not any(name.startswith("train") for name in again)
    (completed,) = story(own, "second")
    assert (completed.kind, completed.data["reused"]) == ("completed", True)
    assert completed.data["training_results"] == first[-1].data["training_results"]
    state = json.loads(file_laptop.workspace.read("runs/first/train.json"))
    assert state["events"] == {
        "sent": len([p for r in receivers for p in r.taken if p.data["job_id"] == "first"]),
        "dropped": 0,
    }


@pytest.fixture
def kubeflow(file_laptop: Laptop, receivers: tuple[Receiver, Receiver]) -> Laptop:
    """Kubeflow's pipeline by its own local executor."""
    own, bare = receivers
    file_laptop.variables |= {
        "VISIONLOOP_EVENTS_URL": own.url,
        "VISIONLOOP_EVENTS_SECRET": SECRET,
        "CALLBACK_URL": bare.url,
        "CALLBACK_TOKEN": "as.it.is",
    }
    return file_laptop


def test_a_run_of_kubeflows_pipeline_is_told(
    kubeflow: Laptop, dataset: str, receivers: tuple[Receiver, Receiver]
) -> None:
    own, bare = receivers
    kubeflow.train(dataset, "--run", "night").expect()
    events = story(own, "night")
    assert [posted.kind for posted in events] == STORY
    assert [posted.data for posted in story(bare, "night", bare=True)] == [posted.data for posted in events]
    kubeflow.train(dataset, "--run", "again").expect()
    (completed,) = story(own, "again")
    assert (completed.kind, completed.data["reused"]) == ("completed", True)


@pytest.mark.matrix
def test_a_run_of_kubeflows_pipeline_that_fails_is_told_by_train_and_by_cleanup(
    kubeflow: Laptop, dataset: str, receivers: tuple[Receiver, Receiver]
) -> None:
    kubeflow.train(dataset, "--run", "night", settings=(*TOY, "fault=diverged", "fault_after=2")).expect(78)
    *before, failed, again = [posted for posted in receivers[0].taken if posted.kind != "log"]
    assert [posted.kind for posted in before] == STORY[:9]
    assert (failed.id, failed.data) == (again.id, again.data)
    assert (failed.kind, failed.data["exit_code"], failed.data["last_successful_epoch"]) == ("failed", 78, 2)
