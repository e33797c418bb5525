"""The overlays render where kubectl is present, and what they render keeps its promises."""

from __future__ import annotations

import functools
import ipaddress
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from visionloop.core import secrets
from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines import pods
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.targets import cluster

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = ("kind", "production")
CREDENTIAL = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:password|secret_key|access_key|token):\s*['\"]?[A-Za-z0-9+/]{12,}"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: nothing can be rendered"),
]


@functools.cache
def rendered(folder: str) -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(overlay: str) -> list[dict[str, Any]]:
    return [entry for entry in yaml.safe_load_all(rendered(f"overlays/{overlay}")) if entry]


def named(overlay: str, kind: str, name: str) -> dict[str, Any]:
    (results,) = [entry for entry in objects(overlay) if entry["kind"] == kind and entry["metadata"]["name"] == name]
    return results


def template(overlay: str, stage: str) -> dict[str, Any]:
    """A stage's template."""
    (results,) = [
        entry
        for entry in named(overlay, "WorkflowTemplate", template_of(stage))["spec"]["templates"]
        if entry["name"] == stage
    ]
    return dict(results)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_lies_in_one_restricted_namespace(overlay: str) -> None:
    (namespace,) = [entry for entry in objects(overlay) if entry["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    placed = [entry for entry in objects(overlay) if entry["kind"] not in ("Namespace", "PriorityClass")]
    assert {entry["metadata"].get("namespace") for entry in placed} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_template_names_an_account_that_is_there(overlay: str) -> None:
    accounts = {entry["metadata"]["name"] for entry in objects(overlay) if entry["kind"] == "ServiceAccount"}
    used = {
        template["serviceAccountName"]
        for entry in objects(overlay)
        if entry["kind"] == "WorkflowTemplate"
        for template in entry["spec"]["templates"]
        if "container" in template
    }
    assert used
    assert used <= accounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_and_no_wildcard_right_is_in_what_is_applied(overlay: str) -> None:
    assert CREDENTIAL.search(rendered(f"overlays/{overlay}")) is None
    # Argo's own account has a token, which Kubernetes writes into an empty object.
    (token,) = [entry for entry in objects(overlay) if entry["kind"] == "Secret"]
    assert token["type"] == "kubernetes.io/service-account-token"
    assert not {"data", "stringData"} & set(token)
    rules = [rule for entry in objects(overlay) if entry["kind"] == "Role" for rule in entry["rules"]]
    assert rules
    assert all("*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]) for rule in rules)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_denied_all_traffic_that_is_not_named(overlay: str) -> None:
    deny = named(overlay, "NetworkPolicy", "visionloop-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_a_machine_without_a_gpu_trains_without_one() -> None:
    asked = {
        template["metadata"]["name"]: entry["value"]
        for template in objects("kind")
        if template["kind"] == "WorkflowTemplate"
        for entry in template["spec"]["arguments"]["parameters"]
        if entry["name"] == "gpus"
    }
    ran = {
        template_of(stage, trainer)
        for stage in ("train", "evaluate", "predict")
        for trainer in cluster().trainers
        if trainer != "toy"
    }
    assert set(asked) == {"visionloop-train", "visionloop-retrain", "visionloop-measure", "visionloop-predict", *ran}
    assert set(asked.values()) == {"0"}
    for stage, memory in (("train", "2Gi"), ("evaluate", "1Gi"), ("predict", "1Gi")):
        assert template("kind", stage)["container"]["resources"]["requests"] == {"cpu": "500m", "memory": memory}
        inputs = {entry["name"]: entry.get("value") for entry in template("kind", stage)["inputs"]["parameters"]}
        assert inputs["memory"] == "4096"


@pytest.mark.parametrize("stage", POLICIES)
def test_retries_go_to_another_node_only_in_production(stage: str) -> None:
    production = template("production", stage)["retryStrategy"]
    kind = template("kind", stage)["retryStrategy"]
    assert production["affinity"] == {"nodeAntiAffinity": {}}
    assert "affinity" not in kind


def test_production_says_who_waits_first() -> None:
    classes = {entry["metadata"]["name"] for entry in objects("production") if entry["kind"] == "PriorityClass"}
    arguments = {stage: template("production", stage)["priorityClassName"] for stage in POLICIES}
    assert set(arguments.values()) == classes
    assert {stage for stage, name in arguments.items() if name == "visionloop-training"} == {
        "train",
        "evaluate",
        "predict",
    }


def test_production_shares_a_cache_volume() -> None:
    (claim,) = [entry for entry in objects("production") if entry["kind"] == "PersistentVolumeClaim"]
    for stage in ("train", "evaluate"):
        volumes = template("production", stage)["volumes"]
        cache = {"name": "cache", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        assert cache in volumes


def test_production_reaches_the_addresses_that_it_names_and_no_others() -> None:
    """Every way out is DNS in the cluster, or a block of addresses that the overlay's own file names."""
    named_by_the_overlay = {
        block["ipBlock"]["cidr"]
        for policy in yaml.safe_load_all((MANIFESTS / "overlays/production/egress.yaml").read_text())
        for rule in policy["spec"]["egress"]
        for block in rule["to"]
        if "ipBlock" in block
    }
    assert len(named_by_the_overlay) == 3
    assert all(ipaddress.ip_network(block).prefixlen >= 16 for block in named_by_the_overlay)
    rules = [
        rule
        for entry in objects("production")
        if entry["kind"] == "NetworkPolicy"
        for rule in entry["spec"].get("egress", ())
    ]
    reached = set()
    for rule in rules:
        ports = {port["port"] for port in rule["ports"]}
        assert rule.get("to"), f"{ports} of any address"
        if ports == {53}:
            assert all("namespaceSelector" in to and "podSelector" in to for to in rule["to"])
        else:
            reached |= {to["ipBlock"]["cidr"] for to in rule["to"]}
    assert reached == named_by_the_overlay


def test_production_lets_each_stage_out_to_what_it_reads() -> None:
    """validate and export talk to no tracker; each pod asks names, and Argo's container beside it the API."""
    for stage in POLICIES:
        labels = pods.labels(stage)
        results = {
            entry["metadata"]["name"]
            for entry in objects("production")
            if entry["kind"] == "NetworkPolicy" and _selects(entry["spec"]["podSelector"], labels)
        }
        tracked = set() if stage in ("validate", "export") else {"visionloop-tracker"}
        assert results == {"visionloop-deny", "visionloop-names-and-api", "visionloop-stores"} | tracked


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    plain = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return plain and all(labels.get(entry["key"]) in entry["values"] for entry in selector.get("matchExpressions", ()))


def test_the_line_that_splits_the_one_secret_gives_each_role_its_own(tmp_path: Path) -> None:
    """As base/config.yaml shows it, with a stand-in for kubectl that holds the old Secret and keeps what is created."""
    text = (MANIFESTS / "base" / "config.yaml").read_text()
    (line,) = re.findall(r"^#   (for role in .*)$", text, re.MULTILINE)
    old = {entry.name: "a=b c" for entry in secrets.CREDENTIALS if entry.role}
    (tmp_path / "old").write_text("".join(f"{name}={value}\n" for name, value in old.items()))
    stand_in = (
        "#!/bin/bash\n"
        'if [[ " $* " == *" get secret visionloop "* ]]; then cat "$FOLDER/old"\n'
        'else [[ " $* " == *" create secret generic "* ]] && cat > "$FOLDER/$6"; fi\n'
    )
    (tmp_path / "kubectl").write_text(stand_in)
    (tmp_path / "kubectl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FOLDER": str(tmp_path)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True, env=environment)
    for role in secrets.ROLES:
        made = (tmp_path / secrets.secret_of(role)).read_text()
        assert made == "".join(f"{name}={old[name]}\n" for name in secrets.variables(role))
