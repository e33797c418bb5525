"""What ``kind.sh up`` asks of docker, kind, kubectl and make, which are stand-ins here that write it down."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "manifests" / "kind" / "kind.sh"
DOCS = (ROOT / "docs" / "engines.md").read_text()

#: Writes its words down, a byte 0 behind each and a byte 1 behind the last.
STAND_IN = """#!/usr/bin/env bash
{ printf '%s\\0' "${0##*/}" "$@"; printf '\\1'; } >> "$CALLS"
[[ " $* " != *" -f - "* && " $* " != *"/dev/stdin"* ]] || cat > /dev/null
[[ " $* " != *" image-names "* ]] || printf '%s\n' localhost/visionloop-stage:1 localhost/visionloop-trainer-toy:1
"""

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: no patch can be tried"
)


def up(tmp_path: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """The script's end, and each command that it ran."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("docker", "kind", "kubectl", "make", "git"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(calls), "HOME": str(tmp_path), **variables}
    done = subprocess.run([str(SCRIPT), "up"], capture_output=True, text=True, check=False, env=environment)
    return done, [call.split("\0")[:-1] for call in calls.read_text().split("\1")[:-1]]


def positions(calls: list[list[str]], *words: str) -> list[int]:
    """At which calls all of these words stand, each somewhere."""
    return [number for number, call in enumerate(calls) if all(any(word in entry for entry in call) for word in words)]


def patched(calls: list[list[str]], namespace: str) -> dict[str, Any]:
    """A controller's container by the script's patch, made by the real kubectl."""
    (number,) = [at for at in positions(calls, "patch", "workflow-controller") if namespace in calls[at]]
    patch = calls[number][calls[number].index("--patch") + 1]
    args = ["--configmap", "workflow-controller-configmap", "--executor-image", "quay.io/argoproj/argoexec:v4.0.5"]
    container: dict[str, Any] = {"name": "workflow-controller", "image": "quay.io/argoproj/workflow-controller:v4.0.5"}
    container |= {"args": [*args, "--namespaced"] if namespace == "kubeflow" else []}
    arguments: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "workflow-controller"},
    }
    arguments |= {"spec": {"template": {"spec": {"containers": [container]}}}}
    command = ["kubectl", "patch", "--local", "-f", "-", "-o", "json", "--type", "json", "--patch", patch]
    done = subprocess.run(
        command, input=json.dumps(arguments), capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["spec"]["template"]["spec"]["containers"][0])


def test_both_engines_are_installed_by_their_versions_and_each_keeps_to_its_namespace(tmp_path: Path) -> None:
    done, calls = up(tmp_path)
    assert done.returncode == 0, done.stderr
    (crds,) = positions(calls, f"cluster-scoped-resources?ref={metadata.version('kfp')}")
    (kubeflow,) = positions(calls, f"env/platform-agnostic?ref={metadata.version('kfp')}")
    version = re.search(r"^ARGO_VERSION=(.*)$", SCRIPT.read_text(), re.MULTILINE)
    assert version
    (argo,) = positions(calls, f"releases/download/v{version[1]}/install.yaml")
    (applied,) = positions(calls, "overlays/kind")
    (shared,) = positions(calls, "--namespace", "kubeflow", "configmap")
    assert crds < kubeflow < argo < applied < shared
    loaded = [calls[number][-1] for number in positions(calls, "kind", "load")]
    assert loaded == ["localhost/visionloop-stage:1", "localhost/visionloop-trainer-toy:1"]
    own = patched(calls, "kubeflow")
    assert own["image"] == f"quay.io/argoproj/workflow-controller:v{version[1]}"
    assert own["args"][3:] == [f"quay.io/argoproj/argoexec:v{version[1]}", "--namespaced"]
    assert patched(calls, "argo")["args"] == ["--namespaced", "--managed-namespace=visionloop"]


def test_argo_alone_runs_the_workflows_of_every_namespace(tmp_path: Path) -> None:
    done, calls = up(tmp_path, ENGINES="argo")
    assert done.returncode == 0, done.stderr
    assert positions(calls, "argo-workflows/releases/download")
    assert not positions(calls, "kubeflow")
    assert not positions(calls, "--managed-namespace")


def test_an_engine_of_another_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done, calls = up(tmp_path, ENGINES="argo tekton")
    assert done.returncode == 78
    assert done.stderr == "ENGINES: 'tekton' is no engine; give argo, kfp or both\n"
    assert calls == []


def test_the_docs_name_the_same_versions() -> None:
    text = SCRIPT.read_text()
    for name in ("ARGO_VERSION", "KFP_VERSION"):
        version = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
        assert version
        assert re.search(rf"\b{re.escape(version[1])}\b", DOCS), name
    assert yaml.safe_load(re.search(r"^ENGINES=\$\{ENGINES:-(.*)\}$", text, re.MULTILINE)[1]) == "argo kfp"  # type: ignore[index]
