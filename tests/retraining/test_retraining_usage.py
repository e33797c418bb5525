"""What earlier runs took: counted from real records and receipts, on S3 and in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from visionloop.components.snapshot.retraining.policy import Usage
from visionloop.components.snapshot.retraining.usage import model_name, usage_of
from visionloop.core import receipts
from visionloop.core.canonical import stage_key
from visionloop.core.errors import UserStopped
from visionloop.core.receipts import Output, Receipt
from visionloop.core.runs import RunRecord, StageState, describe_failure
from visionloop.core.storage import Prefix, open_prefix

#: The store's clock is the real one, and old records are passed over by it.
NOW = datetime.now(UTC)


def moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass
class Past:
    """A workspace with earlier runs."""

    workspace: Prefix
    count: int = 0

    def training(self, gpu_hours: float, attempt: str) -> str:
        """A train receipt."""
        self.count += 1
        parameters = {"seed": receipts.Parameter(self.count, "argument")}
        key = stage_key("train", 1, {}, {"seed": self.count})
        output = self.workspace.child(f"train/{key}").write(f"{attempt}/best.pt", b"weights")
        outputs = {"best": Output(f"{attempt}/best.pt", output.size, output.sha256, True)}
        receipt = Receipt(
            stage="train",
            logic_version=1,
            key=key,
            attempt=attempt,
            inputs={},
            parameters=parameters,
            outputs=outputs,
            digest=receipts.digest_of(outputs),
            scalars={},
            metrics={},
            timings={"gpu_hours": gpu_hours},
            versions={},
            trace_id="",
        )
        return receipts.publish(self.workspace.child(f"train/{key}"), receipt, None).uri

    def run(self, name: str, arguments: dict[str, Any], ago: timedelta = timedelta(), **state: Any) -> RunRecord:
        """A run whose train stage began and ended so long ago."""
        record = RunRecord(self.workspace, name)
        record.open(arguments, None)
        fields: dict[str, Any] = {"state": "succeeded", "attempts": ["a"], "reused": False} | state
        then = moment(NOW - ago)
        # Written as it is: write_state would put the time in.
        train = StageState(stage="train", started_at=then, updated_at=then, **fields)
        record.prefix.write("train.json", msgspec.json.encode(train))
        return record

    def usage(self, model: str = "tiny-digits", own: str = "now", at: datetime = NOW) -> Usage:
        return usage_of(self.workspace, model, own, at)


@pytest.fixture
def past(workspace: str) -> Past:
    return Past(open_prefix(workspace, "results"))


def test_an_empty_workspace_took_nothing(past: Past) -> None:
    assert past.usage() == Usage(0, 0.0)


def test_trainings_of_the_model_are_counted_however_the_run_was_started(past: Past) -> None:
    past.run("laptop", {"model_name": "Tiny Digits"}, receipt=past.training(1.5, "a"))
    past.run("argo", {"snapshot": {"dataset": "s3://d", "model_name": "tiny digits"}}, receipt=past.training(2.25, "a"))
    past.run("by-hand", {"train": {"model_name": "tiny-digits"}}, receipt=past.training(0.25, "a"))
    past.run("other", {"model_name": "bottles"}, receipt=past.training(40, "a"))
    past.run("nameless", {"train": {"set": ["epochs=3"]}}, receipt=past.training(40, "a"))
    past.run("unnameable", {"model_name": "???"}, receipt=past.training(40, "a"))
    assert past.usage() == Usage(3, 4.0)
    assert past.usage("bottles") == Usage(1, 40)


def test_what_computed_nothing_counts_for_nothing(past: Past) -> None:
    earlier = past.training(8, "earlier")
    past.run("reused", {"model_name": "tiny-digits"}, attempts=[], reused=True, receipt=earlier)
    past.run("refused", {"model_name": "tiny-digits"}, attempts=[], state="failed")
    skipped = RunRecord(past.workspace, "skipped")
    skipped.open({"model_name": "tiny-digits"}, None)
    skipped.write_state(StageState(stage="snapshot", state="succeeded", scalars={"go": "false"}))
    assert past.usage() == Usage(0, 0.0)


def test_a_training_that_another_run_finished_first_is_that_runs(past: Past) -> None:
    theirs = past.training(8, "theirs")
    past.run("lost-the-race", {"model_name": "tiny-digits"}, attempts=["mine"], receipt=theirs)
    assert past.usage() == Usage(1, 0.0)
    past.run("won-the-race", {"model_name": "tiny-digits"}, attempts=["theirs"], receipt=theirs)
    assert past.usage() == Usage(2, 8.0)


def test_a_training_that_failed_is_a_run_and_one_that_was_stopped_has_its_gpu_hours(past: Past) -> None:
    past.run("failed", {"model_name": "tiny-digits"}, state="failed", reused=None)
    stopped = past.run("stopped", {"model_name": "tiny-digits"}, state="cancelled", attempts=["a"], reused=None)
    error = UserStopped("train was stopped by the user; run it again to resume.")
    error.receipt = past.training(3, "a")
    stopped.write_failure(describe_failure("train", error, attempt=1, trace_id="", traceback=None))
    assert past.usage() == Usage(2, 3.0)


def test_the_run_that_asks_does_not_count(past: Past) -> None:
    past.run("now", {"model_name": "tiny-digits"}, receipt=past.training(8, "a"))
    assert past.usage() == Usage(0, 0.0)
    assert past.usage(own="later") == Usage(1, 8.0)


def test_a_receipt_that_is_gone_has_no_gpu_hours(past: Past) -> None:
    uri = past.training(8, "a")
    past.run("swept", {"model_name": "tiny-digits"}, receipt=uri)
    past.workspace.delete([uri.removeprefix(f"{past.workspace.uri}/")])
    assert past.usage() == Usage(1, 0.0)


def test_the_week_is_seven_days_and_the_month_begins_on_its_first_day(past: Past) -> None:
    hour = timedelta(hours=1)
    past.run("recent", {"model_name": "tiny-digits"}, timedelta(days=7) - hour, receipt=past.training(1, "a"))
    past.run("older", {"model_name": "tiny-digits"}, timedelta(days=7) + hour, receipt=past.training(2, "a"))
    past.run("today", {"model_name": "tiny-digits"}, receipt=past.training(4, "a"))
    assert past.usage().runs == 2
    next_month = (NOW.replace(day=1) + timedelta(days=40)).replace(day=1)
    assert past.usage(at=next_month).gpu_hours == 0
    this_month = sum(
        hours
        for hours, ago in ((1, timedelta(days=7) - hour), (2, timedelta(days=7) + hour), (4, timedelta()))
        if (NOW - ago).month == NOW.month
    )
    assert past.usage().gpu_hours == this_month


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, ""),
        ({"model_name": "a", "snapshot": {"model_name": "b"}}, "a"),
        ({"snapshot": {"model_name": "b"}}, "b"),
        ({"snapshot": "snap_0123456789ab", "model_name": ""}, ""),
        ({"train": {"model_name": None}, "evaluate": {"model_name": "c"}}, "c"),
    ],
)
def test_the_models_name_is_found_in_a_runs_arguments(arguments: dict[str, Any], name: str) -> None:
    assert model_name(arguments) == name
