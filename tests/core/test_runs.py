"""The record of a run."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from visionloop.core import runs
from visionloop.core.errors import Defect, InvalidDataset, Transient
from visionloop.core.runs import EVENT_NAMES, RunRecord, StageState, describe_failure, run_name
from visionloop.core.storage import open_prefix


@pytest.fixture
def record(workspace: str) -> RunRecord:
    return RunRecord(open_prefix(workspace, "results"), "one")


def test_a_new_run_is_empty(record):
    assert record.read() is None
    assert record.stages() == []
    assert record.failures() == []
    assert record.state("train") == StageState(stage="train")
    assert record.failure("train") is None
    record.clear_failure("train")


def test_of_racing_openers_all_get_the_same_run(record):
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda number: record.open({"number": number}, None), range(6)))
    assert len({run.trace_id for run in opened}) == 1
    assert {run.arguments["number"] for run in opened} == {record.read().arguments["number"]}


def test_states_and_failures_read_back_in_the_order_of_their_start(record):
    record.open({"model_name": "digits"}, "t")
    for name, at in (("validate", "2026-01-01T00:00:02Z"), ("snapshot", "2026-01-01T00:00:01Z")):
        record.write_state(StageState(stage=name, state="running", started_at=at))
    error = InvalidDataset("images[3] is\nwrong; correct it.")
    error.last_successful_epoch = 7
    record.write_failure(describe_failure("validate", error, attempt=2, trace_id="t", traceback="never for 65"))
    assert [state.stage for state in record.stages()] == ["snapshot", "validate"]
    (failure,) = record.failures()
    assert (failure.stage, failure.exit_code, failure.attempt) == ("validate", 65, 2)
    assert (failure.error_message, failure.last_successful_epoch) == ("images[3] is wrong; correct it.", 7)
    assert failure.traceback is None
    record.write_failure(describe_failure("validate", Defect("x"), attempt=3, trace_id="t", traceback="for 70"))
    assert record.failure("validate").traceback == "for 70"
    record.write_failure(describe_failure("validate", Transient("x"), attempt=4, trace_id="t", traceback=None))
    assert record.failure("validate").attempt == 4


@pytest.mark.parametrize("torn", [b"", b"{", b"[1]"])
def test_a_torn_record_reads_as_none(record, torn):
    for name in ("run.json", "train.json", "train.failure.json"):
        record.prefix.write(name, torn)
    assert record.read() is None
    assert record.state("train") == StageState(stage="train")
    assert record.failure("train") is None
    assert record.open({}, "given").trace_id == "given"


def test_names_of_runs(monkeypatch):
    assert run_name("kfp-job-1742") == "kfp-job-1742"
    assert re.fullmatch(r"run-\d{8}-\d{6}-[0-9a-f]{6}", run_name(None))
    assert run_name(None) != run_name("")
    monkeypatch.setenv("JOB_ID", "1742")
    assert run_name(None) == "1742"
    assert run_name("given") == "given"


def test_times_are_utc_and_states_have_their_event_names():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", runs.now())
    assert EVENT_NAMES == {"succeeded": "completed", "failed": "failed", "cancelled": "stopped"}
