"""What hangs on an attempt's number and on how the one before ended, as the compiled templates hold it.

``tests/cluster/test_attempts.py`` sees Argo do it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled import Argo
from hypothesis import given
from hypothesis import strategies as st

from visionloop.components.calls import STAGES
from visionloop.core.policy import POLICIES, StagePolicy, Toleration, mebibytes
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.templates import pod_spec_patch
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.targets import cluster

MANIFESTS = Path(__file__).parents[2] / "manifests"
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
SPOT = replace(POLICIES["train"], spot_losses=1)


@pytest.fixture(scope="module")
def argo() -> Argo:
    return Argo(argo_files(cluster()))


def inputs(template: dict[str, Any]) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in template["inputs"]["parameters"]}


def lines(policy: StagePolicy) -> dict[str, str]:
    """The lines of a pod's patch that hang on something, by their field."""
    return {line.split(":")[0].strip(): line for line in pod_spec_patch(policy).splitlines() if "{{=" in line}


@pytest.mark.parametrize(
    ("quantity", "amount"), [("8Gi", 8192), ("512Mi", 512), ("1.5Gi", 1536), ("1G", 953), ("1048576", 1), ("4096Ki", 4)]
)
def test_memory_in_mebibytes(quantity: str, amount: int) -> None:
    assert mebibytes(quantity) == amount


@given(st.decimals(0, 10**6, places=3), st.sampled_from(sorted(UNITS)))
def test_an_amount_of_memory_is_read_as_kubernetes_reads_it(number: Decimal, unit: str) -> None:
    assert mebibytes(f"{number}{unit}") == int(number * UNITS[unit]) // 2**20


@given(st.text())
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(k|[KMGT]i|[MGT])?", text):
        with pytest.raises(ValueError, match="is not an amount of memory"):
            mebibytes(text)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_that_is_retried_can_grow_from_its_own_limit(stage: str, argo: Argo) -> None:
    template = argo.templates[template_of(stage), stage]
    assert inputs(template)["memory"] == str(mebibytes(POLICIES[stage].memory_limit))
    assert "lastRetry.exitCode == '137'" in template["podSpecPatch"]


def test_memory_grows_after_a_kill_only() -> None:
    for line in (lines(SPOT)["limits"], lines(SPOT)["requests"]):
        assert re.findall(r"\{\{=([^?]*) \? '\"memory\"", line) == ["lastRetry.exitCode == '137'"]
    assert "** (int(retries))" in lines(SPOT)["limits"]
    assert "** (int(retries) - 1)" in lines(SPOT)["requests"]


@pytest.mark.parametrize("row", [replace(SPOT, memory_factor=1), replace(SPOT, attempts=1)])
def test_a_row_that_never_grows_asks_for_nothing_of_an_attempt_before(row: StagePolicy) -> None:
    assert "lastRetry" not in pod_spec_patch(row)
    assert "inputs.parameters.memory" not in pod_spec_patch(row)


def test_the_form_says_nothing_of_the_limit_that_grows(argo: Argo) -> None:
    for document in argo.documents:
        arguments = document.get("spec", {}).get("arguments", {}).get("parameters", [])
        assert "memory" not in {entry["name"] for entry in arguments}


def test_nothing_goes_to_spot_nodes_unless_asked(argo: Argo) -> None:
    assert {row.spot_losses for row in POLICIES.values()} == {0}
    for (_, name), template in argo.templates.items():
        result = inputs(template).get("spot") if "inputs" in template else None
        assert result == ("0" if name in ("train", "evaluate", "predict") else None)
    form = {entry["name"]: entry for entry in argo.pipeline["arguments"]["parameters"]}
    assert form["spot"]["value"] == ""


def test_a_row_without_retries_counts_its_one_attempt() -> None:
    line = lines(replace(SPOT, attempts=1))["nodeSelector"]
    assert "{{=0 < asInt(inputs.parameters.spot) ?" in line


def test_a_row_without_gpus_has_its_own_place_always_and_a_spot_one_while_asked() -> None:
    row = replace(
        SPOT, gpus=0, node_selector=(("zone", "near"),), tolerations=(Toleration("taint", "value", "NoExecute"),)
    )
    result = lines(row)
    assert result["nodeSelector"].startswith('nodeSelector: { "zone": "near", {{=int(retries) <')
    assert result["tolerations"].startswith('tolerations: [ {"key": "taint", ')


def test_the_overlay_with_smaller_limits_grows_from_them() -> None:
    """A patch overrides the container's resources: the input it grows from is the overlay's own limit."""
    overlay = yaml.safe_load((MANIFESTS / "overlays" / "kind" / "kustomization.yaml").read_text(encoding="utf-8"))
    checked = 0
    for patch in overlay["patches"]:
        if not isinstance(patch.get("patch"), str) or "container/resources" not in patch["patch"]:
            continue
        operations = {entry["path"]: entry["value"] for entry in yaml.safe_load(patch["patch"])}
        limit = operations["/spec/templates/0/container/resources"]["limits"]["memory"]
        path = next(path for path, value in operations.items() if path.endswith("/name") and value == "memory")
        assert operations[path.removesuffix("name") + "value"] == str(mebibytes(limit))
        checked += 1
    assert checked == 4


@pytest.mark.parametrize("pipeline", ["visionloop-train", "visionloop-retrain"])
def test_a_drained_node_waits_for_the_stage_that_runs(pipeline: str, argo: Argo) -> None:
    (specification,) = [
        entry["spec"]
        for entry in argo.documents
        if (entry["kind"], entry.get("metadata", {}).get("name")) == ("WorkflowTemplate", pipeline)
    ]
    # A number: as text Kubernetes would take it for a share and refuse it.
    assert specification["podDisruptionBudget"] == {"minAvailable": 1}
