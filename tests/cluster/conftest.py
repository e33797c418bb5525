"""The namespace and the dataset of the cluster tests."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes_cluster import HOST, KUBECONFIG, MANIFESTS, OPENED, Cluster, kubectl, secrets_and_config, until

from visionloop.core.storage import open_prefix
from visionloop.pipelines import sample, services


@pytest.fixture(scope="session")
def argo() -> None:
    """Skips, with a sentence, without a cluster that runs Argo Workflows."""
    if not KUBECONFIG:
        pytest.skip("KUBECONFIG is not set: there is no cluster to test on")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    if not HOST:
        pytest.skip("VISIONLOOP_CLUSTER_HOST is not set: pods would not find this machine's S3 and MLflow")
    if "workflows.argoproj.io" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("the cluster has no Argo Workflows: its CRDs are missing")


@pytest.fixture(scope="session")
def cluster(argo: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The namespace, gone at the end."""
    folder = tmp_path_factory.mktemp("cluster")
    namespace = f"visionloop-test-{uuid.uuid4().hex[:6]}"
    overlay = os.path.relpath(MANIFESTS / "overlays" / "kind", folder)
    # The overlay's own S3 and MLflow stay off: the pods use those of this machine, which the tests look into.
    off = "replicas: [{name: visionloop-store, count: 0}, {name: visionloop-mlflow, count: 0}]\n"
    (folder / "kustomization.yaml").write_text(f"namespace: {namespace}\nresources: [{overlay}]\n{off}")
    with services.session(folder / "services", host=HOST, page=True) as embedded:
        kubectl("create", "namespace", namespace)
        try:
            kubectl("apply", "-k", str(folder))
            result = Cluster(namespace, embedded)
            pods = embedded.pod_environment()
            result.apply(reaching(str(HOST)), *secrets_and_config(pods))
            # Until its use is counted, the quota refuses every pod.
            until(lambda: _counted(namespace), "the count of what the quota limits")
            yield result
        finally:
            kubectl("delete", "namespace", namespace, "--wait=false")


def _counted(namespace: str) -> bool:
    quotas = json.loads(kubectl("-n", namespace, "get", "resourcequotas", "-o", "json"))["items"]
    return all(entry.get("status", {}).get("used") for entry in quotas)


def reaching(host: str) -> dict[str, Any]:
    """Lets the stages' pods reach this machine on every port: its stores, relays and receivers listen where they find one."""
    address = socket.getaddrinfo(host, None)[0][4][0]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": OPENED},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "visionloop"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(address))}}]}],
        },
    }


@pytest.fixture(scope="session")
def dataset(cluster: Cluster) -> str:
    """A small dataset in the embedded S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.services.environment().items():
            patch.setenv(name, value)
        uri = f"s3://{services.DATASETS_BUCKET}/tiny"
        prefix = open_prefix(uri, "results")
        sample.write(prefix.write, train=24, val=8, test=8)
    return uri
