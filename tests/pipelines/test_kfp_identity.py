"""Every pod of a compiled pipeline knows which pipeline it belongs to, and the run's record repeats it, whoever starts the run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from compiled import Kubeflow

from visionloop.core.runs import PIPELINE, PIPELINE_VARIABLE, RunRecord
from visionloop.core.storage import open_prefix
from visionloop.pipelines.engines.kubeflow.ir import ir_documents, ir_hash, kfp_files
from visionloop.pipelines.engines.kubeflow.runs import compiled_pipeline
from visionloop.pipelines.targets import cluster


def identities(text: str) -> set[str]:
    """What the containers of an IR are told of it."""
    executors = Kubeflow(text).specification["deploymentSpec"]["executors"].values()
    arguments = [
        [entry["value"] for entry in executor["container"]["env"] if entry["name"] == PIPELINE_VARIABLE]
        for executor in executors
    ]
    assert {len(values) for values in arguments} == {1}
    return {value for values in arguments for value in values}


@pytest.mark.parametrize("pipeline", ["train", "retrain"])
def test_every_pod_is_told_what_the_version_on_a_server_is_named_for(pipeline: str) -> None:
    compiled = compiled_pipeline(pipeline)
    (identity,) = identities(compiled.text)
    assert json.loads(identity) == compiled.identity
    assert compiled.identity == {
        "engine": "kfp",
        "name": f"visionloop-{pipeline}",
        "version": compiled.version,
        "sha256": ir_hash(ir_documents(compiled.text)),
    }
    assert compiled.version == f"visionloop-{pipeline}-{compiled.sha256[:12]}"
    assert f"IR sha256:{compiled.sha256}" in compiled.description


def test_another_content_has_another_hash_and_the_variable_alone_has_none() -> None:
    entry, other = (kfp_files(cluster(tag=tag))["visionloop-train.yaml"] for tag in ("1.0", "2.0"))
    assert identities(entry) != identities(other)
    documents = ir_documents(entry)
    for change in (_without_variable, _with_another_value):
        changed = copy.deepcopy(documents)
        for executor in changed["pipeline_spec"]["deploymentSpec"]["executors"].values():
            executor["container"]["env"] = change(executor["container"]["env"])
        assert ir_hash(changed) == ir_hash(documents)
    changed["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["env"].append(
        {"name": "ANOTHER", "value": "1"}
    )
    assert ir_hash(changed) != ir_hash(documents)


def _without_variable(env: list[Any]) -> list[Any]:
    return [entry for entry in env if entry["name"] != PIPELINE_VARIABLE]


def _with_another_value(env: list[Any]) -> list[Any]:
    return [*_without_variable(env), {"name": PIPELINE_VARIABLE, "value": "another"}]


def test_a_record_that_a_stage_opens_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a recurring run, a run that was started on the page, and one whose submitter has no keys of the store."""
    compiled = compiled_pipeline("retrain")
    (identity,) = identities(compiled.text)
    monkeypatch.setenv(PIPELINE_VARIABLE, identity)
    record = RunRecord(open_prefix(str(tmp_path), "results"), "recurring")
    record.open({"snapshot": {"model_name": "digits"}}, None)
    opened = record.read()
    assert opened is not None
    assert opened.arguments == {PIPELINE: compiled.identity, "snapshot": {"model_name": "digits"}}


@pytest.mark.parametrize("identity", ["", "no JSON", "[1]"])
def test_a_record_that_is_opened_elsewhere_names_no_pipeline(
    identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIPELINE_VARIABLE, identity)
    record = RunRecord(open_prefix(str(tmp_path), "results"), "laptop")
    record.open({"model_name": "digits"}, None)
    opened = record.read()
    assert opened is not None
    assert opened.arguments == {"model_name": "digits"}
