"""Each stage's component alone: loaded from its component.yaml, run by kfp.local in a pipeline of one task, on a real S3."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, components, dsl
from laptop import TOY, Laptop, Trained
from message_receiver import Receiver, receiving

from visionloop.components.calls import STAGES, STAGES_OF
from visionloop.core.receipts import Receipt
from visionloop.pipelines.parameters import arguments_for
from visionloop.training.configuration import parse_settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Runs compiled pipelines, or components, as a user of KFP alone would: nothing of ours but what the files say. Importing
#: kfp is most of what a small one takes, so it runs several, each with a log and an exit status of its own.
RUN = """
import json, os, sys, traceback
from kfp import components, local
for job in json.load(sys.stdin):
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    local.init(
        local.SubprocessRunner(use_venv=False), pipeline_root=job["root"], workspace_root=job["root"] + "-workspace"
    )
    status = 0
    try:
        components.load_component_from_file(job["file"])(**job["arguments"])
    except RuntimeError as error:
        status = 1
        print(error)
    except Exception:
        status = 2
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    with open(job["status"], "w") as file:
        file.write(str(status))
"""


@dataclass(frozen=True)
class Ended:
    """How a run of kfp.local ended: its status, its log, and the folder of its artifacts and outputs."""

    status: int
    log: str
    root: Path

    def outputs(self, task: str) -> dict[str, Any]:
        """The output parameters of a task."""
        return dict(self._written(task).get("parameterValues", {}))

    def artifact(self, task: str, name: str) -> tuple[dict[str, Any], Path]:
        """An artifact's metadata and its file."""
        (entry,) = self._written(task)["artifacts"][name]["artifacts"]
        return entry["metadata"], Path(entry["uri"])

    def _written(self, task: str) -> dict[str, Any]:
        (file,) = self.root.glob(f"*/{task}/executor_output.json")
        value = json.loads(file.read_text())
        assert isinstance(value, dict)
        return value


def definition(stage: str) -> Path:
    return ROOT / "components" / stage / "component.yaml"


@dataclass(frozen=True)
class Job:
    """A compiled pipeline or a component, and its arguments."""

    file: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)


def run_all(laptop: Laptop, jobs: Sequence[Job], variables: Mapping[str, str] | None = None) -> list[Ended]:
    """Runs one after the other, in one process."""
    roots = [laptop.folder / "kfp" / uuid.uuid4().hex for _ in jobs]
    arguments: list[dict[str, Any]] = []
    for job, root in zip(jobs, roots, strict=True):
        root.mkdir(parents=True)
        entry: dict[str, Any] = {"file": str(job.file), "root": str(root), "arguments": dict(job.arguments)}
        arguments.append(entry | {name: f"{root}.{name}" for name in ("log", "status")})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN],
        input=json.dumps(arguments),
        env={**laptop.environment, **(variables or {})},
        cwd=laptop.folder,
        capture_output=True,
        text=True,
        timeout=240 + 60 * len(jobs),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        Ended(int(Path(entry["status"]).read_text()), Path(entry["log"]).read_text(), root)
        for entry, root in zip(arguments, roots, strict=True)
    ]


def run(laptop: Laptop, file: Path, variables: Mapping[str, str] | None = None) -> Ended:
    """Runs one."""
    return run_all(laptop, [Job(file)], variables)[0]


def in_a_pipeline(
    stage: str, parameters: Mapping[str, Any], artifacts: Mapping[str, tuple[str, Any]], file: Path
) -> Path:
    """A pipeline of the component alone; its input artifacts are imported, for kfp.local takes none from outside."""
    component = components.load_component_from_file(str(definition(stage)))

    @dsl.pipeline(name=f"{stage}-alone")
    def alone():
        imported = {
            name: dsl.importer(artifact_uri=uri, artifact_class=kind, reimport=False).output
            for name, (uri, kind) in artifacts.items()
        }
        component(**parameters, **imported).set_caching_options(False)

    compiler.Compiler().compile(alone, str(file))
    return file


def given_to(stage: str, trained: Trained) -> dict[str, Any]:
    """What a component needs besides the workspace, from a finished training."""
    uri = trained.receipt_uri
    name = {"model_name": "Tiny Digits"}
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "snapshot": lambda: {"dataset": trained.dataset.uri},
        "validate": lambda: {"snapshot": uri("snapshot")},
        "convert": lambda: {"snapshot": uri("snapshot"), "report": uri("validate")},
        "train": lambda: {
            "snapshot": uri("snapshot"),
            "converted": uri("convert"),
            "settings": parse_settings(list(TOY)),
        },
        "evaluate": lambda: {"training": uri("train"), "snapshot": uri("snapshot"), **name},
        "register": lambda: {"evaluation": uri("evaluate"), **name},
        "cleanup": dict,
    }
    return arguments[stage]()


#: The stages whose components run alone here; cleanup is an exit task, the toy trainer exports nothing, and what predict finds no training
#: makes.
STAGES_ALONE = [stage for stage in STAGES_OF["train"] if stage not in ("export", "cleanup")]

#: The input artifacts of each component, and the stage whose receipt stands in for one.
ARTIFACTS = {
    "validate": {"frozen_dataset": ("snapshot", dsl.Dataset)},
    "convert": {"frozen_dataset": ("snapshot", dsl.Dataset)},
    "train": {"converted_dataset": ("convert", dsl.Dataset)},
    "evaluate": {"trained_model": ("train", dsl.Model)},
    "export": {"evaluation_metrics": ("evaluate", dsl.Metrics)},
    "register": {"evaluation_metrics": ("evaluate", dsl.Metrics)},
}


#: How the artifacts begin that are pages; all others are a copy of the receipt.
PAGES = {"report": "<!doctype html>", "model_card": "# Tiny Digits, version 1\n"}


def imported(stage: str, trained: Trained, folder: Path) -> dict[str, tuple[str, Any]]:
    """A component's input artifacts as files of this machine, which kfp.local's importer takes."""
    results = {}
    for name, (of, kind) in ARTIFACTS.get(stage, {}).items():
        file = folder / f"{of}.json"
        file.write_bytes(trained.laptop.result(of, trained.key(of)).receipt.encode())
        results[name] = (str(file), kind)
    return results


def test_the_input_artifacts_are_those_of_the_components() -> None:
    results = {}
    for stage in STAGES:
        inputs = yaml.safe_load(definition(stage).read_text())["components"][f"comp-{stage}"]["inputDefinitions"]
        if "artifacts" in inputs:
            results[stage] = {name: entry["artifactType"]["schemaTitle"] for name, entry in inputs["artifacts"].items()}
    wanted = {
        stage: {name: kind.schema_title for name, (_, kind) in named.items()} for stage, named in ARTIFACTS.items()
    }
    assert results == wanted


@pytest.fixture(scope="module")
def alone(toy_trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Each component alone in a pipeline, and as ``called`` the one that can be called as it is."""
    laptop, folder = toy_trained.laptop, tmp_path_factory.mktemp("alone")
    jobs = {}
    for stage in STAGES_ALONE:
        arguments = {"workspace": laptop.workspace.uri, "run": f"alone-{stage}", **given_to(stage, toy_trained)}
        artifacts = imported(stage, toy_trained, folder)
        jobs[stage] = Job(in_a_pipeline(stage, arguments, artifacts, folder / f"{stage}.yaml"))
    arguments = {"workspace": laptop.workspace.uri, "run": "called", **given_to("snapshot", toy_trained)}
    jobs["called"] = Job(definition("snapshot"), arguments)
    return dict(zip(jobs, run_all(laptop, list(jobs.values())), strict=True))


@pytest.mark.parametrize("stage", STAGES_ALONE)
def test_a_component_alone_meets_the_result_that_the_pipeline_made(
    stage: str, toy_trained: Trained, alone: dict[str, Ended]
) -> None:
    laptop, ended = toy_trained.laptop, alone[stage]
    assert ended.status == 0, ended.log
    assert ended.outputs(stage)["receipt"] == toy_trained.receipt_uri(stage)
    state = laptop.record(f"alone-{stage}").state(stage)
    assert (state.state, state.reused) == ("succeeded", True)
    receipt = laptop.receipt(stage, toy_trained.key(stage))
    outputs = yaml.safe_load(definition(stage).read_text())["components"][f"comp-{stage}"]["outputDefinitions"]
    for name, entry in outputs.get("artifacts", {}).items():
        metadata, path = ended.artifact(stage, name)
        assert metadata["receipt"] == toy_trained.receipt_uri(stage)
        if entry["artifactType"]["schemaTitle"] == "system.Metrics":
            own = {name: value for name, value in metadata.items() if name in ("receipt", *receipt.metrics)}
            assert own == {"receipt": metadata["receipt"], **receipt.metrics}
            assert ("latency_median_ms" in metadata) == (stage == "evaluate")
        else:
            assert (metadata["key"], metadata["digest"], metadata["stage"]) == (receipt.key, receipt.digest, stage)
            assert {f"{output}_uri" for output in receipt.outputs} <= set(metadata)
        assert path.is_relative_to(ended.root)
        begins = PAGES.get(name, '{\n  "schema": 1,')
        assert path.read_text().startswith(begins), name


def test_a_component_without_input_artifacts_is_called_as_it_is(toy_trained: Trained, alone: dict[str, Ended]) -> None:
    laptop, ended = toy_trained.laptop, alone["called"]
    assert ended.status == 0, ended.log
    assert laptop.record("called").state("snapshot").state == "succeeded"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@dsl.component(base_image="unused", install_kfp_package=False)
def killed():
    """Ends as a pod that its node has killed: no word, no record."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def before_cleanup(laptop: Laptop, run_name: str, body: Callable[[], Any], file: Path, receiver: Receiver) -> Ended:
    """A run of a pipeline whose exit task is cleanup."""
    cleanup = components.load_component_from_file(str(definition("cleanup")))

    @dsl.pipeline(name="cleanup-alone")
    def alone():
        last = cleanup(workspace=laptop.workspace.uri, run=run_name)
        with dsl.ExitHandler(last):
            body()

    compiler.Compiler().compile(alone, str(file))
    page = {"VISIONLOOP_RUN_URL": "https://kubeflow.example.com/#/runs/details/{run}"}
    return run(laptop, file, receiver.variables | page)


def test_cleanup_is_an_exit_task(toy_trained: Trained, tmp_path: Path, receiver: Receiver) -> None:
    """What it is for: it hears how the pipeline ended, here badly, and tells it."""
    laptop = toy_trained.laptop
    snapshot = components.load_component_from_file(str(definition("snapshot")))
    nothing = f"{toy_trained.dataset.uri}/nothing"

    def body() -> None:
        snapshot(workspace=laptop.workspace.uri, dataset=nothing, run="exit")

    ended = before_cleanup(laptop, "exit", body, tmp_path / "cleanup.yaml", receiver)
    assert ended.status != 0
    assert "The engine's final status: FAILED" in ended.log
    assert laptop.record("exit").state("cleanup").state == "succeeded"
    failure = laptop.record("exit").failure("snapshot")
    assert failure is not None
    assert failure.exit_code == 65
    assert failure.error_message in ended.log
    (message,) = receiver.bodies
    assert (message["status"], message["stage"], message["text"]) == ("failed", "snapshot", failure.error_message)
    assert message["link"] == "https://kubeflow.example.com/#/runs/details/exit"


def test_cleanup_tells_a_failure_that_no_stage_told(toy_trained: Trained, tmp_path: Path, receiver: Receiver) -> None:
    laptop = toy_trained.laptop
    ended = before_cleanup(laptop, "killed", killed, tmp_path / "killed.yaml", receiver)
    assert ended.status != 0
    assert laptop.record("killed").failures() == []
    (message,) = receiver.bodies
    assert (message["status"], message["title"]) == ("failed", "killed: failed")
    assert "no stage told a failure" in message["text"]


def test_cleanup_tells_no_failure_of_a_run_that_ended_well(
    toy_trained: Trained, tmp_path: Path, receiver: Receiver
) -> None:
    laptop = toy_trained.laptop
    snapshot = components.load_component_from_file(str(definition("snapshot")))

    def body() -> None:
        snapshot(workspace=laptop.workspace.uri, dataset=toy_trained.dataset.uri, run="well")

    assert before_cleanup(laptop, "well", body, tmp_path / "well.yaml", receiver).status == 0
    assert [message["status"] for message in receiver.bodies] == ["completed"]


@pytest.fixture(scope="module")
def refused(toy_trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Each component with an input that is not there."""
    laptop, folder = toy_trained.laptop, tmp_path_factory.mktemp("refused")
    nothing = f"{laptop.workspace.uri}/nothing/receipt.json"
    jobs = {}
    for stage in STAGES_ALONE:
        arguments = {
            name: nothing if str(value).endswith("/receipt.json") else value
            for name, value in given_to(stage, toy_trained).items()
        }
        arguments |= {"dataset": f"{toy_trained.dataset.uri}/nothing"} if stage == "snapshot" else {}
        arguments |= {"workspace": laptop.workspace.uri, "run": f"bad-{stage}"}
        jobs[stage] = Job(in_a_pipeline(stage, arguments, {}, folder / f"{stage}.yaml"))
    return dict(zip(jobs, run_all(laptop, list(jobs.values())), strict=True))


@pytest.mark.parametrize("stage", STAGES_ALONE)
def test_a_component_alone_ends_with_its_sentence(stage: str, toy_trained: Trained, refused: dict[str, Ended]) -> None:
    laptop, ended = toy_trained.laptop, refused[stage]
    assert ended.status != 0
    failure = laptop.record(f"bad-{stage}").failure(stage)
    assert failure is not None
    assert failure.exit_code == 65
    assert failure.error_message in ended.log
    assert f"{stage} met a defect" not in ended.log


@pytest.mark.matrix
def test_the_whole_pipeline_can_be_put_together_from_the_files(
    laptop: Laptop, toy_trained: Trained, tmp_path: Path
) -> None:
    """Computed, not only found: another workspace, the components wired by their receipts alone."""
    load = {stage: components.load_component_from_file(str(definition(stage))) for stage in STAGES}
    common = {"workspace": laptop.workspace.uri, "run": "files"}
    settings = arguments_for(parse_settings(list(TOY)))

    @dsl.pipeline(name="from-the-files")
    def together():
        snapshot = load["snapshot"](dataset=toy_trained.dataset.uri, **settings, **common).outputs
        frozen, arguments = snapshot["receipt"], {"settings": snapshot["settings"]}
        report = load["validate"](snapshot=frozen, **common).outputs["receipt"]
        converted = load["convert"](snapshot=frozen, report=report, **common).outputs["receipt"]
        training = load["train"](snapshot=frozen, converted=converted, **arguments, **common).outputs["receipt"]
        name = {"model_name": "From Files"}
        evaluation = load["evaluate"](training=training, snapshot=frozen, **name, **common).outputs["receipt"]
        load["register"](evaluation=evaluation, **name, **common)

    compiler.Compiler().compile(together, str(tmp_path / "together.yaml"))
    ended = run(laptop, tmp_path / "together.yaml")
    assert ended.status == 0, ended.log
    assert laptop.versions() == [("from-files", 1)]
    assert laptop.aliases() == {("from-files", 1): "champion"}
    for stage in ("snapshot", "convert", "train"):
        ours, theirs = (
            entry.receipt(stage, key)
            for entry, key in ((laptop, laptop.keys(stage)[0]), (toy_trained.laptop, toy_trained.key(stage)))
        )
        assert isinstance(ours, Receipt)
        assert ours.digest == theirs.digest, stage
