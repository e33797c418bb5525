"""The pipelines on a real Kubeflow Pipelines, with the real images.

KFP_HOST names the endpoint; KUBECONFIG the cluster below it, where the pods are looked at; VISIONLOOP_CLUSTER_HOST the address of
this machine on which pods reach the S3 and the MLflow that the tests start. KFP_RUN_NAMESPACE is where its pods run: kubeflow, or the user's
namespace, with KFP_NAMESPACE and KFP_EXISTING_TOKEN or KFP_COOKIES as for the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3
from kubernetes_cluster import HOST, KUBECONFIG, kubectl, secrets_and_config
from message_receiver import SECRET_PART, Receiver, receiving

from visionloop.components.cleanup.notify import LINK_VARIABLE, URL_VARIABLE
from visionloop.components.evaluate.roc import Curve
from visionloop.components.kubeflow import ROC
from visionloop.core import progress
from visionloop.core.errors import DatasetNotFound, Transient, VisionloopError
from visionloop.core.policy import StagePolicy
from visionloop.core.receipts import load, look
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.storage import open_prefix
from visionloop.pipelines import sample, services
from visionloop.pipelines.cli import demo
from visionloop.pipelines.engines.kubeflow import runs as kubeflow
from visionloop.pipelines.engines.kubeflow.schedules import KubeflowSchedules
from visionloop.pipelines.following.cron import Cron
from visionloop.pipelines.following.follow import follow
from visionloop.pipelines.parameters import arguments_for
from visionloop.pipelines.targets import Target, cluster
from visionloop.training.trainers.ultralytics import TRAINER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

#: Read before any test's clean environment takes them away.
ENDPOINT = os.environ.get("KFP_HOST")
GIVEN = {
    name: value for name in ("KFP_NAMESPACE", "KFP_EXISTING_TOKEN", "KFP_COOKIES") if (value := os.environ.get(name))
}
NAMESPACE = os.environ.get("KFP_RUN_NAMESPACE") or GIVEN.get("KFP_NAMESPACE") or "kubeflow"

WORKSPACE = "s3://visionloop/kfp"
SETTINGS = {
    "model": "yolo11n.yaml",
    "imgsz": 64,
    "epochs": 2,
    "advanced_config": {"mosaic": 0, "workers": 0},
    "gate": json.dumps({"floor": 0}),
}

#: What the decision says where a policy allows no run at all.
REFUSED = "skipped: 0 runs in 7 days, 0 allowed"

#: Kills the training inside its container, as the kernel does when memory is used up.
KILL = """
import os, signal
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{name}/cmdline", "rb") as file:
            if b"supervision.child" in file.read() and int(name) != os.getpid():
                os.kill(int(name), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""


@dataclass(frozen=True)
class Endpoint:
    """The endpoint, and the services that its pods use."""

    host: str
    services: services.Services
    receiver: Receiver
    dataset: str

    def submit(self, model_name: str, pipeline: str = "train", **more: Any) -> kubeflow.KubeflowRun:
        """Starts a training."""
        arguments = {"workspace": WORKSPACE, "model_name": model_name, "dataset": self.dataset, **SETTINGS, **more}
        return kubeflow.submit(pipeline, arguments, host=self.host)

    def end(self, run: kubeflow.KubeflowRun) -> dict[str, Any]:
        """Follows a run to its end."""
        return follow(run, WORKSPACE, run.arguments)

    def message(self, run: str) -> dict[str, Any]:
        """The one message about a run's end."""
        (message,) = self.receiver.about(run)
        assert message["link"] == f"{self.host}/#/runs/details/{run}"
        return message

    def record(self, run: str) -> dict[str, StageState]:
        """The stages of a run, as its record has them."""
        return {state.stage: state for state in RunRecord(open_prefix(WORKSPACE, "results"), run).stages()}


def small(registry: str, tag: str | None, gpus: int | None) -> Target:
    """The cluster's target, on the CPU unless VISIONLOOP_GPUS says otherwise, small enough for a node with two cores."""
    target = cluster(registry, tag, gpus or 0)

    def shrink(rows: Mapping[str, StagePolicy]) -> dict[str, StagePolicy]:
        return {
            name: replace(row, cpu_request="100m", memory_request="256Mi", shared_memory="256Mi")
            if row.shared_memory
            else replace(row, cpu_request="50m", memory_request="128Mi")
            for name, row in rows.items()
        }

    return replace(target, policies=shrink(target.policies), trainers=shrink(target.trainers))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Skips, with a sentence, without an endpoint and the cluster below it."""
    if not ENDPOINT:
        pytest.skip("KFP_HOST is not set: there is no Kubeflow Pipelines to test on")
    if not KUBECONFIG or shutil.which("kubectl") is None:
        pytest.skip("KUBECONFIG is not set, or kubectl is not installed: the pods can't be looked at")
    if not HOST:
        pytest.skip("VISIONLOOP_CLUSTER_HOST is not set: pods would not find this machine's S3 and MLflow")
    named = ("-n", NAMESPACE, "get", "secret,configmap", "--ignore-not-found", "-o", "name")
    replaced = {f"{entry['kind'].lower()}/{entry['metadata']['name']}" for entry in secrets_and_config({})}
    if replaced & set(kubectl(*named).split()):
        pytest.skip(f"the namespace {NAMESPACE} has Secrets or a ConfigMap of Visionloop, which a test would replace")
    folder = tmp_path_factory.mktemp("kfp")
    with (
        services.session(folder, host=HOST, page=True) as embedded,
        receiving(HOST) as receiver,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**embedded.environment(), **GIVEN, "VISIONLOOP_HOME": str(folder)}.items():
            patch.setenv(name, value)
        patch.setattr(kubeflow, "cluster", small)
        uri = f"s3://{services.DATASETS_BUCKET}/kfp-tiny"
        sample.write(open_prefix(uri, "results").write, train=24, val=8, test=8)
        variables = embedded.pod_environment()
        link = {LINK_VARIABLE: f"{ENDPOINT}/#/runs/details/{{run}}"}
        objects = secrets_and_config({**variables, **receiver.variables, **link}, NAMESPACE)
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        try:
            yield Endpoint(ENDPOINT, embedded, receiver, uri)
        finally:
            kubectl("-n", NAMESPACE, "delete", *sorted(replaced))


@pytest.fixture(autouse=True)
def environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the services and of the caller, for each test again."""
    for name, value in {**endpoint.services.environment(), **GIVEN}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def skipped(endpoint: Endpoint) -> kubeflow.KubeflowRun:
    """A run of the retraining pipeline whose policy allows no training, at its end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**endpoint.services.environment(), **GIVEN}.items():
            patch.setenv(name, value)
        run = endpoint.submit("Idle Digits", "retrain", retraining=json.dumps({"max_runs_per_week": 0}))
        endpoint.end(run)
    return run


@pytest.fixture(scope="module")
def trained(endpoint: Endpoint) -> tuple[kubeflow.KubeflowRun, dict[str, Any]]:
    """A run that has ended well."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**endpoint.services.environment(), **GIVEN}.items():
            patch.setenv(name, value)
        run = endpoint.submit("KFP Digits")
        return run, endpoint.end(run)


def pods(run: str, stage: str) -> list[dict[str, Any]]:
    """The pods that a run started for a stage, first try first."""
    selector = f"pipeline/runid={run},app.kubernetes.io/component={stage}"
    result = json.loads(kubectl("-n", NAMESPACE, "get", "pods", "-l", selector, "-o", "json"))["items"]
    return sorted(result, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def metadata(method: str) -> bytes:
    """What the metadata store answers to a question for everything, asked as the page asks: an empty message in one frame of gRPC-Web."""
    answer = urllib3.PoolManager().request(
        "POST",
        f"{ENDPOINT}/ml_metadata.MetadataStoreService/{method}",
        body=b"\0" * 5,
        headers={"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"},
    )
    if answer.status == 404:
        pytest.skip("KFP_HOST is the API alone: the page's address leads to the metadata too")
    assert answer.status == 200
    return answer.data


def until(probe: Callable[[], Any], seconds: float, what: str) -> Any:
    """Waits for something to be there; an endpoint that can't be reached for a moment is asked again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Transient):
            if value := probe():
                return value
        time.sleep(2)
    raise AssertionError(f"{what} did not come within {seconds:g} s")


def test_a_run_ends_with_a_registered_champion(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    run, summary = trained
    assert (summary["version"], summary["alias"], summary["verdict"]) == (1, "champion", "promote")
    wanted = dict.fromkeys(("snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup"), "succeeded")
    assert {stage: entry.state for stage, entry in endpoint.record(run.run).items()} == wanted

    def settled() -> bool:
        """Whether every task that the server lists has ended too: it calls a run succeeded a moment before its last tasks."""
        state = run.state()
        assert state.phase == "succeeded"
        listed = {step.stage: step.state for step in state.steps if step.state != "skipped"}
        return "train" in listed and listed.items() <= wanted.items()

    until(settled, 120, "every task's end")


def test_the_record_repeats_the_version_that_ran(trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]) -> None:
    run, _ = trained
    record = RunRecord(open_prefix(WORKSPACE, "results"), run.run).read()
    assert record is not None
    assert record.arguments[kubeflow.PIPELINE]["sha256"] == run.sha256
    reference = run.connection.client.get_run(run.run).pipeline_version_reference
    stored = run.connection.client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
    assert stored.display_name == record.arguments[kubeflow.PIPELINE]["version"]
    assert kubeflow.ir_hash(stored.pipeline_spec) == run.sha256


def test_artifacts_carry_the_receipts(trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]) -> None:
    _, summary = trained
    result = metadata("GetArtifacts")
    for stage in ("snapshot", "convert", "train", "evaluate"):
        assert summary["stages"][stage]["receipt"].encode() in result
    for kind in (b"system.Dataset", b"system.Model", b"system.Metrics", b"system.ClassificationMetrics"):
        assert kind in result


def test_the_exit_handler_tells_the_champion_and_keeps_the_receivers_address(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    run, summary = trained
    message = endpoint.message(run.run)
    assert (message["status"], message["title"]) == ("completed", "kfp-digits: version 1")
    assert message["text"] == "Version 1 is registered as champion."
    assert (message["verdict"], message["trace_id"]) == ("promote", summary["trace_id"])
    workflow = kubectl("-n", NAMESPACE, "get", "workflow", "-l", f"pipeline/runid={run.run}", "-o", "json")
    # The ways by which the address comes and goes are there, the address is not.
    assert URL_VARIABLE in workflow
    (pod,) = pods(run.run, "cleanup")
    log = kubectl("-n", NAMESPACE, "logs", pod["metadata"]["name"], "-c", "main")
    assert "final status" in log
    assert SECRET_PART not in workflow + log + json.dumps(pod)


def test_a_second_run_starts_no_training(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    run = endpoint.submit("KFP Digits")
    again = endpoint.end(run)
    assert all(stage["reused"] for name, stage in again["stages"].items() if name != "cleanup")
    assert again["version"] == trained[1]["version"]
    assert pods(run.run, "train") == pods(run.run, "evaluate") == []


def test_a_run_whose_workspace_cant_be_read_ends_with_what_the_engine_hands_on(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    metadata("GetExecutions")  # skips where the page, at whose address the outputs are, can't be reached
    run = endpoint.submit("KFP Digits")
    # Of the second, convert has found the evaluation.
    for ran, summary in (trained, (run, endpoint.end(run))):
        output = follow(ran, "s3://visionloop-elsewhere/kfp", ran.arguments)
        names = ("run", "model_name", "given_name", "version", "alias", "verdict", "reason", "metrics")
        assert {name: output[name] for name in names} == {name: summary[name] for name in names}
        assert output["metrics"]


def test_shards_give_what_a_run_without_them_gives(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    """In a workspace of its own, in which nothing is there yet."""
    workspace = f"{WORKSPACE}-shards"
    run = endpoint.submit("KFP Shards", workspace=workspace, shards="3")
    summary = follow(run, workspace, run.arguments)
    for stage in ("validate", "convert"):
        ours, theirs = (load(entry["stages"][stage]["receipt"], stage).receipt for entry in (summary, trained[1]))
        assert (ours.key, ours.digest) == (theirs.key, theirs.digest)
        parts = [
            receipt.receipt
            for key in open_prefix(workspace, "results").children(stage)[0]
            if (receipt := look(open_prefix(workspace, "results"), stage, key)) is not None
        ]
        shards = {part.parameters["shard"].value for part in parts if "shard" in part.parameters}
        assert shards == {"1/3", "2/3", "3/3"}


def test_a_retraining_that_its_policy_refuses_ends_succeeded_after_snapshot(
    endpoint: Endpoint, skipped: kubeflow.KubeflowRun
) -> None:
    assert skipped.state().phase == "succeeded"
    record = endpoint.record(skipped.run)
    assert set(record) == {"snapshot", "cleanup"}
    assert record["snapshot"].scalars["go"] == "false"
    assert record["snapshot"].scalars["reason"] == REFUSED
    assert len(pods(skipped.run, "snapshot")) == 1
    assert [pods(skipped.run, stage) for stage in ("validate", "train", "evaluate")] == [[], [], []]
    message = endpoint.message(skipped.run)
    assert (message["status"], message["title"], message["text"]) == ("completed", "Idle Digits: skipped", REFUSED)


def test_the_reason_is_an_output_of_the_decision(skipped: kubeflow.KubeflowRun) -> None:
    assert skipped.state().phase == "succeeded"
    assert REFUSED.encode() in metadata("GetExecutions")


def test_the_roc_curve_of_a_model_that_detects_is_an_artifact(endpoint: Endpoint) -> None:
    uri = f"s3://{services.DATASETS_BUCKET}/kfp-detected"
    sample.write(open_prefix(uri, "results").write, *demo.IMAGES["detection"])
    # The demo's training: the small ones of the other tests detect nothing.
    run = endpoint.submit("Detected Digits", dataset=uri, **arguments_for(TRAINER.demos["detection"]))
    summary = endpoint.end(run)
    evaluation = load(summary["stages"]["evaluate"]["receipt"], "evaluate")
    curve = msgspec.json.decode(evaluation.read(ROC), type=Curve)
    assert min(curve.right, curve.wrong) > 0
    result = metadata("GetArtifacts")
    # A number of the metadata is a double of eight bytes, the lowest first (google/protobuf/struct.proto).
    numbers = {*curve.fpr, *curve.tpr, *curve.threshold} - {0.0, 1.0}
    assert len(numbers) > 10
    assert [number for number in numbers if struct.pack("<d", number) not in result] == []
    assert b"confidenceMetrics" in result


def test_a_recurring_run_computes_once(
    endpoint: Endpoint, trained: tuple[kubeflow.KubeflowRun, dict[str, Any]]
) -> None:
    schedules = KubeflowSchedules(endpoint.host)
    arguments = {"workspace": WORKSPACE, "model_name": "Recurring Digits", "dataset": endpoint.dataset, **SETTINGS}
    schedules.create("visionloop-test", "retrain", arguments, Cron.parse("* * * * *"), "UTC")
    client = schedules._connection.client

    def deleted() -> bool:
        schedules.delete("visionloop-test")
        return True

    try:
        (recurring,) = [entry for entry in schedules._recurring_runs() if entry.display_name == "visionloop-test"]

        def ended() -> list[Any]:
            wanted = {"operation": 1, "key": "recurring_run_id", "stringValue": recurring.recurring_run_id}
            with schedules._connection.asking():
                runs = client.list_runs(
                    page_size=10, sort_by="created_at asc", filter=json.dumps({"predicates": [wanted]})
                ).runs
            results = [run for run in runs or () if run.state in ("SUCCEEDED", "FAILED")]
            return results if len(results) >= 2 else []

        first, second, *_ = until(ended, 1800, "the second run's end")
    finally:
        # Else it would start a run each minute for ever.
        until(deleted, 300, "the end of the schedule")
    assert (first.state, second.state) == ("SUCCEEDED", "SUCCEEDED")
    # The training itself is that of the runs before: its key knows no model's name.
    assert endpoint.record(first.run_id)["register"].scalars["version"] == 1
    assert endpoint.record(second.run_id)["snapshot"].reused
    assert pods(second.run_id, "train") == []


def test_the_notebook_runs_from_top_to_bottom(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "notebooks"))
    import notebook_process

    # The run on this machine registers its model in an MLflow of its own.
    here = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    here |= {"VISIONLOOP_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    here |= {"KFP_HOST": endpoint.host, "KFP_WORKSPACE": WORKSPACE, "KFP_DATASET": endpoint.dataset}
    made_small = f"import sys; sys.path[:0] = {sys.path}; import test_kfp; test_kfp.kubeflow.cluster = test_kfp.small"
    ran = notebook_process.run("kubeflow", tmp_path, here, 1800, made_small)
    assert ran.code == 0, ran.stderr
    followed, read = ran.cells[-2:]
    page, registered = followed.splitlines()
    assert page.startswith("notebook-digits ")
    assert f" {endpoint.host}/#/runs/details/" in page
    assert registered == "version 1 is champion (promote)"
    stages = [line.split(":")[0] for line in read.splitlines() if not line.startswith(" ")]
    assert stages == ["snapshot", "validate", "convert", "train", "evaluate", "register"]
    assert "mAP50" in read


def test_wrong_data_ends_at_once_with_its_sentence(endpoint: Endpoint) -> None:
    run = endpoint.submit("KFP Digits", dataset="s3://datasets/nothing")
    with pytest.raises(DatasetNotFound) as failed:
        endpoint.end(run)
    sentence = failed.value.sentence
    assert sentence.startswith("s3://datasets/nothing: no dataset lies there")
    tries = pods(run.run, "snapshot")
    logs = [kubectl("-n", NAMESPACE, "logs", pod["metadata"]["name"], "-c", "main") for pod in tries]
    assert logs
    assert all(sentence in log for log in logs)
    # Each remaining attempt ends by the record, without a look at the dataset.
    assert endpoint.record(run.run)["snapshot"].attempt == 1
    assert pods(run.run, "validate") == []
    message = endpoint.message(run.run)
    assert (message["status"], message["title"], message["text"]) == ("failed", "KFP Digits: snapshot failed", sentence)
    assert message["error"] == "DATASET_NOT_FOUND (exit code 65)"


def advancing(endpoint: Endpoint, run: kubeflow.KubeflowRun, epochs: int) -> str:
    """Waits until a run's training has so many epochs in its record; the pod that it runs in then."""

    def advanced() -> bool:
        state = endpoint.record(run.run).get("train")
        if state is None or not state.key:
            return False
        result = progress.read(open_prefix(f"{WORKSPACE}/train/{state.key}", "results"))
        return result is not None and result.epoch >= epochs

    until(advanced, 1200, f"epoch {epochs}")
    (running,) = [pod for pod in pods(run.run, "train") if pod["status"]["phase"] == "Running"]
    return str(running["metadata"]["name"])


def test_a_training_that_is_killed_resumes(endpoint: Endpoint) -> None:
    run = endpoint.submit("Killed Digits", epochs=8)
    name = advancing(endpoint, run, 2)
    subprocess.run(
        ["kubectl", "-n", NAMESPACE, "exec", name, "-c", "main", "--", "python", "-c", KILL],
        check=False,
        env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
    )
    summary = endpoint.end(run)
    assert summary["alias"] == "champion"
    state = endpoint.record(run.run)["train"]
    assert (state.state, state.attempt) == ("succeeded", 2)
    receipt = load(summary["stages"]["train"]["receipt"], "train").receipt
    assert receipt.attempt == state.attempts[-1]


def test_a_training_whose_pod_is_lost_resumes_in_another(endpoint: Endpoint) -> None:
    # As many epochs as no other training has: with the same key it would be that one's.
    run = endpoint.submit("Lost Digits", epochs=9)
    lost = advancing(endpoint, run, 1)
    kubectl("-n", NAMESPACE, "delete", "pod", lost, "--wait=false")
    attempts = 2
    try:
        summary = endpoint.end(run)
    except VisionloopError:
        # Without KFP's own settings Argo tries no lost pod again: then the next run goes on where this one ended.
        assert [pod for pod in pods(run.run, "train") if pod["metadata"]["name"] != lost] == []
        message = endpoint.message(run.run)
        assert (message["status"], message["title"]) == ("failed", "Lost Digits: train failed")
        assert "checkpoint" in message["kept"]
        run, attempts = endpoint.submit("Lost Digits", epochs=9), 1
        summary = endpoint.end(run)
    assert run.state().phase == "succeeded"
    assert (summary["version"], summary["alias"]) == (1, "champion")
    state = endpoint.record(run.run)["train"]
    assert (state.state, state.attempt) == ("succeeded", attempts)
    names = [str(pod["metadata"]["name"]) for pod in pods(run.run, "train")]
    assert [name for name in names if name != lost] == names[-1:]
    assert "train: resuming after epoch" in kubectl("-n", NAMESPACE, "logs", names[-1], "-c", "main")
