"""The train workflow disturbed at random moments on a real Argo: whatever is lost, it is time.

CHAOS_SEED decides the moments, CLUSTER_CHAOS_ROUNDS how many workflows are disturbed (the kinds in turn), and the figures
are written to CLUSTER_CHAOS_REPORT (``build/cluster-chaos.json``). The table of docs/reliability.md is one such run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from faulty_relay import FaultyRelay
from kubernetes_cluster import HOST, Cluster, kubectl, steps, until

from visionloop.core import progress, receipts
from visionloop.core.storage import Prefix, open_prefix
from visionloop.pipelines.engines.pods import STAGE_LABEL

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("CLUSTER_CHAOS_ROUNDS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
REPORT = Path(os.environ.get("CLUSTER_CHAOS_REPORT", ROOT / "build" / "cluster-chaos.json"))

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.timeout(1800 + 900 * ROUNDS)]

EPOCHS = 6
SETTINGS = {
    "model": "yolo11n.yaml",
    "imgsz": "64",
    "epochs": str(EPOCHS),
    "advanced_config": json.dumps({"mosaic": 0, "workers": 0}),
    "gate": json.dumps({"floor": 0}),
}

#: The seconds after its start within which a stage's pod is disturbed: not quite as long as it works.
LONGEST = {"snapshot": 2.0, "validate": 2.0, "convert": 3.0, "train": 40.0, "evaluate": 20.0, "register": 4.0}

#: The folders of a workspace that hold stages' results.
STAGES = tuple(LONGEST)

#: What lies beside a key's attempts and stays: the receipt, and which tracker's run belongs to it.
KEPT = {receipts.FILE, "tracking.json"}

#: Where Argo's own manifests install its controller.
CONTROLLER = ("-n", "argo", "deployment/workflow-controller")


@dataclass
class Round:
    """One workflow: how it was disturbed, and how it ended."""

    kind: str
    moment: str = ""
    hit: bool = False
    epochs_kept: int = 0
    phase: str = ""
    train_attempts: int = 0
    attempts: int = 0
    resumed: bool = False
    digest_equal: bool = False
    versions: int = 0
    orphans: list[str] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    messages: list[str] = field(default_factory=list)


@dataclass
class Disturbed:
    """A workflow that runs, what it computes in, and the chance by which it is disturbed."""

    cluster: Cluster
    name: str
    workflow: str
    workspace: Prefix
    relay: FaultyRelay
    chance: random.Random
    outcome: Round

    def pod(self, stage: str) -> str | None:
        """The stage's pod, once it runs; None if the workflow is over."""
        return self.cluster.running(self.workflow, stage)

    def delete(self, pod: str, *words: str) -> bool:
        """Deletes a pod, without waiting for it; False if it was over."""
        name = ("-n", self.cluster.namespace, "pod", pod)
        if kubectl("get", *name, "--ignore-not-found", "-o", "jsonpath={.status.phase}") != "Running":
            return False
        self.outcome.epochs_kept, self.outcome.hit = self.epochs(), True
        kubectl("delete", *name, "--wait=false", "--ignore-not-found", *words)
        return True

    def epochs(self) -> int:
        """Epochs of the training whose checkpoint is durable; all of them once its receipt is there."""
        keys, _ = self.workspace.children("train")
        if not keys:
            return 0
        prefix = self.workspace.child(f"train/{keys[0]}")
        recorded = progress.read(prefix)
        if recorded is not None:
            return recorded.epoch
        return EPOCHS if receipts.look(self.workspace, "train", keys[0]) else 0

    def moment(self, what: str, longest: float) -> None:
        """Waits some random time after something was seen, and writes both down."""
        delay = self.chance.uniform(0, longest)
        time.sleep(delay)
        self.outcome.moment = f"{what}, {delay:.1f} s"


def delete_a_pod(run: Disturbed, *words: str) -> None:
    """Some stage's pod, some time after it began to run; a later stage's if that one was over by then."""
    for stage in STAGES[run.chance.randrange(len(STAGES)) :]:
        pod = run.pod(stage)
        if pod is not None:
            run.moment(stage, LONGEST[stage])
            if run.delete(pod, *words):
                return


def delete_a_pod_by_force(run: Disturbed) -> None:
    """The same, and the API forgets the pod at once, whatever its node still does."""
    delete_a_pod(run, "--force", "--grace-period=0")


def stop_the_controller(run: Disturbed) -> None:
    """Argo's controller is gone for a minute."""
    namespace, name = CONTROLLER[:2], CONTROLLER[2]
    replicas = kubectl(*namespace, "get", name, "-o", "jsonpath={.spec.replicas}")
    run.moment("after the submission", 60)
    run.outcome.hit = True
    kubectl(*namespace, "scale", name, "--replicas=0")
    try:
        time.sleep(60)
    finally:
        kubectl(*namespace, "scale", name, f"--replicas={replicas or 1}")


def let_the_store_answer_503(run: Disturbed) -> None:
    """The store is out for some seconds, while some stage works."""
    stage = run.chance.choice(STAGES)
    run.pod(stage)
    run.moment(stage, LONGEST[stage])
    before = run.relay.refused
    run.relay.outage(run.chance.uniform(10, 40))
    run.outcome.refused = run.relay.refused - before
    run.outcome.hit = run.outcome.refused > 0


def preempt_the_training(run: Disturbed) -> None:
    """The training pod loses its place after an epoch is done: the scheduler's and the kubelet's DELETE, with the pod's grace."""
    pod = run.pod("train")
    assert pod
    until(run.epochs, "an epoch of the training", 600)
    run.moment("train, an epoch done", 4)
    run.delete(pod)


KINDS: dict[str, Callable[[Disturbed], None]] = {
    "a pod deleted": delete_a_pod,
    "a pod deleted by force": delete_a_pod_by_force,
    "the controller gone for a minute": stop_the_controller,
    "the store answers 503": let_the_store_answer_503,
    "the training pre-empted": preempt_the_training,
}


@pytest.fixture(scope="module")
def relay(cluster: Cluster) -> Iterator[FaultyRelay]:
    """The pods' way to the store, for this module."""
    port = int(urlsplit(cluster.services.endpoint).port or 0)
    with FaultyRelay(str(HOST), port) as result, _endpoints(cluster, result.url):
        yield result


@contextlib.contextmanager
def _endpoints(cluster: Cluster, url: str) -> Iterator[None]:
    def put(endpoint: str) -> None:
        data = {f"{role}_S3_ENDPOINT": endpoint for role in ("INTERNAL", "EXTERNAL")}
        patch = json.dumps({"data": data})
        kubectl("-n", cluster.namespace, "patch", "configmap", "visionloop", "--type=merge", "-p", patch)

    put(url)
    try:
        yield
    finally:
        put(str(cluster.services.host_endpoint))


@pytest.fixture
def stores(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's own way to the store, which no outage cuts."""
    for name, value in cluster.services.environment().items():
        monkeypatch.setenv(name, value)


def submit(cluster: Cluster, dataset: str, name: str) -> tuple[str, Prefix]:
    """Starts a training with a workspace and a model of its own."""
    uri = f"s3://visionloop/chaos/{name}"
    return cluster.submit(dataset=dataset, workspace=uri, model_name=name, **SETTINGS), open_prefix(uri, "results")


def training(workspace: Prefix) -> receipts.Receipt:
    """The one training of a workspace."""
    (key,) = workspace.children("train")[0]
    result = receipts.look(workspace, "train", key)
    assert result is not None
    assert result.intact()
    return result.receipt


def orphans(workspace: Prefix) -> list[str]:
    """Objects in the stages' folders that belong to no result."""
    left = []
    for stage in STAGES:
        for key in workspace.children(stage)[0]:
            result = receipts.look(workspace, stage, key)
            kept = KEPT | ({entry.path for entry in result.receipt.outputs.values()} if result else set())
            left += [
                f"{stage}/{key}/{info.key}"
                for info in workspace.child(f"{stage}/{key}").objects()
                if info.key not in kept
            ]
    return left


def versions(cluster: Cluster, name: str) -> int:
    """How many versions the registry has of a model."""
    path = cluster.services.tracking_uri.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT current_stage FROM model_versions WHERE name = ?", [name]).fetchall()
    return sum(stage != "Deleted_Internal" for (stage,) in rows)


def logs(cluster: Cluster, workflow: str, stage: str) -> str:
    """What the pods of a stage have said that are still there."""
    selector = f"workflows.argoproj.io/workflow={workflow},{STAGE_LABEL}={stage}"
    return kubectl("-n", cluster.namespace, "logs", "-l", selector, "-c", "main", "--tail=-1", "--ignore-errors")


def finish(run: Disturbed, digest: str) -> None:
    """Waits for the workflow's end, and writes down what came of it."""
    ended = run.cluster.wait(run.workflow)
    result = run.outcome
    result.phase = ended["status"]["phase"]
    result.attempts, result.train_attempts = len(steps(ended)), len(steps(ended, "train"))
    result.messages = [str(node["message"]) for node in steps(ended) if node.get("message")]
    result.resumed = "resuming after epoch" in logs(run.cluster, run.workflow, "train")
    result.orphans = orphans(run.workspace)
    result.versions = versions(run.cluster, run.name)
    if result.phase == "Succeeded":
        result.digest_equal = training(run.workspace).digest == digest


def start(
    outcome: Round, name: str, cluster: Cluster, dataset: str, relay: FaultyRelay, chance: random.Random
) -> Disturbed:
    """Starts the workflow of a round."""
    workflow, workspace = submit(cluster, dataset, name)
    return Disturbed(cluster, name, workflow, workspace, relay, chance, outcome)


@pytest.mark.usefixtures("stores")
def test_disturbances_at_random_moments_lose_nothing_but_time(
    cluster: Cluster, dataset: str, relay: FaultyRelay
) -> None:
    chance = random.Random(SEED)
    began = time.monotonic()
    workflow, workspace = submit(cluster, dataset, "undisturbed")
    cluster.wait(workflow, phase="Succeeded")
    fields: dict[str, Any] = {"seed": SEED, "undisturbed_seconds": round(time.monotonic() - began, 1), "rounds": []}
    digest = training(workspace).digest
    assert orphans(workspace) == []
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    rounds = []
    for number in range(ROUNDS):
        kind = list(KINDS)[number % len(KINDS)]
        began = time.monotonic()
        result = Round(kind)
        rounds.append(result)
        try:
            run = start(result, f"round-{number + 1}", cluster, dataset, relay, chance)
            KINDS[kind](run)
            finish(run, digest)
        except Exception as error:  # noqa: BLE001 - the other rounds still tell something
            result.messages.append(f"the test: {error}")
        result.seconds = round(time.monotonic() - began, 1)
        fields["rounds"].append(asdict(result))
        REPORT.write_text(json.dumps(fields, indent=2) + "\n")
        print(f"round {number + 1}: {result}", flush=True)
    print(table(rounds))
    assert any(entry.hit for entry in rounds), "no disturbance came in time"
    for entry in rounds:
        assert (entry.phase, entry.versions, entry.orphans) == ("Succeeded", 1, []), entry
        assert entry.digest_equal, entry
        # An attempt that follows one which began a checkpoint goes on from it.
        if entry.train_attempts > 1 and 0 < entry.epochs_kept < EPOCHS:
            assert entry.resumed, entry


def table(rounds: list[Round]) -> str:
    """The table of docs/reliability.md: a row a kind."""
    lines = [
        "| disturbed by | rounds | in time | while | epochs kept | trainings resumed | Succeeded | digest equal | versions | orphans |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        results = [entry for entry in rounds if entry.kind == kind]
        if not results:
            continue
        count = len(results)
        stages = ", ".join(sorted({entry.moment.split(",")[0] for entry in results}))
        cut = [entry for entry in results if entry.train_attempts > 1]
        kept = sorted({entry.epochs_kept for entry in cut})
        lines.append(
            f"| {kind} | {count} | {sum(entry.hit for entry in results)} | {stages} | {', '.join(map(str, kept)) or '-'} "
            f"| {sum(entry.resumed for entry in cut)} of {sum(0 < entry.epochs_kept < EPOCHS for entry in cut)} "
            f"| {sum(entry.phase == 'Succeeded' for entry in results)} of {count} "
            f"| {sum(entry.digest_equal for entry in results)} of {count} "
            f"| {', '.join(sorted({str(entry.versions) for entry in results}))} | {sum(len(entry.orphans) for entry in results)} |"
        )
    return "\n".join(lines)
