"""What ``make kind-up`` and ``make kind-demo`` do after the cluster and Argo are there, with S3 and MLflow in the cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import KUBECONFIG, MANIFESTS, STAGE_IMAGE, kubectl, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SCRIPT = MANIFESTS / "kind" / "kind.sh"

#: A training of a minute, in place of the demo's own.
TINY = ("model=yolo11n.yaml", "imgsz=64", "epochs=2", "mosaic=0", "workers=0")


def script(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG), **variables}
    environment["VISIONLOOP"] = str(Path(sys.executable).parent / "visionloop")
    return subprocess.run(
        [str(SCRIPT), *words], capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def variables(argo: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The script's variables for a namespace of its own, gone at the end."""
    folder = tmp_path_factory.mktemp("kind")
    namespace = f"visionloop-test-{uuid.uuid4().hex[:6]}"
    overlay = os.path.relpath(MANIFESTS / "overlays" / "kind", folder)
    made: dict[str, Any] = {"namespace": namespace, "resources": [overlay]}
    classes = json.loads(kubectl("get", "storageclasses", "-o", "json"))["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    if not any(entry["metadata"].get("annotations", {}).get(default) == "true" for entry in classes):
        # Nobody here makes volumes: the pods' own folders serve.
        volume = {"op": "replace", "path": "/spec/template/spec/volumes/0", "value": {"name": "data", "emptyDir": {}}}
        made["patches"] = [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([volume])}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    try:
        yield {"NAMESPACE": namespace, "OVERLAY": str(folder)}
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="module")
def installed(variables: dict[str, str]) -> dict[str, str]:
    done = script("apply", **variables)
    assert done.returncode == 0, done.stderr
    return variables


def keys(variables: dict[str, str]) -> dict[str, str]:
    named = ("visionloop-dataset", "visionloop-results")
    result = json.loads(kubectl("-n", variables["NAMESPACE"], "get", "secret", *named, "-o", "json"))["items"]
    return {name: value for entry in result for name, value in entry["data"].items()}


def test_a_second_apply_keeps_the_keys(installed: dict[str, str]) -> None:
    before = keys(installed)
    assert sorted(before) == [
        f"{role}_S3_{key}_KEY" for role in ("EXTERNAL", "INTERNAL") for key in ("ACCESS", "SECRET")
    ]
    done = script("apply", **installed)
    assert done.returncode == 0, done.stderr
    assert keys(installed) == before
    assert not [key for key in before.values() if key in done.stdout + done.stderr]


def test_the_store_answers_nobody_without_its_keys(installed: dict[str, str]) -> None:
    asked = (
        "import sys, urllib.request, urllib.error\n"
        "try: urllib.request.urlopen('http://visionloop-store:8333/datasets')\n"
        "except urllib.error.HTTPError as error: sys.exit(0 if error.code == 403 else 1)\n"
        "sys.exit(1)"
    )
    kubectl(
        "-n", installed["NAMESPACE"], "exec", "deploy/visionloop-mlflow", "-c", "mlflow", "--", "python", "-c", asked
    )


def test_the_demo_registers_a_model_in_the_cluster(installed: dict[str, str]) -> None:
    done = script("demo", *TINY, **installed)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["model_name"] == "sample-digits"
    assert str(summary["version"]) == "1"


def test_mlflow_keeps_its_models_when_its_pod_goes(installed: dict[str, str]) -> None:
    claims = json.loads(kubectl("-n", installed["NAMESPACE"], "get", "pvc", "-o", "json"))["items"]
    if not all(entry["status"]["phase"] == "Bound" for entry in claims):
        pytest.skip("the cluster has no default StorageClass: nothing outlives a pod")
    namespace = ("-n", installed["NAMESPACE"])
    inside = (*namespace, "exec", "deploy/visionloop-mlflow", "-c", "mlflow", "--", "python", "-c")
    url = "http://localhost:5000/api/2.0/mlflow/registered-models"
    made = (
        "import json, urllib.request\n"
        f"request = urllib.request.Request('{url}/create', json.dumps({{'name': 'kept'}}).encode(),"
        " {'Content-Type': 'application/json'})\n"
        "urllib.request.urlopen(request)"
    )
    kubectl(*inside, made)
    # The old pod is gone before the new one starts, and that one is ready when it answers.
    kubectl(*namespace, "rollout", "restart", "deployment/visionloop-mlflow")
    kubectl(*namespace, "rollout", "status", "deployment/visionloop-mlflow", "--timeout=300s")
    kubectl(*inside, f"import urllib.request; urllib.request.urlopen('{url}/get?name=kept')")


def test_the_pods_of_kubeflow_pipelines_reach_the_stores_with_the_same_keys(installed: dict[str, str]) -> None:
    namespace = f"{installed['NAMESPACE']}-kfp"
    program = (
        "import urllib.request\n"
        "from visionloop.core.storage import open_prefix\n"
        "assert urllib.request.urlopen('http://visionloop-mlflow:5000/health').status == 200\n"
        "open_prefix('s3://visionloop/shared', 'results').write('file', b'of a pod in another namespace')\n"
    )
    container = {
        "name": "main",
        "image": STAGE_IMAGE,
        "command": ["python", "-c", program],
        "envFrom": [{"configMapRef": {"name": "visionloop"}}, {"secretRef": {"name": "visionloop-results"}}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reaches"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    kubectl("create", "namespace", namespace)
    try:
        # Twice: kind.sh up may be run again.
        for _ in range(2):
            done = script("share", KUBEFLOW=namespace, **installed)
            assert done.returncode == 0, done.stderr
        assert not [key for key in keys(installed).values() if key in done.stdout + done.stderr]
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
        until(lambda: _phase(namespace) in ("Succeeded", "Failed"), "the end of the pod", 180)
        assert _phase(namespace) == "Succeeded", kubectl("-n", namespace, "logs", "reaches")
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def _phase(namespace: str) -> str:
    return kubectl("-n", namespace, "get", "pod", "reaches", "-o", "jsonpath={.status.phase}")


@pytest.mark.timeout(7200)
def test_up_makes_a_cluster_that_trains_and_down_deletes_it(tmp_path: Path) -> None:
    """Builds the images and fetches both engines: the longest test there is."""
    for tool in ("docker", "kind", "git", "make"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: kind.sh up makes no cluster without it")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("docker does not answer: kind.sh up makes no cluster without it")
    name = f"visionloop-test-{uuid.uuid4().hex[:6]}"
    own = {"CLUSTER": name, "KUBECONFIG": str(tmp_path / "kubeconfig"), "NAMESPACE": "visionloop"}
    try:
        done = script("up", **own)
        assert done.returncode == 0, done.stderr
        done = script("demo", *TINY, **own)
        assert done.returncode == 0, done.stderr
        assert str(json.loads(done.stdout.splitlines()[-1])["version"]) == "1"
    finally:
        done = script("down", **own)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    assert name not in listed.stdout.split()


@pytest.mark.parametrize("word", ["up", "down"])
def test_without_kind_the_script_says_what_it_needs(word: str, tmp_path: Path) -> None:
    for tool in ("bash", "cat", "sed", "dirname"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = script(word, PATH=str(tmp_path))
    assert done.returncode == 78
    assert "not installed; install it" in done.stderr
