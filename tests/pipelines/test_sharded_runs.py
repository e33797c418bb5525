"""A run in shards: its record, what cleanup, snapshot delete and plan make of it, and the two compiled forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from compiled import Argo, Kubeflow
from kfp import dsl
from small_datasets import dataset, stage

from visionloop.components.calls import CALLS, SHARDED
from visionloop.components.convert.component import convert
from visionloop.components.validate.component import validate
from visionloop.core import catalog, receipts, shards
from visionloop.core.errors import DatasetChanged, InvalidConfig
from visionloop.core.running import Invocation, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.storage import open_prefix
from visionloop.pipelines import plan
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.kubeflow.ir import kfp_files
from visionloop.pipelines.engines.laptop import _in_one_piece
from visionloop.pipelines.parameters import TRAIN
from visionloop.pipelines.snapshots import removal, uses
from visionloop.pipelines.targets import cluster, laptop

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dataset(tmp_path / "dataset", "detection", None)


def _record(workspace: Path) -> RunRecord:
    return RunRecord(open_prefix(str(workspace), "results"), "one")


def test_each_shard_has_a_state_of_its_own(folder: Path, tmp_path: Path) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder), shards="12")
    for shard in shards.listed(12):
        stage("validate", tmp_path / "results", snapshot=snapshot.uri, shard=shard)
    record = _record(tmp_path / "results")
    assert record.state("snapshot").scalars["shards"] == shards.listed(12)
    assert [state.stage for state in record.stages()] == ["snapshot"]
    assert [state.shard for state in record.shards()] == shards.listed(12)
    stage("validate", tmp_path / "results", snapshot=snapshot.uri, shards="12")
    assert {state.stage: state.attempt for state in record.stages()} == {"snapshot": 1, "validate": 1}
    assert b'"shard":' not in record.prefix.read("validate.json")
    assert b'"shard":"12/12"' in record.prefix.read("shards/validate.12-of-12.json")


def test_a_run_without_shards_lists_none(folder: Path, tmp_path: Path) -> None:
    stage("snapshot", tmp_path / "results", dataset=str(folder))
    record = _record(tmp_path / "results")
    assert record.state("snapshot").scalars["shards"] == []
    assert record.shards() == []


def test_the_failure_of_a_shard_is_its_own_and_ends_no_other(folder: Path, tmp_path: Path) -> None:
    """On Kubeflow Pipelines a stage ends at once for a failure that is in the record already."""
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder))
    record = _record(tmp_path / "results")
    (folder / "images" / "0.png").write_bytes((folder / "images" / "1.png").read_bytes())
    failed = []
    for shard in shards.listed(2):
        try:
            stage("validate", tmp_path / "results", snapshot=snapshot.uri, shard=shard)
        except DatasetChanged:
            failed.append(shard)
    (failure,) = record.failures()
    assert (failure.stage, [failure.shard]) == ("validate", failed)
    assert record.counting_failure("validate", lambda _: True) is None
    assert record.counting_failure("validate", lambda _: True, failed[0]) == failure
    assert [state.state for state in record.shards() if state.shard in failed] == ["failed"]


def test_cleanup_removes_what_an_attempt_at_a_shard_left(folder: Path, tmp_path: Path) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder))
    part = stage("validate", tmp_path / "results", snapshot=snapshot.uri, shard="1/2")
    part.prefix.write("another-attempt/part.parquet", b"half")
    run_stage(catalog.stage("cleanup"), {}, Invocation(str(tmp_path / "results"), run="one"))
    assert not part.prefix.exists("another-attempt/part.parquet")
    assert part.intact()


def test_what_a_snapshot_was_used_for_counts_no_shards(folder: Path, tmp_path: Path) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder))
    for shard in shards.listed(3):
        stage("validate", tmp_path / "results", snapshot=snapshot.uri, shard=shard)
    stage("validate", tmp_path / "results", snapshot=snapshot.uri, shards="3")
    result = uses.Uses(open_prefix(str(tmp_path / "results"), "results")).results(snapshot.receipt.digest)
    assert {name: len(results) for name, results in result.items()} == {"validate": 1}


def test_a_shard_at_work_keeps_its_snapshot(folder: Path, tmp_path: Path) -> None:
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder))
    results = open_prefix(str(tmp_path / "results"), "results")
    record = _record(tmp_path / "results")
    planned = removal.planned(results, str(snapshot.receipt.scalars["snapshot_id"]))
    removal.check_unused(results, planned)
    state = record.state("validate", "2/4")
    state.state, state.key = "running", "0" * 64
    record.write_state(state)
    with pytest.raises(InvalidConfig, match=r"the run one is under way \(validate\)"):
        removal.check_unused(results, planned)


def test_plan_tells_of_the_shards_and_compares_with_none(folder: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "results"
    snapshot = stage("snapshot", workspace, dataset=str(folder))
    for shard in ("1/4", "3/4"):
        stage("validate", workspace, snapshot=snapshot.uri, shard=shard)

    def said(**more: Any) -> list[str]:
        arguments = {"snapshot": snapshot.uri, **more}
        return plan._plan(catalog.stage("validate"), arguments, open_prefix(str(workspace), "results"), {})[0].reasons

    assert said(shards="4") == ["no earlier result", "from 4 shards, 2 of them there already"]
    assert said(shards="1") == ["no earlier result", "from 1 shard"]
    assert said() == ["no earlier result"]
    whole = stage("validate", workspace, snapshot=snapshot.uri)
    assert said(shards="4") == []
    assert said(shards="4", on_error="quarantine") == [
        "on_error fail → quarantine",
        "from 4 shards, 2 of them there already",
    ]
    assert receipts.look(open_prefix(str(workspace), "results"), "validate", whole.receipt.key) is not None


@pytest.mark.parametrize("pipeline", ["visionloop-train", "visionloop-retrain"])
def test_argo_has_a_task_for_each_shard_before_that_of_the_whole(pipeline: str) -> None:
    argo = Argo(argo_files(cluster()), pipeline)
    tasks = argo.tasks()
    listed = "{{tasks.snapshot.outputs.parameters.shards}}"
    if pipeline == "visionloop-retrain":
        (around,) = {task["name"]: task for task, _ in _frames(argo)}.values()
        arguments = {entry["name"]: entry["value"] for entry in around["arguments"]["parameters"]}
        assert arguments["shards"] == listed
        listed = "{{inputs.parameters.shards}}"
    for name in SHARDED:
        whole, part = tasks[name], tasks[f"{name}-shards"]
        assert f"{name}-shards" in whole["depends"].split(" && ")
        # Not only after a success: an empty list is skipped.
        assert "Succeeded" not in whole["depends"]
        assert part["withParam"] == listed
        assert "when" not in part
        assert part["templateRef"] == whole["templateRef"]
        ours, theirs = (
            {entry["name"]: entry["value"] for entry in task["arguments"]["parameters"]} for task in (part, whole)
        )
        assert ours.pop("shard") == "{{item}}"
        assert theirs.pop("shards") == "{{workflow.parameters.shards}}"
        assert ours.items() <= theirs.items()
        assert set(CALLS[name].receipts) <= set(ours)


def _frames(argo: Argo) -> list[Any]:
    return [(around[0], task) for task, around in argo.leaves() if around][:1]


@pytest.mark.parametrize("pipeline", ["train", "retrain"])
def test_kubeflow_has_a_loop_before_the_whole(pipeline: str) -> None:
    (text,) = kfp_files(cluster(), [pipeline]).values()
    kfp = Kubeflow(text)
    loops = {
        task["taskInfo"]["name"]: (name, graph, task)
        for graph, name, task in kfp.tasks()
        if "parameterIterator" in task
    }
    assert set(loops) == {f"{name}-shards" for name in SHARDED}
    for name in SHARDED:
        loop, graph, task = loops[f"{name}-shards"]
        assert task["iteratorPolicy"] == {"parallelismLimit": 16}
        assert kfp.producers(
            graph, task["inputs"]["parameters"][task["parameterIterator"]["items"]["inputParameter"]]
        ) == {"snapshot"}
        part, whole = sorted(kfp.leaves()[name], key=lambda leaf: "dependentTasks" in leaf[2])
        assert part[2]["taskInfo"]["name"] == f"{name} shard"
        assert whole[0] == graph
        assert loop in whole[2]["dependentTasks"]
        assert part[2]["inputs"]["parameters"]["shard"] == {
            "componentInputParameter": task["parameterIterator"]["itemInput"]
        }
        # The policy table's row is that of the stage, its Secrets and its deadline among it.
        assert kfp.row(part[2]) == kfp.row(whole[2])
        assert kfp.config_variables(part[2]) == kfp.config_variables(whole[2])


def test_a_laptop_has_no_loop() -> None:
    from visionloop.pipelines.engines.kubeflow.train import train_pipeline

    assert "iterator" not in str(train_pipeline(laptop()).pipeline_spec).lower()
    assert "iterator" in str(train_pipeline(cluster()).pipeline_spec).lower()


def test_on_this_machine_a_run_is_in_one_piece(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="visionloop")
    assert _in_one_piece(Order("train", {"shards": "4", "model_name": "m"})).arguments == {"model_name": "m"}
    assert caplog.messages == [
        "--shards 4: on this machine each stage works on all images at once; the result is the same."
    ]
    caplog.clear()
    assert _in_one_piece(Order("train", {"model_name": "m"})).arguments == {"model_name": "m"}
    assert caplog.messages == []


def test_both_forms_have_the_field_behind_the_checks() -> None:
    assert list(TRAIN)[-6:-4] == ["checks", "shards"]
    assert TRAIN["shards"].default == ""


def test_the_component_of_a_shard_returns_values_of_its_outputs_types(folder: Path, tmp_path: Path) -> None:
    """KFP's executor refuses an output of another type; a shard has no numbers of errors."""
    workspace = str(tmp_path / "results")
    snapshot = stage("snapshot", tmp_path / "results", dataset=str(folder))
    page = dsl.HTML(name="report", uri=str(tmp_path / "report"))
    done = validate.python_func(workspace=workspace, snapshot=snapshot.uri, report=page, shard="1/2", run="one")
    assert [type(value) for value in done] == [str, int, int]
    report = stage("validate", tmp_path / "results", snapshot=snapshot.uri)
    made = dsl.Dataset(name="converted", uri=str(tmp_path / "converted"))
    done = convert.python_func(
        workspace=workspace, snapshot=snapshot.uri, report=report.uri, converted_dataset=made, shard="1/2", run="one"
    )
    assert [type(value) for value in done] == [str] * 7
