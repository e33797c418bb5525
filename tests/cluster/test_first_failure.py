"""What only the engine knows of a failure reaches the exit handler: the compiled expression on a real Argo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kubernetes_cluster import STAGE_IMAGE, Cluster

from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines.argo.templates import pod_spec_patch
from visionloop.pipelines.engines.argo.train import FIRST_FAILURE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def account(cluster: Cluster, phase: str, **commands: list[str]) -> str:
    """What the exit handler of a workflow is told whose steps run these commands at once."""
    pod: dict[str, Any] = {
        "image": STAGE_IMAGE,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    parameter = {"name": "failure", "value": f"{{{{={FIRST_FAILURE}}}}}"}
    name = cluster.create(
        "failure-",
        serviceAccountName="visionloop-data",
        securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        entrypoint="pipeline",
        onExit="exit",
        templates=[
            {"name": "pipeline", "dag": {"tasks": [{"name": step, "template": step} for step in commands]}},
            *(
                {
                    "name": step,
                    "container": pod | {"command": command},
                    "podSpecPatch": pod_spec_patch(replace(POLICIES["cleanup"], attempts=1)),
                }
                for step, command in commands.items()
            ),
            {
                "name": "exit",
                "steps": [[{"name": "tell", "template": "tell", "arguments": {"parameters": [parameter]}}]],
            },
            {"name": "tell", "inputs": {"parameters": [{"name": "failure"}]}, "suspend": {"duration": "0s"}},
        ],
    )
    ended = cluster.wait(name, 300, phase)
    (tell,) = (node for node in ended["status"]["nodes"].values() if node["displayName"] == "tell")
    return str(tell["inputs"]["parameters"][0].get("value", ""))


def test_the_first_failed_step_is_told_with_the_engines_words(cluster: Cluster) -> None:
    said = 'a "quoted" {{word}} ' + "y" * 900
    program = f"open('/dev/termination-log', 'w').write({said!r}); raise SystemExit(3)"
    later = "import time; time.sleep(30); raise SystemExit(4)"
    # Named so that it is the first in neither order of names.
    text = account(
        cluster, "Failed", a=["python3", "-c", later], b=["python3", "-c", program], c=["python3", "-c", later]
    )
    assert text.startswith('b: main: Error (exit code 3): a "quoted" {{word}} yyy')
    assert len(text) == 500


def test_of_a_run_that_succeeded_nothing_is_told(cluster: Cluster) -> None:
    assert account(cluster, "Succeeded", only=["true"]) == ""
