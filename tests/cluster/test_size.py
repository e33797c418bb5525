"""What a workflow of many steps of ours takes in a real cluster's store.

SIZE_STEPS says how many (200). Each has the inputs, outputs and labels of the train template with long values in them, and a
container that only writes its outputs: one pod a step, without retries, whose nodes would hold the same once more.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubernetes_cluster import Cluster, kubectl, steps

from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.templates import OUTPUTS, pod_spec_patch
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.targets import cluster as placed

STEPS = int(os.environ.get("SIZE_STEPS", "200"))

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600 + 20 * STEPS)]

#: Argo's limit of a workflow in bytes (workflow/packer); it compresses the nodes of a larger one.
LIMIT = 2**20

WORKSPACE = "s3://company-ml/vision/visionloop"
GIVEN = {
    "workspace": WORKSPACE,
    "trace_id": "0" * 36,
    "converted": f"{WORKSPACE}/convert/{'0' * 64}/receipt.json",
    "snapshot": f"{WORKSPACE}/snapshot/{'0' * 64}/receipt.json",
    "model_name": "the model of a long name",
    "advanced_config": '{"mosaic": 0.5, "workers": 8}',
}
RECEIPT = f"{WORKSPACE}/train/{'0' * 64}/receipt.json"
SCRIPT = f"import os; os.makedirs('{OUTPUTS}'); open('{OUTPUTS}/receipt', 'w').write('{RECEIPT}')"


def step() -> dict[str, Any]:
    """The train template with a small container in it, for any node."""
    target = placed()
    document = yaml.safe_load(argo_files(target)[f"{template_of('train')}.yaml"])
    (template,) = [entry for entry in document["spec"]["templates"] if entry["name"] == "train"]
    for name in ("synchronization", "retryStrategy"):
        template.pop(name)
    template["podSpecPatch"] = pod_spec_patch(replace(target.policies["train"], gpus=0, attempts=1, spot_selector=()))
    template["container"] |= {
        "image": target.image(target.policies["snapshot"]),
        "command": ["python", "-c", SCRIPT],
        "args": [],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
    }
    return dict(template)


def submit(cluster: Cluster) -> str:
    """Starts the workflow and returns its name."""
    arguments = {"parameters": [{"name": name, "value": value} for name, value in GIVEN.items()]}
    task = {"name": "train", "template": "train", "withSequence": {"count": str(STEPS)}, "arguments": arguments}
    return cluster.create(
        "size-",
        entrypoint="many",
        parallelism=8,
        podGC={"strategy": "OnPodCompletion"},
        templates=[{"name": "many", "dag": {"tasks": [task]}}, step()],
    )


def test_many_steps_of_ours_stay_under_half_of_what_a_workflow_may_take(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    name = submit(cluster)
    cluster.wait(name, 300 + 15 * STEPS, "Succeeded")
    words = ("-n", cluster.namespace, "get", "workflow", name, "-o", "json", "--show-managed-fields")
    stored = json.loads(kubectl(*words))
    assert "compressedNodes" not in stored["status"]
    nodes = steps(stored)
    assert len(nodes) == STEPS
    ours = [
        sum(
            len(entry["name"]) + len(entry["value"])
            for entry in (*node["inputs"]["parameters"], *node["outputs"]["parameters"])
        )
        for node in nodes
    ]
    size = len(json.dumps(stored, separators=(",", ":")))
    with capsys.disabled():
        print(f"\n{STEPS} steps: {size} bytes stored, {max(ours)} of our parameters a step at most")
    assert max(ours) <= 1024
    assert size < LIMIT // 2
