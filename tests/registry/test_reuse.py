"""A result that a run hands on instead of computing it: what the run's record says when it is gone by then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from toy_detector import Prepared

from visionloop.components.kubeflow import reuse
from visionloop.core.receipts import load
from visionloop.core.runs import RUN_VARIABLE, RunRecord, StageState
from visionloop.core.storage import open_prefix


@pytest.fixture
def training(prepared: Prepared) -> str:
    return prepared.train(2)


@pytest.fixture
def found_before(prepared: Prepared, training: str) -> RunRecord:
    """A run whose look ahead has called the training there."""
    record = RunRecord(open_prefix(prepared.workspace, "results"), "monday")
    record.open({"model_name": "digits"}, "trace")
    record.write_state(StageState(stage="train", state="succeeded", reused=True, receipt=training))
    return record


@pytest.fixture
def hand_on(prepared: Prepared, training: str) -> Callable[[], object]:
    return lambda: reuse("train", training, workspace=prepared.workspace, run="monday")


def test_what_is_gone_stands_in_the_run_as_the_stages_own_failure(
    found_before: RunRecord, training: str, hand_on: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    result = load(training, "train")
    best = result.prefix.read(result.output("best").path)
    result.prefix.delete([result.output("best").path])
    with pytest.raises(SystemExit) as ended:
        hand_on()
    assert ended.value.code == 65
    failure = found_before.failure("train")
    assert failure is not None
    assert (failure.exit_code, failure.error_code, failure.trace_id) == (65, "INVALID_RECEIPT", "trace")
    assert capsys.readouterr().err.splitlines()[-1] == failure.error_message
    assert failure.error_message.startswith(training)
    assert found_before.state("train").state == "failed"
    assert [entry.stage for entry in found_before.failures()] == ["train"]

    result.prefix.write(result.output("best").path, best)
    assert hand_on() == (training,)
    assert found_before.failure("train") is None
    assert found_before.state("train").state == "succeeded"


def test_what_is_there_leaves_the_record_as_it_is(found_before: RunRecord, hand_on: Callable[[], object]) -> None:
    before = found_before.state("train")
    hand_on()
    assert found_before.state("train") == before


def test_the_local_runners_name_of_the_run_goes_before_the_engines(
    found_before: RunRecord, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "monday")
    missing = f"{prepared.workspace}/train/0/receipt.json"
    with pytest.raises(SystemExit):
        reuse("train", missing, workspace=prepared.workspace, run="12345")
    failure = found_before.failure("train")
    assert failure is not None
    assert missing in failure.error_message


def test_without_a_run_the_sentence_is_all_there_is(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    missing = f"{prepared.workspace}/train/0/receipt.json"
    with pytest.raises(SystemExit) as ended:
        reuse("train", missing)
    assert ended.value.code == 65
    assert missing in capsys.readouterr().err
