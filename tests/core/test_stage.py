"""The stage runner, with a toy stage on real stores: a result once, whatever fails, and every failure told."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import obstore
import pytest
import toy_stage
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import S3Store
from toy_stage import executions, run

from visionloop.core import errors, limits, receipts, running, runs, stage
from visionloop.core.errors import (
    RETRYABLE,
    RETRYABLE_IN_PLACE,
    AccessDenied,
    Defect,
    InvalidConfig,
    InvalidDataset,
    InvalidReceipt,
    SickMachine,
    Silent,
    Terminated,
    TimeLimit,
    Transient,
    UserStopped,
    VisionloopError,
    all_errors,
)
from visionloop.core.limits import Limits
from visionloop.core.policy import StagePolicy
from visionloop.core.running import Invocation, make_arguments, run_stage
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Context, Outcome
from visionloop.core.stop import Stop, ask
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.workspace import FILE, Probe

#: Every error that a stage may end with.
FAILURES = [error.__name__ for error in all_errors()[1:] if error.__module__ == errors.__name__]


@pytest.fixture
def workspace(workspace: str) -> str:
    """A workspace whose store is known: finding out takes SeaweedFS a second, and has its own test."""
    result = Probe(created_at="", conditional_create=True, read_after_write=True)
    open_prefix(workspace, "results").write(FILE, msgspec.json.encode(result))
    return workspace


@pytest.fixture(autouse=True)
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "executions"
    folder.mkdir()
    monkeypatch.setenv("TOY_COUNT", str(folder))
    return folder


def stored(outcome: Outcome) -> receipts.Result:
    """The receipt as it lies in the store now, its outputs verified."""
    assert outcome.result is not None
    return receipts.load(outcome.result.uri, "toy")


def record(workspace: str, run_name: str) -> RunRecord:
    return RunRecord(open_prefix(workspace, "results"), run_name)


def keys(workspace: str) -> list[str]:
    return sorted(info.key for info in open_prefix(workspace, "results").objects())


def test_a_result_is_computed_once_and_then_reused(workspace):
    first, second = run(workspace, run="one"), run(workspace, run="two")
    assert (first.reused, second.reused, executions()) == (False, True, 1)
    assert stored(first).receipt == stored(second).receipt == first.receipt == second.receipt
    assert stored(first).read("a") == b"a 1.0"
    run(workspace, value=2.0)
    run(workspace, inputs="a,c")
    assert executions() == 3


def test_the_layout_is_the_contracts(workspace):
    outcome = run(workspace, run="one")
    assert outcome.receipt is not None
    key, attempt = outcome.receipt.key, outcome.receipt.attempt
    assert keys(workspace) == sorted(
        [
            *(f"toy/{key}/{attempt}/{name}" for name in ("a.txt", "b.txt", "picture.bin")),
            f"toy/{key}/receipt.json",
            *("runs/one/run.json", "runs/one/toy.json", "workspace.json"),
        ]
    )
    assert outcome.summary() == {
        "stage": "toy",
        "key": key,
        "receipt": f"{open_prefix(workspace, 'results').uri}/toy/{key}/receipt.json",
        "reused": False,
        "seconds": outcome.summary()["seconds"],
        "files": 2,
        "beside": 1,
        "timings": outcome.receipt.timings,
        "metrics": {"mAP50": 0.5},
    }
    state = record(workspace, "one").state("toy")
    assert (state.state, state.attempt, state.attempts, state.key) == ("succeeded", 1, [attempt], key)
    assert (state.receipt, state.reused, state.notices) == (outcome.summary()["receipt"], False, ["This is a toy."])
    assert state.scalars == {"files": 2, "beside": 1}
    assert [entry.stage for entry in record(workspace, "one").stages()] == ["toy"]


def test_neither_run_nor_trace_nor_time_is_in_the_key_or_the_digest(workspace, tmp_path, monkeypatch):
    first = run(workspace, run="one", trace_id="trace-one")
    monkeypatch.setenv("TRACE_ID", "trace-two")
    monkeypatch.setattr(runs, "now", lambda: "2031-01-01T00:00:00Z")
    second = run(str(tmp_path / "another"), run="two", run_arguments={"model_name": "other"})
    assert first.receipt is not None
    assert second.receipt is not None
    assert (second.reused, executions()) == (False, 2)
    assert (first.receipt.key, first.receipt.digest) == (second.receipt.key, second.receipt.digest)
    assert (first.receipt.trace_id, second.receipt.trace_id) == ("trace-one", "trace-two")
    assert first.receipt.outputs["picture"].sha256 != second.receipt.outputs["picture"].sha256


def test_force_computes_again_and_replaces(workspace):
    first = run(workspace)
    forced = run(workspace, force=True)
    assert (forced.reused, executions()) == (False, 2)
    assert first.receipt is not None
    assert forced.receipt is not None
    assert forced.receipt.attempt != first.receipt.attempt
    assert forced.receipt.digest == first.receipt.digest
    assert stored(first).receipt == forced.receipt
    assert run(workspace).reused


@pytest.mark.parametrize("damage", ["output gone", "decoration gone", "output cut", "receipt torn"])
def test_a_damaged_result_is_computed_again_and_replaced(workspace, damage):
    first = run(workspace)
    assert first.result is not None
    key_prefix = first.result.prefix
    if damage == "output gone":
        key_prefix.delete([first.result.output("a").path])
    elif damage == "decoration gone":
        key_prefix.delete([first.result.output("picture").path])
    elif damage == "output cut":
        key_prefix.write(first.result.output("a").path, b"a")
    else:
        key_prefix.write("receipt.json", key_prefix.read("receipt.json")[:100])
    again = run(workspace)
    assert (again.reused, executions()) == (False, 2)
    assert stored(again).receipt == again.receipt
    assert run(workspace).reused


def test_cleanup_leaves_a_damaged_result_alone_until_another_receipt_replaces_it(workspace):
    from visionloop.components.cleanup import STAGE as CLEANUP

    first = run(workspace, run="one")
    assert first.result is not None
    prefix = first.result.prefix
    prefix.write(first.result.output("b").path, bytes(5))
    with pytest.raises(InvalidReceipt, match="the output 'b' is damaged; run again: toy will be computed again"):
        receipts.load(first.result.uri, "toy", open_prefix(workspace, "results")).read("b")
    prefix.write("progress.json", b"{}")
    before = keys(workspace)
    assert run_stage(CLEANUP, {}, Invocation(workspace, run="one")).scalars["removed"] == 0
    assert [key for key in keys(workspace) if not key.endswith("cleanup.json")] == before

    again = run(workspace, run="one")
    assert (again.reused, executions()) == (False, 2)
    assert stored(again).read("b") == b"b 1.0"
    assert run_stage(CLEANUP, {}, Invocation(workspace, run="one")).scalars["removed"] == 5
    left = [info.key for info in prefix.objects()]
    assert sorted(left) == sorted(["receipt.json", *(entry.path for entry in stored(again).receipt.outputs.values())])
    assert run(workspace).reused


@pytest.mark.parametrize("name", ["InvalidDataset", "Transient", "Defect"])
def test_an_error_is_told_and_leaves_the_workspace_usable_on_each_store(workspace, monkeypatch, tmp_path, name):
    check_failure(workspace, monkeypatch, tmp_path, name)


@pytest.mark.parametrize("name", FAILURES)
def test_every_error_is_told_and_leaves_the_workspace_usable(file_workspace, monkeypatch, tmp_path, name):
    check_failure(file_workspace, monkeypatch, tmp_path, name)


def check_failure(workspace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(running, "TERMINATION_LOG", log)
    monkeypatch.setenv("TOY_FAIL", name)
    kind = getattr(errors, name)
    with pytest.raises(kind) as caught:
        run(workspace, run="one", trace_id="t")
    assert type(caught.value) is kind
    assert executions() == 1

    failure = record(workspace, "one").failure("toy")
    assert failure is not None
    sentence = "The toy failed as it was told; run it again."
    assert log.read_text() == sentence
    assert msgspec.structs.asdict(failure) | {"written_at": 0, "traceback": None} == {
        "stage": "toy",
        "exit_code": kind.exit_code,
        "error_code": kind.error_code,
        "error_message": sentence,
        "error_type": kind.error_type,
        "last_successful_epoch": 3 if name == "OutOfMemory" else None,
        "attempt": 1,
        "trace_id": "t",
        "written_at": 0,
        "traceback": None,
        "batch": 8 if name == "OutOfMemory" else None,
        "receipt": None,
        "shard": "",
    }
    assert b'"shard":' not in record(workspace, "one").prefix.read("toy.failure.json")
    assert (failure.traceback is not None) == (kind.exit_code == 70)
    assert record(workspace, "one").state("toy").state == ("cancelled" if name == "UserStopped" else "failed")
    assert not any(key.endswith(("receipt.json", "reservation.json")) for key in keys(workspace))

    monkeypatch.delenv("TOY_FAIL")
    again = run(workspace, run="one")
    assert (again.reused, executions()) == (False, 2)
    assert record(workspace, "one").failure("toy") is None
    assert record(workspace, "one").failures() == []
    state = record(workspace, "one").state("toy")
    assert (state.state, state.attempt, len(state.attempts)) == ("succeeded", 2, 2)


@pytest.mark.parametrize("name", FAILURES)
def test_only_what_is_transient_is_tried_again_in_place(file_workspace, monkeypatch, name):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    monkeypatch.setenv("TOY_FAIL", name)
    monkeypatch.setenv("TOY_TIMES", "2")
    kind = getattr(errors, name)
    if kind.exit_code in RETRYABLE_IN_PLACE:
        assert not run(file_workspace, run="one").reused
        assert executions() == 3
        assert record(file_workspace, "one").failure("toy") is None
        assert record(file_workspace, "one").state("toy").attempt == 3
    else:
        with pytest.raises(kind):
            run(file_workspace, run="one")
        assert executions() == 1


class Impatient(Limits):
    """Hears silence after a moment."""

    def __init__(self, stage: str, limit: float, used: float, silence: float = 0.2) -> None:
        super().__init__(stage, limit, used, silence)


@pytest.mark.parametrize(
    ("request_", "kind", "event"),
    [
        (Stop(cancelled=True), UserStopped, "stopped"),
        (Stop(), Terminated, "failed"),
        (None, Terminated, "failed"),
    ],
)
def test_a_signal_to_a_run_that_a_person_has_cancelled_is_that_persons_stop(
    file_workspace, monkeypatch, request_, kind, event
):
    record = RunRecord(open_prefix(file_workspace, "results"), "one")
    if request_:
        ask(record, request_)
    monkeypatch.setenv("TOY_FAIL", "Terminated")
    with pytest.raises(kind) as raised:
        run(file_workspace, run="one")
    failure = record.failure("toy")
    assert failure is not None
    assert (failure.exit_code, failure.event) == (raised.value.exit_code, event)
    assert record.state("toy").state == ("cancelled" if event == "stopped" else "failed")


def test_a_silent_attempt_is_followed_by_another(file_workspace, monkeypatch):
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(running, "Limits", Impatient)
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "2")
    monkeypatch.setenv("TOY_SILENT", "1")
    assert not run(file_workspace, run="one").reused
    assert executions() == 2
    monkeypatch.setenv("TOY_SILENT", "9")
    with pytest.raises(Silent):
        run(file_workspace, value=2.0, run="two")
    assert executions() == 4


def signs_of_life(capfd: pytest.CaptureFixture[str]) -> list[float]:
    """The seconds of each line "toy is alive" that was logged since the last call."""
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    return [line["metadata"]["seconds"] for line in lines if line["message"] == "toy is alive"]


def test_a_sign_of_life_is_finished_work_and_never_a_timers(file_workspace, monkeypatch, capfd):
    """With an interval of nothing each piece of work is told, and in a silence whose timer ticks all along nothing is."""
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(running, "Limits", Impatient)
    monkeypatch.setattr(stage, "SIGN_OF_LIFE_SECONDS", 0)
    monkeypatch.setenv("TOY_SILENT", "1")
    with pytest.raises(Silent):
        run(file_workspace, inputs="a,b,c", run="silent")
    assert len(signs_of_life(capfd)) == 3
    # Not silent now: three files, the picture's one part and the picture.
    run(file_workspace, inputs="a,b,c", run="lively")
    assert len(signs_of_life(capfd)) == 5


def test_work_that_takes_no_minute_is_not_told(file_workspace, capfd):
    run(file_workspace, run="one")
    assert signs_of_life(capfd) == []


@given(st.lists(st.floats(0, 200), max_size=40))
def test_a_sign_of_life_is_told_once_an_interval_at_most_and_as_soon_as_work_allows(gaps: list[float]):
    now = 0.0
    arguments: list[float] = []
    work = list(itertools.accumulate(gaps))
    key_prefix = Prefix("file:///nowhere", "results", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "time", SimpleNamespace(monotonic=lambda: now))
        context = Context(
            key_prefix,
            RunRecord(key_prefix, "one"),
            "trace",
            Limits("toy", 60, 0),
            StagePolicy(),
            on_sign_of_life=lambda: arguments.append(now),
            _last_sign_of_life=0.0,
        )
        for now in work:  # noqa: B007 - the clock above reads it
            context.alive()
    expected, last = [], 0.0
    for moment in work:
        if moment - last >= 60:
            expected.append(moment)
            last = moment
    assert arguments == expected


def test_after_the_last_attempt_the_error_stands(file_workspace, monkeypatch):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    monkeypatch.setenv("TOY_FAIL", "Transient")
    with pytest.raises(Transient):
        run(file_workspace, run="one")
    assert executions() == 3
    failure = record(file_workspace, "one").failure("toy")
    assert failure is not None
    assert (failure.attempt, failure.exit_code) == (3, 75)


def test_a_signal_between_two_attempts_is_the_stages_own(file_workspace, monkeypatch):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    monkeypatch.setenv("TOY_FAIL", "Transient")
    emit = running.live.emit

    def asked(kind: str, **fields: object) -> None:
        emit(kind, **fields)
        if kind == "retry":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(running.live, "emit", asked)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody handles it"))
    try:
        with pytest.raises(Terminated, match="toy was asked to end by SIGTERM"):
            run(file_workspace, run="one")
    finally:
        signal.signal(signal.SIGTERM, before)
    failure = record(file_workspace, "one").failure("toy")
    assert failure is not None
    assert failure.exit_code == Terminated.exit_code


def test_where_an_engine_retries_too_the_attempts_of_earlier_pods_count(file_workspace, monkeypatch):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", "3")
    monkeypatch.setenv("TOY_FAIL", "Transient")
    for attempts in (3, 4, 5):
        with pytest.raises(Transient):
            run(file_workspace, run="one", honour_failures=True)
        assert executions() == attempts


@pytest.mark.parametrize("value", ["0", "-1", "two", "²", "1.5"])
def test_a_number_of_attempts_that_is_none(file_workspace, monkeypatch, value):
    monkeypatch.setenv("VISIONLOOP_ATTEMPTS", value)
    with pytest.raises(InvalidConfig, match="VISIONLOOP_ATTEMPTS"):
        run(file_workspace)


@pytest.mark.parametrize("name", FAILURES)
def test_a_remaining_attempt_honours_only_a_permanent_failure(file_workspace, monkeypatch, name):
    kind = getattr(errors, name)
    monkeypatch.setenv("TOY_FAIL", name)
    with pytest.raises(kind):
        run(file_workspace, run="one")
    failure = record(file_workspace, "one").failure("toy")
    monkeypatch.delenv("TOY_FAIL")
    if kind.exit_code in RETRYABLE:
        assert not run(file_workspace, run="one", honour_failures=True).reused
        assert executions() == 2
        return
    with pytest.raises(kind) as caught:
        run(file_workspace, run="one", honour_failures=True)
    assert type(caught.value) is kind
    assert str(caught.value) == "The toy failed as it was told; run it again."
    assert executions() == 1
    assert record(file_workspace, "one").failure("toy") == failure, "the first failure's own record stays"


@pytest.mark.parametrize(("age", "honoured"), [(0, True), (170, True), (181, False), (-60, False)])
def test_a_failure_counts_for_three_minutes(file_workspace, monkeypatch, age, honoured):
    monkeypatch.setenv("TOY_FAIL", "InvalidDataset")
    with pytest.raises(InvalidDataset):
        run(file_workspace, run="one")
    monkeypatch.delenv("TOY_FAIL")
    recorded = record(file_workspace, "one")
    failure = recorded.failure("toy")
    assert failure is not None
    recorded.write_failure(msgspec.structs.replace(failure, written_at=failure.written_at - age))
    with pytest.raises(InvalidDataset) if honoured else contextlib.nullcontext():
        run(file_workspace, run="one", honour_failures=True)


def test_a_failure_counts_for_its_run_and_for_targets_that_need_it_alone(file_workspace, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "InvalidDataset")
    with pytest.raises(InvalidDataset):
        run(file_workspace, run="one")
    with pytest.raises(InvalidDataset):
        run(file_workspace, run="two", honour_failures=True)
    with pytest.raises(InvalidDataset):
        run(file_workspace, run="one")
    assert executions() == 3


def test_a_defect_keeps_its_traceback_in_the_record_only(file_workspace, monkeypatch, capfd):
    monkeypatch.setenv("TOY_FAIL", "ValueError")
    with pytest.raises(Defect, match=r"toy met a defect of Visionloop \(ValueError: The toy failed") as caught:
        run(file_workspace, run="one")
    assert caught.value.exit_code == 70
    failure = record(file_workspace, "one").failure("toy")
    assert failure is not None
    assert failure.error_message == caught.value.sentence
    assert failure.traceback is not None
    assert "ValueError: The toy failed" in failure.traceback
    assert "toy_stage.py" in failure.traceback
    assert "Traceback" not in capfd.readouterr().err


def test_a_defect_before_there_is_a_record_is_logged_whole(monkeypatch, capfd):
    def broken(*_):
        raise ValueError("no record for this one")

    monkeypatch.setattr(running, "open_prefix", broken)
    with pytest.raises(Defect):
        run("/nowhere")
    line = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert "no record for this one" in line["traceback"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ENOSPC", SickMachine),
        ("EIO", SickMachine),
        ("PermissionError", AccessDenied),
        ("EROFS", AccessDenied),
        ("EBADF", Defect),
        ("KeyboardInterrupt", errors.UserStopped),
    ],
)
def test_errors_of_the_machine_and_of_the_user(file_workspace, monkeypatch, name, kind):
    monkeypatch.setenv("TOY_FAIL", name)
    with pytest.raises(kind):
        run(file_workspace, run="one")
    failure = record(file_workspace, "one").failure("toy")
    assert failure is not None
    assert failure.exit_code == kind.exit_code


def test_the_time_limit_counts_over_the_attempts_of_a_run_and_anew_after_it(file_workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_LIMIT", "100")
    monkeypatch.setenv("TOY_WAIT", str(tmp_path / "never"))
    recorded = record(file_workspace, "one")
    recorded.open({}, None)
    recorded.write_state(runs.StageState(stage="toy", state="failed", attempt=1, seconds=99.9))
    with pytest.raises(TimeLimit):
        run(file_workspace, run="one")
    assert recorded.state("toy").seconds > 100
    assert not any(key.endswith("reservation.json") for key in keys(file_workspace))
    (tmp_path / "never").touch()
    assert not run(file_workspace, run="one").reused
    assert recorded.state("toy").seconds < 50


def test_what_is_missing_or_unknown_is_told_and_recorded(file_workspace):
    with pytest.raises(InvalidConfig, match="toy needs --inputs; see 'visionloop stage toy --help'"):
        run_stage(toy_stage.TOY, {"value": 1}, Invocation(file_workspace, run="one"))
    failure = record(file_workspace, "one").failure("toy")
    assert failure is not None
    assert failure.exit_code == 78
    with pytest.raises(InvalidConfig, match="toy has no argument 'input'; it takes inputs, value"):
        make_arguments(toy_stage.TOY, {"input": "a"})
    assert make_arguments(toy_stage.TOY, {"inputs": "a", "value": None}) == toy_stage.ToyArguments("a", 1.0)
    with pytest.raises(InvalidConfig, match="toy needs --workspace"):
        run("")


@pytest.mark.parametrize("name", ["..", "a/b", "-x", "x" * 129, "a b", ".hidden"])
def test_a_run_that_can_be_no_folder_is_refused(file_workspace, name):
    with pytest.raises(InvalidConfig, match="--run"):
        run(file_workspace, run=name)


@pytest.mark.parametrize(
    ("prepare", "kind", "code"),
    [
        (lambda patch, server: patch.setenv("INTERNAL_S3_SECRET_KEY", "wrong"), AccessDenied, 77),
        (lambda patch, server: patch.delenv("INTERNAL_S3_SECRET_KEY"), AccessDenied, 77),
        (lambda patch, server: patch.setenv("INTERNAL_S3_ENDPOINT", "http://127.0.0.1:9"), Transient, 75),
        (lambda patch, server: patch.setenv("INTERNAL_S3_ENDPOINT", "what is this"), InvalidConfig, 78),
        (
            lambda patch, server: [
                patch.setenv(*variable) for variable in server.variables("INTERNAL_S3_", server.readonly).items()
            ],
            AccessDenied,
            77,
        ),
    ],
)
def test_a_store_that_can_not_be_used(s3_environment, s3_workspace, monkeypatch, prepare: Callable, kind, code):
    prepare(monkeypatch, s3_environment)
    with pytest.raises(kind) as caught:
        run(s3_workspace)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert executions() == 0


def test_a_workspace_in_a_bucket_that_does_not_exist(s3_environment):
    with pytest.raises(InvalidConfig, match="s3://no-such-bucket/x: the workspace's bucket does not exist"):
        run("s3://no-such-bucket/x")


def test_no_object_and_no_line_holds_a_secret(s3_environment, s3_workspace, monkeypatch, capfd):
    secrets = [s3_environment.keys.access, s3_environment.keys.secret]
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "CALLBACK_TOKEN", "LABELER_SERVICE_KEY"):
        secrets.append(f"very-secret-{name.lower()}")
        monkeypatch.setenv(name, secrets[-1])
    run(s3_workspace, run="one")
    monkeypatch.setenv("TOY_FAIL", "ValueError")
    with pytest.raises(Defect):
        run(s3_workspace, value=2.0, run="two")
    prefix = open_prefix(s3_workspace, "results")
    output = b"".join(prefix.read(info.key) for info in prefix.objects()) + capfd.readouterr().err.encode()
    assert b"failure" in b" ".join(key.encode() for key in keys(s3_workspace))
    assert not [secret for secret in secrets if secret.encode() in output]


def test_every_log_line_carries_the_trace_id(file_workspace, capfd):
    run(file_workspace, run="one", trace_id="the-trace")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["This is a toy."]
    for line in lines:
        assert (line["trace_id"], line["run"], line["stage"]) == ("the-trace", "one", "toy")
        assert (line["level"], line["source"], line["metadata"]) == ("INFO", "sdk", {"kind": "notice"})


def test_the_trace_id_is_the_given_one_the_runs_or_new(file_workspace, monkeypatch):
    def trace_id(value: float, **invocation: str) -> str:
        receipt = run(file_workspace, value=value, **invocation).receipt
        assert receipt is not None
        return receipt.trace_id

    assert trace_id(1, run="one", trace_id="given") == "given"
    assert trace_id(2, run="one") == "given"
    assert trace_id(3, run="one", trace_id="another") == "another"
    assert len(trace_id(4, run="two")) == 36
    monkeypatch.setenv("TRACE_ID", "of the environment")
    monkeypatch.setenv("JOB_ID", "1742")
    assert trace_id(5) == "of the environment"
    assert record(file_workspace, "1742").read() is not None
    # The environment's goes before the record's, and the given one before both.
    assert trace_id(6, run="one") == "of the environment"
    assert trace_id(7, run="one", trace_id="given") == "given"


def test_run_json_is_written_once(file_workspace):
    run(file_workspace, run="one", run_arguments={"model_name": "first"})
    run(file_workspace, run="one", run_arguments={"model_name": "second"})
    recorded = record(file_workspace, "one").read()
    assert recorded is not None
    assert recorded.arguments == {"model_name": "first"}


def test_nothing_is_left_on_this_machine(file_workspace, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    run(file_workspace)
    monkeypatch.setenv("TOY_FAIL", "Transient")
    with pytest.raises(VisionloopError):
        run(file_workspace, value=2.0)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_panic_of_an_extension_ends_with_a_sentence_and_is_recorded(
    workspace: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A store whose address is not a URL panics in Rust, with an exception that does not derive from Exception."""

    def panicking(*_: object) -> None:
        obstore.head(S3Store("bucket", endpoint="http://a b", access_key_id="a", secret_access_key="b"), "key")

    with pytest.raises(BaseException, match="InvalidUri") as raised:
        panicking()
    assert errors.is_panic(raised.value)
    assert not isinstance(raised.value, Exception)
    monkeypatch.setattr(toy_stage.Toy, "compute", panicking)
    with pytest.raises(Defect, match=r"PanicException: .*InvalidUri.*; please report it\."):
        run(workspace, run="panics")
    (failure,) = RunRecord(open_prefix(workspace, "results"), "panics").failures()
    assert failure.exit_code == 70
    assert "PanicException" in str(failure.traceback)
