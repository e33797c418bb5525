"""Following a run: what is shown of it, and how it ends. The engine is played from recordings; the workspace is real."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from recordings import workflow
from rich.console import Console

from visionloop.components.calls import STAGES_OF
from visionloop.core import progress, runs
from visionloop.core.errors import (
    AccessDenied,
    DatasetChanged,
    Defect,
    InvalidConfig,
    InvalidDataset,
    Killed,
    Terminated,
    TimeLimit,
    Transient,
    UserStopped,
    VisionloopError,
)
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.storage import open_prefix
from visionloop.pipelines.engines.argo.runs import parse
from visionloop.pipelines.following.display import Display
from visionloop.pipelines.following.follow import follow
from visionloop.pipelines.following.record import Record, StageRecord
from visionloop.pipelines.following.rows import duration, rows
from visionloop.pipelines.following.state import RemoteState, Step

STAGES = STAGES_OF["train"]

RUN = "5c0c6bd5"

#: What evaluate says of a model that is not good enough.
REJECTED = {"verdict": "reject", "reason": "mAP50-95 0 is below the floor 0.5."}


@dataclass
class Played:
    """A run whose engine says one thing after the other, the last one for ever."""

    says: list[RemoteState | BaseException | Callable[[], RemoteState]]
    engine: str = "argo"
    name: str = "visionloop-train-abcde"
    run: str = RUN
    page: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def state(self) -> RemoteState:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, BaseException):
            raise said
        return said() if callable(said) else said

    def with_outputs(self, state: RemoteState) -> RemoteState:
        return state

    def cancel(self) -> None:
        raise AssertionError("who follows a run does not end it")

    def follow_command(self) -> str:
        return f"visionloop run follow {self.name} --engine argo"


def play(workspace: str, *says: Any) -> dict[str, Any]:
    return follow(Played(list(says)), workspace, {"workspace": workspace, "model_name": "Digits"}, every=0)


def recorded(name: str) -> RemoteState:
    return parse(workflow(name))


@pytest.fixture
def record(workspace: str) -> RunRecord:
    """The run's record, opened as its first stage does."""
    result = RunRecord(open_prefix(workspace, "results"), RUN)
    result.open({"snapshot": {}}, "trace-1")
    return result


def failed(record: RunRecord, stage: str, error: VisionloopError, *, attempt: int = 1, attempts: int = 1) -> None:
    record.write_state(StageState(stage=stage, state="failed", attempt=attempts))
    record.write_failure(runs.describe_failure(stage, error, attempt=attempt, trace_id="trace-1", traceback=None))


def rejected(record: RunRecord) -> None:
    """Leaves the record of a run that registered nothing, as its stages would."""
    for stage in ("snapshot", "validate", "convert", "train", "cleanup"):
        record.write_state(StageState(stage=stage, state="succeeded", attempt=1, seconds=1.5))
    record.write_state(StageState(stage="evaluate", state="succeeded", attempt=1, scalars=REJECTED))


def test_a_rejected_model_is_a_good_end(workspace: str, record: RunRecord):
    rejected(record)
    ended = play(workspace, recorded("argo-succeeded"))
    assert {name: ended[name] for name in ("run", "trace_id", "model_name", "version", "alias", "verdict")} == {
        "run": RUN,
        "trace_id": "trace-1",
        "model_name": "digits",
        "version": None,
        "alias": None,
        "verdict": "reject",
    }
    assert set(ended["stages"]) == set(STAGES) - {"export", "register"}
    assert ended["seconds"] > 0
    assert (ended["given_name"], ended["reason"]) == ("Digits", "mAP50-95 0 is below the floor 0.5.")


def test_a_run_lasts_until_its_own_end_where_the_engine_is_behind_with_its_steps(workspace: str, record: RunRecord):
    rejected(record)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    steps = (
        Step("train", "succeeded", started_at=begun, finished_at=begun + timedelta(seconds=37)),
        Step("evaluate", "succeeded", started_at=begun + timedelta(seconds=40)),
    )
    assert play(workspace, RemoteState("succeeded", steps))["seconds"] == 37
    assert play(workspace, RemoteState("succeeded", steps, finished_at=begun + timedelta(minutes=3)))["seconds"] == 180


def test_a_policy_that_sees_no_need_is_a_good_end(workspace: str, record: RunRecord):
    record.write_state(
        StageState(stage="snapshot", state="succeeded", attempt=1, scalars={"go": "false", "reason": "nothing is new"})
    )
    ended = play(workspace, RemoteState("succeeded", (Step("snapshot", "succeeded"),)))
    assert (ended["version"], ended["verdict"], ended["reason"]) == (None, None, "nothing is new")
    assert list(ended["stages"]) == ["snapshot"]


def test_a_success_without_a_receipt_is_none(workspace: str, record: RunRecord):
    for stage in ("snapshot", "validate", "convert", "train"):
        record.write_state(StageState(stage=stage, state="succeeded", attempt=1))
    with pytest.raises(Defect, match=r"argo called visionloop-train-abcde a success, but register has no receipt"):
        play(workspace, recorded("argo-succeeded"))


def test_a_failed_cleanup_takes_nothing_from_a_finished_run(workspace: str, record: RunRecord):
    rejected(record)
    failed(record, "cleanup", Transient("The store is out."))
    ended = play(workspace, RemoteState("failed", (Step("cleanup", "failed", exit_code=75),)))
    assert ended["verdict"] == "reject"


def test_a_failed_stages_own_error_is_raised(workspace: str, record: RunRecord):
    failed(record, "snapshot", InvalidDataset("s3://datasets/nothing: as the record has it."))
    with pytest.raises(InvalidDataset, match=r"^s3://datasets/nothing: as the record has it\.$"):
        play(workspace, recorded("argo-wrong-data"))


def test_the_sentence_of_a_failed_stage_is_left_to_the_end_of_the_command(
    workspace: str, record: RunRecord, capsys: pytest.CaptureFixture[str]
):
    """The command prints the raised error as its last line; another stage's is a note."""
    failed(record, "snapshot", InvalidDataset("No dataset lies there."))
    failed(record, "cleanup", Transient("The store is out."))
    steps = (Step("snapshot", "failed", exit_code=65), Step("cleanup", "failed", exit_code=75, finished_at=None))
    with pytest.raises(InvalidDataset):
        play(workspace, RemoteState("failed", steps))
    said = capsys.readouterr().err
    assert "✗ snapshot  failed" in said
    assert "No dataset lies there." not in said
    assert said.count("note: cleanup: The store is out.") == 1


def test_without_a_record_the_engines_words_and_exit_code_count(workspace: str):
    with pytest.raises(InvalidDataset, match=r"^s3://datasets/nothing: no dataset lies there"):
        play(workspace, recorded("argo-wrong-data"))


def test_an_earlier_attempts_sentence_is_not_the_last_ones(workspace: str, record: RunRecord):
    failed(record, "train", Transient("The store was out."), attempt=1, attempts=3)
    step = Step("train", "failed", attempt=3, reason="pod deleted")
    with pytest.raises(Killed, match=r"^train: pod deleted; start the run again to resume"):
        play(workspace, RemoteState("failed", (step,)))


@pytest.mark.parametrize(
    "error", [Terminated("The pod was taken away."), UserStopped("train was stopped by the user.")]
)
def test_a_run_that_was_itself_asked_to_end_does_not_go_on(workspace: str, record: RunRecord, error: VisionloopError):
    failed(record, "train", error)
    with pytest.raises(type(error)) as raised:
        play(workspace, RemoteState("failed", (Step("train", "failed", exit_code=error.exit_code),)))
    assert raised.value.sentence == error.sentence


def test_the_first_failure_counts(workspace: str, record: RunRecord):
    failed(record, "snapshot", AccessDenied("no keys"))
    failed(record, "cleanup", Transient("later"))
    with pytest.raises(AccessDenied, match=r"^no keys$"):
        play(workspace, RemoteState("failed", (), "the engine gave up"))


def test_an_engines_own_limit_is_a_time_limit(workspace: str, record: RunRecord):
    with pytest.raises(TimeLimit, match=r"Max duration limit exceeded"):
        play(workspace, RemoteState("failed", (), "Max duration limit exceeded"))


def test_a_run_that_was_stopped_on_the_engine_says_so(workspace: str, record: RunRecord):
    with pytest.raises(UserStopped, match=r"was stopped on argo .Stopped with strategy 'Stop'."):
        play(workspace, RemoteState("stopped", (), "Stopped with strategy 'Stop'"))


def test_an_engine_that_is_out_for_a_while_is_asked_again(
    workspace: str, record: RunRecord, capsys: pytest.CaptureFixture[str]
):
    rejected(record)
    ended = play(workspace, RemoteState("running"), Transient("The cluster is out."), recorded("argo-succeeded"))
    assert ended["verdict"] == "reject"
    assert "The cluster is out. The run goes on; asking again." in capsys.readouterr().err


def test_a_run_that_the_engine_has_removed_ends_by_its_record(workspace: str, record: RunRecord):
    rejected(record)
    assert play(workspace, RemoteState("running"), InvalidConfig("gone"))["verdict"] == "reject"


def test_a_run_that_vanished_before_its_end_is_told_as_gone(workspace: str, record: RunRecord):
    with pytest.raises(InvalidConfig, match=r"^gone$"):
        play(workspace, RemoteState("running"), InvalidConfig("gone"))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, UserStopped), (signal.SIGTERM, Terminated)])
def test_leaving_says_how_to_come_back(
    workspace: str, record: RunRecord, number: signal.Signals, error: type[Exception], handled: None
):
    def asked_to_end() -> RemoteState:
        os.kill(os.getpid(), number)
        return RemoteState("running")

    with pytest.raises(error, match=r"the run goes on; come back with: visionloop run follow visionloop-train-abcde"):
        play(workspace, RemoteState("running"), asked_to_end)


@pytest.fixture
def handled() -> Iterator[None]:
    """SIGTERM as the command line takes it."""

    def end(number: int, _: object) -> None:
        raise Terminated("asked to end")

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def test_without_keys_the_engines_word_is_the_end(capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any):
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path))
    ended = play("s3://results/elsewhere", RemoteState("running"), recorded("argo-succeeded"))
    assert (ended["version"], ended["alias"]) == (1, "champion")
    assert (ended["model_name"], ended["given_name"]) == ("digits", "Digits")
    assert set(ended["stages"]) == set(STAGES) - {"export"}
    shown = capsys.readouterr().err
    assert shown.count("the workspace can't be read here") == 1
    assert "✓ train" in shown


@pytest.mark.parametrize(
    "steps",
    [
        (
            Step("convert", "succeeded", outputs={"receipt": "c", "next": "train", "verdict": ""}),
            Step("evaluate", "succeeded", outputs={"receipt": "e", **REJECTED, "metrics": '{"mAP50": 0.25}'}),
        ),
        # A second run: convert has found the evaluation, which starts no pod.
        (
            Step(
                "convert", "succeeded", outputs={"next": "nothing", **REJECTED, "evaluation_metrics": '{"mAP50": 0.25}'}
            ),
            Step("evaluate", "skipped"),
        ),
    ],
)
def test_without_keys_verdict_reason_and_metrics_are_the_engines_outputs(
    tmp_path: Any, monkeypatch: Any, steps: tuple[Step, ...]
):
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path))
    ended = play("s3://results/elsewhere", RemoteState("succeeded", (*steps, Step("register", "skipped"))))
    assert (ended["verdict"], ended["reason"]) == (REJECTED["verdict"], REJECTED["reason"])
    assert ended["metrics"] == {"mAP50": 0.25}


def test_without_keys_a_policy_that_sees_no_need_says_why(tmp_path: Any, monkeypatch: Any):
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path))
    step = Step("snapshot", "succeeded", outputs={"receipt": "s", "go": "false", "reason": "nothing is new"})
    ended = play("s3://results/elsewhere", RemoteState("succeeded", (step,)))
    assert (ended["verdict"], ended["reason"]) == (None, "nothing is new")


def test_both_ends_have_the_same_fields(workspace: str, record: RunRecord):
    unseen = play("s3://results/elsewhere", recorded("argo-succeeded"))
    rejected(record)
    assert list(play(workspace, recorded("argo-succeeded"))) == list(unseen)


def test_without_keys_a_success_without_a_receipt_is_none(tmp_path: Any, monkeypatch: Any):
    monkeypatch.setenv("VISIONLOOP_HOME", str(tmp_path))
    step = Step("register", "succeeded", outputs={"receipt": "", "version": ""})
    with pytest.raises(Defect, match=r"register has no receipt"):
        play("s3://results/elsewhere", RemoteState("succeeded", (step,)))


def test_keys_of_another_store_are_no_keys(workspace: str):
    ended = play(workspace, recorded("argo-succeeded"))
    assert ended["version"] == 1


def test_lines_are_told_when_they_change(workspace: str, record: RunRecord, capsys: pytest.CaptureFixture[str]):
    prefix = record.workspace.child("train/k")

    def epoch(number: int) -> Callable[[], RemoteState]:
        def happens() -> RemoteState:
            record.write_state(StageState(stage="train", state="running", attempt=2, key="k", notices=["Few images."]))
            progress.advance(
                prefix,
                progress.Progress(
                    attempt="a", epoch=number, epochs=16, checkpoints=[], metrics={"mAP50": 0.1 * number}, best_epoch=1
                ),
            )
            return RemoteState("running", (Step("snapshot", "succeeded"), Step("train", "running", attempt=2)))

        return happens

    with pytest.raises(UserStopped):
        play(
            workspace,
            RemoteState("pending", (), "waiting for a slot"),
            RemoteState("running", (Step("train", "waiting", reason="Unschedulable: no node"),)),
            epoch(3),
            epoch(3),
            epoch(4),
            RemoteState("stopped"),
        )
    assert capsys.readouterr().err.splitlines() == [
        "visionloop-train-abcde  argo",
        "note: waiting for a slot",
        "… train     Unschedulable: no node",
        "note: train: Few images.",
        "✓ snapshot  done",
        "● train     attempt 2 of 3  epoch 3/16  mAP50 0.300",
        "● train     attempt 2 of 3  epoch 4/16  mAP50 0.400",
    ]


def test_a_terminal_shows_the_tree():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None, _environ={"TERM": "xterm"})
    display = Display("visionloop-train-abcde  argo", STAGES, console)
    state = RemoteState(
        "running",
        (Step("snapshot", "succeeded"), Step("train", "waiting", reason="in Kueue's queue gpus: [quota] is used up")),
    )
    display.show(rows(state, {}, STAGES), "the cluster is out")
    display.close()
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert any("├── ✓ snapshot  done" in line for line in lines)
    assert any("… train     in Kueue's queue gpus: [quota] is used up" in line for line in lines)
    assert any("evaluate" in line for line in lines)
    assert "the cluster is out" in lines


def test_an_end_that_the_record_told_is_not_told_again(workspace: str, record: RunRecord, capsys: Any) -> None:
    record.write_state(StageState(stage="snapshot", state="succeeded", attempt=1, key="k", seconds=4.2))
    began = datetime(2026, 1, 1, tzinfo=UTC)
    late = Step("snapshot", "succeeded", started_at=began, finished_at=began + timedelta(seconds=9))
    with pytest.raises(UserStopped):
        play(
            workspace,
            RemoteState("running", (Step("snapshot", "running"),)),
            RemoteState("running", (late,)),
            RemoteState("stopped", (late,)),
        )
    assert capsys.readouterr().err.splitlines()[1:] == ["✓ snapshot  done in 4 s"]


def test_the_record_speaks_where_the_engine_is_behind() -> None:
    existing = {
        "train": StageRecord(StageState(stage="train", state="succeeded", attempt=1)),
        "evaluate": StageRecord(StageState(stage="evaluate", state="succeeded", attempt=1, reused=True)),
        "register": StageRecord(StageState(stage="register", state="running", attempt=1)),
    }
    state = RemoteState("running", (Step("train", "failed", reason="gone"), Step("evaluate", "running")))
    shown = {row.stage: (row.state, row.text) for row in rows(state, existing, STAGES)}
    assert shown["train"] == ("failed", "gone")
    assert shown["evaluate"] == ("succeeded", "reused")
    assert shown["register"] == ("running", "")
    assert shown["cleanup"] == ("pending", "")


def test_a_stage_that_is_tried_again_says_why():
    failure = runs.describe_failure("train", Transient("The store is out."), attempt=1, trace_id="t", traceback=None)
    existing = {"train": StageRecord(StageState(stage="train", state="failed", attempt=1), None, failure)}
    shown = rows(RemoteState("running", (Step("train", "waiting", reason="Backoff for 10 seconds"),)), existing, STAGES)
    assert next(row.text for row in shown if row.stage == "train") == (
        "The store is out. Trying again; Backoff for 10 seconds"
    )


def test_a_reused_stage_was_not_skipped():
    existing = {"train": StageRecord(StageState(stage="train", state="succeeded", reused=True, receipt="…"))}
    shown = {row.stage: row for row in rows(recorded("argo-reused"), existing, STAGES)}
    assert (shown["train"].mark, shown["train"].text) == ("✓", "reused")
    assert (shown["evaluate"].mark, shown["evaluate"].text) == ("–", "skipped")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (90061, "25 h 1 min")]
)
def test_a_time_span_is_told_for_people(seconds: float, text: str):
    assert duration(timedelta(seconds=seconds)) == text


def test_asked_to_end_at_the_first_word_it_says_that_the_run_goes_on(
    workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(self: Display, text: str) -> None:
        raise Terminated("asked to end")

    monkeypatch.setattr(Display, "_print", asked)
    with pytest.raises(Terminated, match="the run goes on; come back with"):
        follow(Played([RemoteState("running")]), workspace, {}, every=0)


def _shard(record: RunRecord, shard: str, state: str, **more: Any) -> None:
    record.write_state(StageState(stage="validate", shard=shard, state=state, attempt=1, **more))


def test_how_many_shards_are_done_is_read_from_the_record(workspace: str, record: RunRecord) -> None:
    """Kubeflow Pipelines tells the shards that have begun alone."""
    listed = Record(workspace, RUN)
    _shard(record, "1/3", "succeeded")
    _shard(record, "2/3", "running")
    record.write_state(StageState(stage="snapshot", state="succeeded", attempt=1, scalars={"shards": []}))
    assert "validate" not in listed.read(STAGES)
    listed = Record(workspace, RUN)
    record.write_state(
        StageState(stage="snapshot", state="succeeded", attempt=1, scalars={"shards": ["1/3", "2/3", "3/3"]})
    )
    (row,) = rows(
        RemoteState("running", (Step("validate", "running", shards=(1, 0)),)), listed.read(STAGES), ("validate",)
    )
    assert (row.state, row.text) == ("running", "1 of 3 shards")
    # Where the engine tells nothing of its tasks as well.
    (row,) = rows(RemoteState("running"), listed.read(STAGES), ("validate",))
    assert (row.state, row.text) == ("running", "1 of 3 shards")
    record.write_state(StageState(stage="validate", state="running", attempt=1))
    (row,) = rows(RemoteState("running", (Step("validate", "running"),)), listed.read(STAGES), ("validate",))
    assert row.text == ""


def test_a_shard_that_failed_ends_the_run_with_its_own_error(workspace: str, record: RunRecord) -> None:
    record.write_state(StageState(stage="snapshot", state="succeeded", attempt=1, scalars={"shards": ["1/2", "2/2"]}))
    _shard(record, "1/2", "succeeded")
    _shard(record, "2/2", "failed")
    error = DatasetChanged("s3://datasets/x/1.png: changed since the snapshot; take a new snapshot.")
    record.write_failure(
        runs.describe_failure("validate", error, attempt=1, trace_id="trace-1", traceback=None, shard="2/2")
    )
    with pytest.raises(DatasetChanged, match=r"1\.png: changed since the snapshot"):
        play(
            workspace,
            RemoteState("failed", (Step("snapshot", "succeeded"), Step("validate", "failed", reason="exit 1"))),
        )
