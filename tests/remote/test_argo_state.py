"""Where a workflow stands, read from what a real Argo stored."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import NAMES, workflow

from visionloop.components.calls import STAGES_OF
from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.argo.runs import parse, text, workflow_of
from visionloop.pipelines.following.rows import rows
from visionloop.pipelines.following.state import PHASES, STATES

STAGES = STAGES_OF["train"]

TEMPLATE = {
    "metadata": {"name": "visionloop-train"},
    "spec": {"arguments": {"parameters": [{"name": name} for name in ("workspace", "dataset", "epochs", "trace_id")]}},
}


def test_a_run_that_ended_well_shows_every_stage():
    state = parse(workflow("argo-succeeded"))
    assert state.phase == "succeeded"
    assert [step.stage for step in state.steps] == [stage for stage in STAGES if stage != "export"]
    assert {(step.state, step.attempt, step.exit_code) for step in state.steps} == {("succeeded", 1, 0)}
    register = next(step for step in state.steps if step.stage == "register")
    assert register.outputs["version"] == "1"
    assert register.outputs["receipt"].endswith("/receipt.json")
    assert all(step.started_at and step.finished_at and step.started_at < step.finished_at for step in state.steps)


def test_wrong_data_is_told_in_the_stages_own_words():
    state = parse(workflow("argo-wrong-data"))
    assert state.phase == "failed"
    snapshot = state.steps[0]
    assert (snapshot.stage, snapshot.state, snapshot.attempt, snapshot.exit_code) == ("snapshot", "failed", 1, 65)
    assert str(snapshot.reason).startswith("s3://datasets/nothing: no dataset lies there")
    assert {step.state for step in state.steps[1:-1]} == {"skipped"}
    assert state.steps[-1].stage == "cleanup"


def test_a_stage_that_was_tried_again_is_its_last_attempt():
    steps = {step.stage: step for step in parse(workflow("argo-retried")).steps}
    assert (steps["convert"].state, steps["convert"].attempt, steps["convert"].exit_code) == ("succeeded", 2, 0)
    assert steps["convert"].reason is None
    assert steps["validate"].attempt == 1


def test_between_two_attempts_a_stage_waits_and_says_why():
    evaluate = next(step for step in parse(workflow("argo-between-attempts")).steps if step.stage == "evaluate")
    assert (evaluate.state, evaluate.attempt, evaluate.exit_code) == ("waiting", 1, None)
    assert evaluate.reason == "pod deleted; Backoff for 10 seconds"


def test_what_is_there_already_was_skipped():
    states = {step.stage: step.state for step in parse(workflow("argo-reused")).steps}
    assert states["train"] == states["evaluate"] == "skipped"
    assert states["register"] == "succeeded"


def test_a_pod_without_a_node_says_what_is_missing():
    train = next(step for step in parse(workflow("argo-unschedulable")).steps if step.stage == "train")
    assert train.state == "waiting"
    assert "Insufficient nvidia.com/gpu" in str(train.reason)


def test_a_queue_is_asked_only_where_the_engine_says_nothing():
    recorded = workflow("argo-unschedulable")
    asked: list[str] = []

    def queued(node: str) -> str:
        asked.append(node)
        return "in a queue"

    parse(recorded, queued)
    assert asked == []
    pod = next(node for node in recorded["status"]["nodes"].values() if node["displayName"] == "train(0)")
    del pod["message"]
    steps = parse(recorded, queued).steps
    assert asked == [pod["id"]]
    assert next(step.reason for step in steps if step.stage == "train") == "in a queue"


def test_a_lock_that_another_run_holds_is_named():
    train = next(step for step in parse(workflow("argo-locked")).steps if step.stage == "train")
    assert train.state == "waiting"
    assert train.reason == "another run holds the lock visionloop-train-followed-digits"


def test_a_run_ends_when_its_exit_handler_has():
    recorded = workflow("argo-succeeded")
    del recorded["status"]["finishedAt"]
    assert parse(recorded).phase == "running"


def test_a_run_that_was_stopped_by_hand_is_no_failure():
    recorded = workflow("argo-wrong-data")
    recorded["spec"]["shutdown"] = "Terminate"
    assert parse(recorded).phase == "stopped"


def test_a_run_without_a_status_is_pending():
    assert parse({"metadata": {}, "spec": {}}).phase == "pending"
    assert parse({"metadata": {}, "spec": {}}).steps == ()


@pytest.mark.parametrize("name", NAMES)
def test_packed_nodes_are_the_same_nodes(name: str):
    recorded = workflow(name)
    plain = parse(recorded)
    nodes = json.dumps(recorded["status"].pop("nodes")).encode()
    recorded["status"]["compressedNodes"] = base64.b64encode(gzip.compress(nodes)).decode()
    assert parse(recorded) == plain


@given(st.sampled_from(NAMES), st.data())
def test_whatever_part_of_a_run_has_begun_it_can_be_shown(name: str, data: st.DataObject):
    recorded = workflow(name)
    nodes = recorded["status"]["nodes"]
    kept = data.draw(st.sets(st.sampled_from(sorted(nodes))))
    recorded["status"]["nodes"] = {identity: node for identity, node in nodes.items() if identity in kept}
    state = parse(recorded)
    assert state.phase in PHASES
    stages = [step.stage for step in state.steps]
    assert stages == [stage for stage in STAGES if stage in stages]
    for step in state.steps:
        assert step.state in STATES
        assert step.attempt >= 1
        assert step.started_at is None or step.started_at < datetime.now(UTC)


def test_a_workflow_names_its_run_and_its_dataset():
    made = workflow_of(
        TEMPLATE, {"workspace": "s3://results/w", "dataset": "s3://datasets/Digits 2/", "epochs": 2}, "Trace_1"
    )
    assert made["metadata"]["generateName"] == "visionloop-train-"
    assert made["metadata"]["labels"]["visionloop/dataset"] == "digits-2"
    assert made["metadata"]["labels"]["visionloop/trace-id"] == "trace-1"
    parameters = {entry["name"]: entry["value"] for entry in made["spec"]["arguments"]["parameters"]}
    assert parameters == {
        "workspace": "s3://results/w",
        "dataset": "s3://datasets/Digits 2/",
        "epochs": "2",
        "trace_id": "Trace_1",
    }


def test_a_dataset_of_which_no_label_can_be_made_has_none():
    made = workflow_of(TEMPLATE, {"workspace": "s3://results/w", "dataset": "s3://datasets/숫자"}, "t")
    assert "visionloop/dataset" not in made["metadata"]["labels"]


def test_a_template_of_another_version_is_no_place_for_a_new_parameter():
    with pytest.raises(InvalidConfig, match=r"visionloop-train has no parameter 'gate'; it takes workspace, dataset"):
        workflow_of(TEMPLATE, {"workspace": "s3://results/w", "gate": "{}"}, "t")


@given(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.dictionaries(st.text(), st.one_of(st.integers(), st.text())),
    )
)
def test_an_argument_reads_back_from_its_text(value: object):
    assert json.loads(text(value)) == value


@given(st.text())
def test_a_text_is_handed_on_as_it_is(value: str):
    assert text(value) == value


def _sharded(*phases: str, whole: str | None = None) -> dict[str, Any]:
    """A run whose validate is done in so many shards."""

    def node(identity: str, kind: str, phase: str, **more: Any) -> dict[str, Any]:
        named = {"id": identity, "displayName": identity, "name": f"run.{identity}", "type": kind, "phase": phase}
        return named | {"templateRef": {"name": "visionloop-validate", "template": "validate"}} | more

    names = [f"validate-shards({index}:{index + 1}/{len(phases)})" for index in range(len(phases))]
    nodes = [node("validate-shards", "TaskGroup", "Running", children=names)]
    for name, phase in zip(names, phases, strict=True):
        pod = node(f"{name}(0)", "Pod", phase, startedAt="2026-01-01T00:00:05Z")
        if phase == "Failed":
            pod |= {"message": "main: Error (exit code 66): a/1.png: changed.", "finishedAt": "2026-01-01T00:00:09Z"}
        nodes += [pod, node(name, "Retry", phase, children=[pod["id"]], startedAt="2026-01-01T00:00:05Z")]
    if whole:
        nodes.append(node("validate", "Pod", whole))
    return {"status": {"phase": "Running", "nodes": {entry["id"]: entry for entry in nodes}}}


def test_a_stage_in_shards_runs_until_they_are_put_together() -> None:
    (step,) = parse(_sharded("Succeeded", "Running", "Pending", "Succeeded")).steps
    assert (step.stage, step.state, step.shards) == ("validate", "running", (2, 4))
    (row, *_) = rows(parse(_sharded("Succeeded", "Running")), {}, ("validate",))
    assert (row.state, row.text) == ("running", "1 of 2 shards")
    (step,) = parse(_sharded("Succeeded", "Succeeded")).steps
    assert (step.state, step.shards) == ("running", (2, 2))
    (step,) = parse(_sharded("Pending", "Pending")).steps
    assert step.state == "waiting"


def test_the_whole_counts_once_it_is_there() -> None:
    (step,) = parse(_sharded("Succeeded", "Succeeded", whole="Running")).steps
    assert (step.state, step.shards) == ("running", (0, 0))
    (step,) = parse(_sharded("Succeeded", whole="Succeeded")).steps
    assert step.state == "succeeded"


def test_a_shard_that_failed_is_its_stages_failure() -> None:
    for left_out in (None, "Omitted"):
        (step,) = parse(_sharded("Succeeded", "Failed", whole=left_out)).steps
        assert (step.stage, step.state, step.exit_code, step.reason) == ("validate", "failed", 66, "a/1.png: changed.")


def test_without_shards_nothing_is_shown_of_them() -> None:
    """Argo skips the task over an empty list."""
    skipped: dict[str, Any] = {
        "id": "s",
        "displayName": "validate-shards",
        "name": "run.s",
        "type": "Skipped",
        "phase": "Skipped",
    }
    skipped |= {"templateRef": {"name": "visionloop-validate", "template": "validate"}}
    assert parse({"status": {"phase": "Running", "nodes": {"s": skipped}}}).steps == ()
