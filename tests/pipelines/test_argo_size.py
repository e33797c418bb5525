"""A workflow stays small whatever the dataset: URIs travel, and etcd takes an object of about 1 MB.

``tests/cluster/test_size.py`` reads the size that a real Argo stores.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from compiled import Argo

from visionloop.components.calls import STAGES, STAGES_OF
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.targets import BY_TRAINER, cluster

#: Argo's limit of a workflow in bytes (workflow/packer, MAX_WORKFLOW_SIZE); it compresses what is larger.
LIMIT = 2**20

#: Bytes of our parameters, names and values, that a step may have.
STEP = 1024

#: A step with retries has two nodes, one for all attempts and one for the first: both hold the parameters.
NODES = 2
STEPS = 200

WORKSPACE = "s3://company-ml/vision/visionloop"
VALUES = {
    "workspace": WORKSPACE,
    "trace_id": "0" * 36,
    "dataset": "s3://company-labels/projects/a-project-of-ours/export",
    "snapshot_id": "snap_" + "0" * 12,
    "model_name": "a" * 30,
    "run_name": "a" * 40,
    "description": "a" * 100,
    "gate": '{"floor": 0.5, "epsilon": 0.01}',
    "split": "train=0.8,val=0.1,test=0.1,seed=0,group=patient",
    "advanced_config": '{"mosaic": 0.5, "workers": 8}',
    "reason": "a" * 100,
}

#: Which stage's receipt an input or output is.
RECEIPTS = {"training": "train", "evaluation": "evaluate", "converted": "convert", "report": "validate"}


def value(stage: str, name: str, default: str | None) -> str:
    """What a parameter of a stage holds in a run with long names."""
    if name == "receipt":
        return receipt(stage)
    if name == "snapshot" and stage != "snapshot":
        return receipt("snapshot")
    source = RECEIPTS.get(name.removesuffix("_receipt"))
    return receipt(source) if source else VALUES.get(name, default or "")


def receipt(stage: str) -> str:
    return f"{WORKSPACE}/{stage}/{'0' * 64}/receipt.json"


def template(argo: Argo, stage: str) -> dict[str, Any]:
    return argo.templates[template_of(stage), stage]


def parameters(argo: Argo, stage: str) -> list[tuple[str, str]]:
    """The names and values of a step's inputs and outputs."""
    result = template(argo, stage)
    listed = [*result["inputs"]["parameters"], *result.get("outputs", {}).get("parameters", [])]
    return [(entry["name"], value(stage, entry["name"], entry.get("value"))) for entry in listed]


@pytest.fixture(scope="module")
def argo() -> Argo:
    return Argo(argo_files(cluster()))


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_has_at_most_a_kilobyte_of_our_parameters(stage: str, argo: Argo) -> None:
    assert sum(len(name) + len(value) for name, value in parameters(argo, stage)) <= STEP


def test_two_hundred_steps_of_ours_fill_less_than_half_of_a_workflow(argo: Argo) -> None:
    """In turn the pipeline's stages, each with its inputs and outputs as Argo keeps them, and the stored templates.

    A workflow keeps the templates of the trainer that it runs; those of the others are passed over before they are looked up.
    """
    others = {template_of(stage, trainer) for stage in BY_TRAINER for trainer in cluster().trainers}
    others -= {template_of(stage) for stage in STAGES_OF["train"]}
    others |= {"visionloop-retrain", "visionloop-measure", "visionloop-predict"}
    own = [entry for entry in argo.documents if entry.get("metadata", {}).get("name") not in others]
    stored = sum(len(json.dumps(entry, separators=(",", ":"))) for entry in own)
    nodes = 0
    for number in range(STEPS):
        stage = STAGES_OF["train"][number % len(STAGES_OF["train"])]
        kept = [{"name": name, "value": value} for name, value in parameters(argo, stage)]
        nodes += NODES * len(json.dumps(kept, separators=(",", ":")))
    assert stored + nodes < LIMIT // 2, f"{stored} bytes of templates and {nodes} of parameters"


def test_no_parameter_holds_what_grows_with_the_dataset(argo: Argo) -> None:
    """A list of images, classes or annotations would be one: every output is a URI, an id, a count, a word, or the few overall metrics."""
    names = {(stage, name) for stage in STAGES for name, _ in parameters(argo, stage)}
    names.remove(("predict", "images"))  # where they lie
    names.remove(("snapshot", "classes"))  # what a person wrote, of a bounded length
    assert not {name for _, name in names} & {"images", "classes", "annotations", "files"}
    # The overall metrics of evaluate are as many as the task has; no other step holds any.
    assert [stage for stage in STAGES if "metrics" in dict(parameters(argo, stage))] == ["evaluate"]
