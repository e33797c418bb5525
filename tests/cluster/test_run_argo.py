"""``visionloop run train --engine argo`` on a real Argo: followed in a pipe and on a terminal, left, and come back to."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes_cluster import KUBECONFIG, STAGE_IMAGE, Cluster, kubectl, outputs, steps

from visionloop.core.names import sanitise
from visionloop.core.receipts import load
from visionloop.pipelines.engines.argo.client import KubernetesApi

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

#: Argo's server, read before any test's clean environment takes it away.
ARGO_SERVER = os.environ.get("ARGO_SERVER")
ARGO_SECURE = os.environ.get("ARGO_SECURE", "true")

MODEL = "Followed Digits"
TRACE = "0f5c1c2e-follow"
#: Epochs that no test waits for.
LONG = 200
SETTINGS = ["model=yolo11n.yaml", "imgsz=64", "epochs=2", "mosaic=0", "workers=0"]
COMMAND = [str(Path(sys.executable).with_name("visionloop"))]


@pytest.fixture(scope="module")
def variables(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a person who may use the cluster and the stores."""
    return plain(tmp_path_factory.mktemp("person")) | cluster.services.environment() | {"KUBECONFIG": str(KUBECONFIG)}


def plain(home: Path) -> dict[str, str]:
    """The variables of a person who has neither keys nor a cluster."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "VISIONLOOP_HOME": str(home / "services"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "120",
    }


def visionloop(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, env=environment, timeout=900)


def train(cluster: Cluster, dataset: str, *more: str) -> list[str]:
    words = ["run", "train", "--engine", "argo", "--namespace", cluster.namespace, "--dataset", dataset]
    words += ["--workspace", "s3://visionloop/followed", "--model-name", MODEL, "--gate", '{"floor": 0}', *more]
    return [*words, *(word for setting in SETTINGS for word in ("--set", setting))]


def summary(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def piped(cluster: Cluster, variables: dict[str, str], dataset: str) -> subprocess.CompletedProcess[str]:
    """A whole training, followed without a terminal."""
    return visionloop(*train(cluster, dataset, "--trace-id", TRACE), environment=variables)


@pytest.fixture(scope="module")
def name(piped: subprocess.CompletedProcess[str]) -> str:
    """The workflow's name, as the line that follows its submission tells it."""
    (told,) = re.findall(r"^(visionloop-train-\w+)  argo$", piped.stderr, re.MULTILINE)
    return str(told)


def test_a_run_ends_with_the_registered_version(piped: subprocess.CompletedProcess[str]) -> None:
    assert piped.returncode == 0, piped.stderr
    output = summary(piped)
    assert {field: output[field] for field in ("model_name", "version", "alias", "verdict", "trace_id")} == {
        "model_name": "followed-digits",
        "version": 1,
        "alias": "champion",
        "verdict": "promote",
        "trace_id": TRACE,
    }
    assert set(output["stages"]) == {"snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup"}
    assert output["metrics"]
    assert output["seconds"] > 0


def test_lines_tell_stages_epochs_and_metrics(piped: subprocess.CompletedProcess[str]) -> None:
    for stage in ("snapshot", "validate", "convert", "train", "evaluate", "register", "cleanup"):
        assert re.search(rf"^✓ {stage} +done in ", piped.stderr, re.MULTILINE), piped.stderr
    assert re.search(r"^● train +epoch [12]/2 .*mAP50 ", piped.stderr, re.MULTILINE), piped.stderr
    assert "\x1b" not in piped.stderr


def test_a_run_is_found_by_its_trace_id_and_its_dataset(cluster: Cluster, name: str) -> None:
    for label in (f"visionloop/trace-id={TRACE}", "visionloop/dataset=tiny", "visionloop/model=followed-digits"):
        assert name in kubectl("-n", cluster.namespace, "get", "workflows", "-l", label, "-o", "name")


def test_the_champion_is_measured_from_here(
    cluster: Cluster, variables: dict[str, str], dataset: str, piped: subprocess.CompletedProcess[str]
) -> None:
    model = f"{summary(piped)['model_name']}@champion"
    words = ["run", "evaluate", "--model", model, "--dataset", dataset, "--workspace", "s3://visionloop/followed"]
    ended = visionloop(*words, "--split-name", "val", *at(cluster), environment=variables)
    assert ended.returncode == 0, ended.stderr
    output = summary(ended)
    assert set(output["stages"]) == {"snapshot", "validate", "convert", "evaluate", "cleanup"}
    assert (output["verdict"], output["measured"]["split"]) == ("none", "val")


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_come_back(
    cluster: Cluster, variables: dict[str, str], dataset: str, piped: subprocess.CompletedProcess[str]
) -> None:
    code, screen = on_a_terminal(train(cluster, dataset), variables, until="✓ snapshot", key=b"\x03")
    assert code == 130, screen
    assert "\x1b" in screen
    screen_text = plain_text(screen.encode())
    match = re.search(
        r"the run goes on; come back with: visionloop (run follow (\S+) --engine argo \S+ \S+)", screen_text
    )
    assert match, screen_text
    assert cluster.workflow(match[2])["status"]["phase"] == "Running"

    left = subprocess.Popen(
        [*COMMAND, *match[1].split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    )
    assert left.stderr is not None
    assert match[2] in left.stderr.readline()
    left.send_signal(signal.SIGTERM)
    out, err = left.communicate(timeout=60)
    assert left.returncode == 143, err
    assert out == ""
    assert "the run goes on" in err.splitlines()[-1]

    again = visionloop(*match[1].split(), environment=variables)
    assert again.returncode == 0, again.stderr
    told_again = summary(again)
    assert told_again["version"] == summary(piped)["version"]
    assert {stage: told_again["stages"][stage]["reused"] for stage in ("train", "evaluate")} == dict.fromkeys(
        ("train", "evaluate"), True
    )
    assert re.search(r"^✓ train +reused$", again.stderr, re.MULTILINE), again.stderr


def on_a_terminal(words: list[str], environment: dict[str, str], *, until: str, key: bytes) -> tuple[int, str]:
    """Runs a command on a terminal of its own, presses a key once it shows a text, and returns its exit code and screen."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(COMMAND[0], [*COMMAND, *words], {**environment, "TERM": "xterm"})
    shown, pressed, end = b"", False, time.monotonic() + 300
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:
                break
        if not pressed and until in plain_text(shown):
            os.write(terminal, key)
            pressed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode(errors="replace")


def plain_text(shown: bytes) -> str:
    """What a terminal shows, without its control sequences and with single spaces."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace")).split())


def test_wrong_data_ends_with_its_sentence_and_code(cluster: Cluster, variables: dict[str, str]) -> None:
    ended = visionloop(*train(cluster, "s3://datasets/nothing"), environment=variables)
    assert ended.returncode == 65, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("s3://datasets/nothing: no dataset lies there")


def test_a_retraining_that_is_not_worth_it_ends_well(
    cluster: Cluster, variables: dict[str, str], dataset: str, piped: subprocess.CompletedProcess[str]
) -> None:
    words = train(cluster, dataset, "--retraining", '{"min_new_images": 1}')
    ended = visionloop(*("retrain" if word == "train" else word for word in words), environment=variables)
    assert ended.returncode == 0, ended.stderr
    output = summary(ended)
    assert (output["version"], output["verdict"], list(output["stages"])) == (None, None, ["snapshot", "cleanup"])
    assert "note: snapshot: skipped: the dataset is still the champion's snap_" in ended.stderr
    assert output["reason"].startswith("skipped: the dataset is still the champion's snap_")


def test_without_keys_the_engine_tells_what_it_knows(
    cluster: Cluster, variables: dict[str, str], name: str, tmp_path: Path
) -> None:
    environment = plain(tmp_path) | {"KUBECONFIG": str(KUBECONFIG)}
    ended = visionloop("run", "follow", name, "--namespace", cluster.namespace, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("the workspace can't be read here") == 1, ended.stderr
    output = summary(ended)
    assert (output["version"], output["alias"], output["model_name"]) == (1, "champion", sanitise(MODEL))
    assert output["stages"]["register"]["receipt"].endswith("/receipt.json")


def test_a_submitted_run_is_left_alone_at_once(cluster: Cluster, variables: dict[str, str]) -> None:
    ended = visionloop(*train(cluster, "s3://datasets/nothing", "--detach"), environment=variables)
    assert ended.returncode == 0, ended.stderr
    output = summary(ended)
    assert f"visionloop run follow {output['name']} --engine argo --namespace {cluster.namespace}" in ended.stderr
    assert cluster.workflow(output["name"])["metadata"]["uid"] == output["run"]


def test_the_engines_reason_for_waiting_is_shown(cluster: Cluster, variables: dict[str, str], dataset: str) -> None:
    """No node of this cluster has nine GPUs, so a training waits for ever, and another of the same model for it."""
    words = [*train(cluster, dataset), "--parameter", "gpus=9", "--set", "lr0=0.002"]
    code, screen = on_a_terminal(words, variables, until="Insufficient nvidia.com/gpu", key=b"\x03")
    assert code == 130, screen
    assert "… train Unschedulable: " in plain_text(screen.encode())
    waits = on_a_terminal(
        words, variables, until="another run holds the lock visionloop-train-followed-digits", key=b"\x03"
    )
    assert waits[0] == 130, waits[1]
    match = [re.search(r"visionloop-train-\w{5}", text)[0] for text in (screen, waits[1])]  # type: ignore[index]
    kubectl("-n", cluster.namespace, "delete", "workflow", *match)
    ended = visionloop("run", "follow", match[0], "--namespace", cluster.namespace, environment=variables)
    assert ended.returncode == 78
    assert f"has no workflow {match[0]}" in ended.stderr


def test_a_pod_that_kueue_holds_back_names_its_queue(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """The pod is made as Kueue's webhook leaves it; without Kueue there is no Workload that says more."""
    metadata = {
        "name": "held-back",
        "labels": {"workflows.argoproj.io/workflow": "held", "kueue.x-k8s.io/queue-name": "visionloop-training"},
        "annotations": {"workflows.argoproj.io/node-id": "held-1"},
    }
    spec = {
        "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "main",
                "image": STAGE_IMAGE,
                "resources": {name: {"cpu": "10m", "memory": "16Mi"} for name in ("requests", "limits")},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    monkeypatch.setenv("KUBECONFIG", variables["KUBECONFIG"])
    client = KubernetesApi()
    assert str(client.queued(cluster.namespace, "held", "held-1")).startswith("in Kueue's queue visionloop-training")
    assert client.queued(cluster.namespace, "held", "held-2") is None


def test_a_stopped_training_is_evaluated_and_registered_under_its_own_key(
    cluster: Cluster, variables: dict[str, str], dataset: str
) -> None:
    name = begun(cluster, variables, dataset, model="Stopped Digits")
    asked = visionloop("run", "stop", name, "--then", "evaluate", *at(cluster), environment=variables)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {"run": name, "stopped": True, "ended": None}

    ended = visionloop("run", "follow", name, *at(cluster), environment=variables)
    assert ended.returncode == 0, ended.stderr
    output = summary(ended)
    assert (output["version"], output["alias"]) == (1, "champion")
    (train,) = [step for step in steps(cluster.workflow(name), "train") if step["phase"] == "Succeeded"]
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in cluster.services.environment().items():
            patch.setenv(variable, value)
        receipt = load(outputs(train)["receipt"], "train").receipt
    assert 1 <= int(receipt.scalars["stopped_after_epoch"]) < LONG  # type: ignore[arg-type]
    assert receipt.parameters["stopped_after_epoch"].value == receipt.scalars["stopped_after_epoch"]

    again = visionloop("run", "stop", name, *at(cluster), environment=variables)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"run": name, "stopped": False, "ended": "succeeded"}


def test_a_cancelled_run_ends_at_once_and_is_cleaned_up(
    cluster: Cluster, variables: dict[str, str], dataset: str
) -> None:
    name = begun(cluster, variables, dataset, model="Cancelled Digits")
    asked = visionloop("run", "cancel", name, *at(cluster), environment=variables)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == {"run": name, "cancelled": True, "ended": None}
    ended = cluster.wait(name, seconds=300)
    assert steps(ended, "evaluate") == steps(ended, "register") == [], cluster.account(ended)
    assert [step["phase"] for step in steps(ended, "cleanup")] == ["Succeeded"], cluster.account(ended)

    again = visionloop("run", "cancel", name, *at(cluster), environment=variables)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["ended"] in ("cancelled", "failed")


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_run_that_is_not_there_is_named(cluster: Cluster, variables: dict[str, str], verb: str) -> None:
    ended = visionloop("run", verb, "no-such-run", *at(cluster), environment=variables)
    assert ended.returncode == 78, ended.stderr
    assert "no-such-run" in ended.stderr.splitlines()[-1]


def begun(cluster: Cluster, variables: dict[str, str], dataset: str, *, model: str) -> str:
    """Submits a training of very many epochs, and returns its workflow's name once its pod runs."""
    words = [word.replace("epochs=2", f"epochs={LONG}") for word in train(cluster, dataset, "--detach")]
    words[words.index("--model-name") + 1] = model
    submitted = visionloop(*words, environment=variables)
    assert submitted.returncode == 0, submitted.stderr
    name = str(summary(submitted)["name"])
    assert cluster.running(name, "train")
    return name


def at(cluster: Cluster) -> list[str]:
    return ["--engine", "argo", "--namespace", cluster.namespace]


@pytest.mark.parametrize("through", ["the Kubernetes API", "Argo's server"])
def test_the_notebook_runs_from_top_to_bottom(
    through: str,
    cluster: Cluster,
    variables: dict[str, str],
    dataset: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its training is that of the other tests, which is found again; without their floor of 0 its mAP of 0 makes no champion."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "notebooks"))
    import notebook_process

    here = {"ARGO_NAMESPACE": cluster.namespace, "ARGO_DATASET": dataset, "ARGO_WORKSPACE": "s3://visionloop/followed"}
    reached = variables
    if through == "Argo's server":
        if not ARGO_SERVER:
            pytest.skip("ARGO_SERVER is not set: there is no Argo server to ask")
        reached = variables | {"ARGO_SERVER": ARGO_SERVER, "ARGO_SECURE": ARGO_SECURE}
        del reached["KUBECONFIG"]
    ran = notebook_process.run("argo-and-hera", tmp_path, reached | here)
    assert ran.code == 0, ran.stderr
    followed, steps, results = ran.cells[-3:]
    assert followed == "notebook-digits version 1 is challenger (keep)\n"
    assert re.search(r"^train +skipped ", steps, re.MULTILINE)
    assert re.search(r"^train: \w{12}, \d+ outputs, reused: True$", results, re.MULTILINE)
    assert "mAP50" in results


def test_a_namespace_without_the_template_is_named(variables: dict[str, str], dataset: str, cluster: Cluster) -> None:
    words = train(cluster, dataset)
    words[words.index("--namespace") + 1] = "default"
    ended = visionloop(*words, environment=variables)
    assert ended.returncode == 78
    assert ended.stderr.splitlines()[-1].startswith("The namespace default has no WorkflowTemplate visionloop-train")


def test_an_unknown_parameter_is_named(variables: dict[str, str], dataset: str, cluster: Cluster) -> None:
    ended = visionloop(*train(cluster, dataset, "--parameter", "pods=3"), environment=variables)
    assert ended.returncode == 78
    assert "visionloop-train has no parameter 'pods'" in ended.stderr


def test_a_caller_without_rights_is_told_so(
    cluster: Cluster, variables: dict[str, str], dataset: str, tmp_path: Path
) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    token = kubectl("-n", cluster.namespace, "create", "token", "nobody").strip()
    existing = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    existing["users"][0]["user"] = {"token": token}
    (tmp_path / "config").write_text(json.dumps(existing))
    ended = visionloop(*train(cluster, dataset), environment=variables | {"KUBECONFIG": str(tmp_path / "config")})
    assert ended.returncode == 77, ended.stderr
    *before, last = ended.stderr.splitlines()
    assert "access refused" in last
    assert [line.partition(" ")[0] for line in before] == ["train", "trainer", "not"], ended.stderr


def test_argos_server_is_asked_where_it_is_named(
    cluster: Cluster, variables: dict[str, str], name: str, tmp_path: Path
) -> None:
    if not ARGO_SERVER:
        pytest.skip("ARGO_SERVER is not set: there is no Argo server to ask")
    environment = variables | {"ARGO_SERVER": ARGO_SERVER, "ARGO_SECURE": ARGO_SECURE}
    del environment["KUBECONFIG"]
    ended = visionloop("run", "follow", name, "--namespace", cluster.namespace, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert summary(ended)["version"] == 1
    assert f"/workflows/{cluster.namespace}/{name}" in ended.stderr.splitlines()[0]
    failed = visionloop(*train(cluster, "s3://datasets/nothing"), environment=environment)
    assert failed.returncode == 65, failed.stderr
