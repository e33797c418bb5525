"""Each field of a retraining policy, decided the way that each engine asks: the KFP component, and the Argo template's command."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.dsl.executor import Executor
from laptop import command_server
from toy_detector import GPU_HOURS, Prepared, install, prepare, run, write_dataset
from toy_detector import ToyTrainStage as Training

from visionloop.components.snapshot.component import snapshot
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.retraining.policy import RetrainingPolicy
from visionloop.core import receipts
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix
from visionloop.core.stores import local_path
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.templates import OUTPUTS
from visionloop.pipelines.targets import cluster

MODEL = "Retrained Digits"
DAY = 24 * 60 * 60

#: For each field a value that ends the run and one that lets it go on, with the reasons; {champion} is its snapshot's id.
FIELDS: dict[str, tuple[tuple[float, str], tuple[float, str]]] = {
    "min_new_images": (
        (3, "skipped: 2 new images, 3 needed"),
        (2, "retraining: 2 new images, 2 needed"),
    ),
    "drift_above": (
        (0.5, "skipped: drift 0.5, more than 0.5 needed"),
        (0.4, "retraining: drift 0.5, more than 0.4 needed"),
    ),
    "champion_older_than_days": (
        (31, "skipped: champion 30 days old, more than 31 needed"),
        (29, "retraining: champion 30 days old, more than 29 needed"),
    ),
    "max_runs_per_week": (
        (1, "skipped: 1 run in 7 days, 1 allowed"),
        (2, "retraining: the dataset is no longer the champion's {champion}"),
    ),
    "max_gpu_hours_per_month": (
        (GPU_HOURS, "skipped: 1.5 GPU hours this month, 1.5 allowed"),
        (GPU_HOURS + 1, "retraining: the dataset is no longer the champion's {champion}"),
    ),
}


@dataclass(frozen=True)
class Past:
    """A champion of 30 days ago, one training since, and a dataset that has grown by two images and a new class."""

    workspace: str
    dataset: str
    champion: str

    def form(self, policy: str) -> dict[str, str]:
        """What the form sends."""
        return {"workspace": self.workspace, "dataset": self.dataset, "model_name": MODEL, "retraining": policy}


#: Whether to go on and why, as an engine hears it.
Ask = Callable[[Past, str], tuple[str, str]]


@pytest.fixture(scope="module")
def past(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Past:
    folder = tmp_path_factory.mktemp("past")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
        patch.setenv("VISIONLOOP_CACHE", str(folder / "cache"))
        install(patch)
        prepared: Prepared = prepare(write_dataset(folder / "dataset"), (folder / "workspace").as_uri())
        training = prepared.train(2)
        prepared.register(prepared.evaluate(training, MODEL), MODEL)
        file = local_path(training)
        assert file is not None
        os.utime(file, (time.time() - 30 * DAY,) * 2)
        RunRecord(open_prefix(prepared.workspace, "results"), "yesterday").open({"model_name": MODEL}, None)
        arguments = {"converted": prepared.converted, "snapshot": prepared.snapshot, "offset": 3}
        run(Training(), arguments, prepared.workspace, run="yesterday")
        write_dataset(folder / "dataset", images=10, classes=("dim", "dark"))
        champion = Snapshot(receipts.load(prepared.snapshot, "snapshot")).id
    return Past(prepared.workspace, str(folder / "dataset"), champion)


@pytest.fixture
def kfp(tmp_path: Path) -> Ask:
    """KFP's own executor calls the component with the form's values, and writes its outputs."""

    def ask(past: Past, policy: str) -> tuple[str, str]:
        artifact = {"name": "frozen_dataset", "uri": str(tmp_path / "frozen"), "metadata": {}}
        artifact["type"] = {"schemaTitle": "system.Dataset"}  # type: ignore[assignment]
        fields = {
            "inputs": {"parameterValues": past.form(policy)},
            "outputs": {
                "parameters": {name: {"outputFile": str(tmp_path / name)} for name in ("go", "reason", "receipt")},
                "artifacts": {"frozen_dataset": {"artifacts": [artifact]}},
                "outputFile": str(tmp_path / "output.json"),
            },
        }
        Executor(fields, snapshot).execute()
        result = json.loads((tmp_path / "output.json").read_text())["parameterValues"]
        return result["go"], result["reason"]

    return ask


@pytest.fixture(scope="module")
def command() -> list[str]:
    """The words of the snapshot template that the retraining pipeline refers to, each naming the form's field."""
    files = {name: list(yaml.safe_load_all(text)) for name, text in argo_files(cluster()).items()}
    templates = {
        (entry["metadata"]["name"], template["name"]): template
        for documents in files.values()
        for entry in documents
        if entry["kind"] == "WorkflowTemplate"
        for template in entry["spec"]["templates"]
    }
    tasks = templates["visionloop-retrain", "pipeline"]["dag"]["tasks"]
    (task,) = (entry for entry in tasks if entry["name"] == "snapshot")
    fields = {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]}
    template = templates["visionloop-snapshot", task["templateRef"]["template"]]
    return [
        re.sub(r"\{\{inputs\.parameters\.(\w+)\}\}", lambda decided: fields[decided[1]], word)
        for word in template["container"]["args"]
    ]


@pytest.fixture
def argo(command: list[str], tmp_path: Path) -> Ask:
    """The command line with the form's values as texts, and the files that become output parameters."""

    def ask(past: Past, policy: str) -> tuple[str, str]:
        form: dict[str, Any] = past.form(policy)
        words = [word.replace(OUTPUTS, str(tmp_path)).replace("{{workflow.uid}}", "argo") for word in command]
        words = [re.sub(r"\{\{workflow\.parameters\.(\w+)\}\}", lambda at: form.get(at[1], ""), word) for word in words]
        words = [re.sub(r"\{\{=.*?\}\}", "", word) for word in words]
        code = command_server().run(tuple(words), dict(os.environ), tmp_path, tmp_path)
        assert code == 0, (tmp_path / "stderr").read_text()
        return (tmp_path / "go").read_text(), (tmp_path / "reason").read_text()

    return ask


@pytest.fixture(params=["kfp", "argo"])
def ask(request: pytest.FixtureRequest, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The two engines."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    result: Ask = request.getfixturevalue(request.param)
    return result


def test_every_field_of_a_policy_is_asked_for() -> None:
    assert set(FIELDS) == set(RetrainingPolicy.__struct_fields__)


@pytest.mark.parametrize("field", FIELDS)
def test_an_engine_hears_the_decision_of_each_field(field: str, past: Past, ask: Ask) -> None:
    (ending, why_not), (going_on, why) = FIELDS[field]
    assert ask(past, json.dumps({field: ending})) == ("false", why_not)
    assert ask(past, json.dumps({field: going_on})) == ("true", why.format(champion=past.champion))
