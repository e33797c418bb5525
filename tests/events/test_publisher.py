"""What is told, in which order and under which ids; how lines of the log are put together; and how it all fits the schemas."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from event_receiver import SECRET, Receiver, receiving
from event_schemas import check

from visionloop.training.events import publisher as module
from visionloop.training.events.payloads import (
    Checkpoint,
    Completed,
    Failed,
    GpuInfo,
    LogLine,
    Metrics,
    Progress,
    Started,
    Stopped,
    TrainingResults,
)
from visionloop.training.events.publisher import Publisher
from visionloop.training.events.receivers import receivers

ABOUT = {"job_id": "night", "trace_id": "trace"}
BOTH: dict[str, float] = {"loss": 0.5, "mAP50": 0.25}


def publisher_to(server: Receiver, **more: str) -> Publisher:
    environment = {"VISIONLOOP_EVENTS_URL": server.url, "VISIONLOOP_EVENTS_SECRET": SECRET, **more}
    return Publisher(receivers(environment, "night"), "night", "trace", "a1b2")


def line(message: str, level: Any = "INFO", **metadata: Any) -> LogLine:
    return LogLine(level=level, message=message, timestamp="2026-01-01T00:00:00.000Z", source="sdk", metadata=metadata)


def epoch(number: int) -> list[Progress | Metrics | Checkpoint]:
    return [
        Metrics(**ABOUT, epoch=number, step=7 * number, phase="train", metrics={"loss": 0.5}),
        Metrics(**ABOUT, epoch=number, step=None, phase="val", metrics={"mAP50": 0.25}),
        Checkpoint(
            **ABOUT,
            epoch=number,
            step=0,
            checkpoint_path=f"s3://results/{number}.pt",
            checkpoint_type="best",
            is_best=True,
            metrics=BOTH,
            file_size_bytes=12,
        ),
        Progress(
            **ABOUT,
            status="running",
            epoch=number,
            current_epoch=number,
            total_epochs=9,
            phase="val",
            eta_seconds=60,
            metrics=BOTH,
        ),
    ]


ENDS: list[Completed | Failed | Stopped] = [
    Completed(
        **ABOUT,
        status="completed",
        reused=False,
        training_results=TrainingResults(
            total_epochs=9, best_epoch=3, best_metrics=BOTH, final_metrics=BOTH, training_time_seconds=1.5
        ),
        best_checkpoint_path="s3://results/best.pt",
        final_checkpoint_path="s3://results/last.pt",
        receipt="s3://results/receipt.json",
        gpu_hours=0.5,
        mlflow_run_id=None,
        dataset_snapshot_id="snap_0123456789ab",
    ),
    Failed(
        **ABOUT,
        status="failed",
        stage="train",
        error_code="OOM",
        error_message="The GPU's memory is used up.",
        error_type="RESOURCE_ERROR",
        exit_code=76,
        last_successful_epoch=4,
        traceback=None,
    ),
    Stopped(**ABOUT, status="stopped", stopped_at_epoch=4, best_checkpoint_path=None),
]


def test_every_event_has_its_id_and_keeps_its_schema() -> None:
    with receiving() as server:
        publisher = publisher_to(server)
        publisher.tell(
            Started(
                **ABOUT,
                pid=1,
                hostname="pod",
                gpu_info=GpuInfo("A GPU", 139.8),
                operation_type="training",
                total_epochs=9,
                resumed_after_epoch=0,
            )
        )
        publisher.log(line("begins", kind="notice"))
        publisher.epoch(epoch(1), last=False)
        for end in ENDS:
            publisher.tell(end)
        counts = publisher.close()
        taken = server.taken
    assert [posted.id for posted in taken] == [
        "night.train.started.a1b2.1",
        "night.train.log.a1b2.1",
        "night.train.metrics.1.train",
        "night.train.metrics.1.val",
        "night.train.checkpoint.1.0",
        "night.train.progress.1.val",
        "night.train.completed",
        "night.train.failed",
        "night.train.stopped",
    ]
    for posted in taken:
        check(posted)
        assert posted.body["source"] == "/runs/night/train"
        assert posted.body["type"] == f"visionloop.training.{posted.kind}"
        assert posted.data["trace_id"] == "trace"
    assert {posted.kind for posted in taken} == {
        "started", "progress", "metrics", "checkpoint", "log", "completed", "failed", "stopped",
    }  # fmt: skip
    assert counts == {"sent": 9, "dropped": 0}


def test_lines_are_sent_fifty_at_a_time_an_error_at_once_and_all_before_what_comes_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 3600.0)
    with receiving() as server:
        publisher = publisher_to(server)
        for number in range(50):
            publisher.log(line(str(number)))
        assert len(server.wait_for(1)[0].data["logs"]) == 50
        publisher.log(line("waits"))
        publisher.log(line("is bad", "ERROR"))
        assert [entry["message"] for entry in server.wait_for(2)[1].data["logs"]] == ["waits", "is bad"]
        publisher.log(line("before"))
        publisher.epoch(epoch(1)[:1], last=False)
        publisher.log(line("after"))
        publisher.close()
        assert [posted.id for posted in server.taken[2:]] == [
            "night.train.log.a1b2.3",
            "night.train.metrics.1.train",
            "night.train.log.a1b2.4",
        ]


def test_a_line_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 0.01)
    with receiving() as server:
        publisher = publisher_to(server)
        publisher.log(line("alone"))
        assert server.wait_for(1)[0].data["logs"][0]["message"] == "alone"
        publisher.log(line("the next one"))
        assert server.wait_for(2)[1].id == "night.train.log.a1b2.2"
        publisher.close()


def test_long_lines_are_cut_and_sent_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 3600.0)
    with receiving() as server:
        publisher = publisher_to(server)
        for _ in range(8):
            publisher.log(line("x" * 100_000))
        (posted,) = server.wait_for(1)
        assert [len(entry["message"]) for entry in posted.data["logs"]] == [4000] * 8
        publisher.close()


def test_bare_data_goes_to_an_address_of_its_kind_every_few_epochs_and_at_the_last() -> None:
    with receiving() as server, receiving() as bare:
        publisher = publisher_to(server, CALLBACK_URL=bare.url, CALLBACK_TOKEN="as.it.is", CALLBACK_INTERVAL="2")
        for number in (1, 2, 3):
            publisher.epoch(epoch(number), last=number == 3)
        publisher.tell(ENDS[0])
        counts = publisher.close()
        assert [posted.path for posted in bare.taken if posted.kind == "progress"] == ["/events/progress"] * 2
        assert [posted.data["epoch"] for posted in bare.taken if posted.kind == "checkpoint"] == [2, 3]
        assert bare.taken[-1].path == "/events/completed"
        assert all(posted.headers["Authorization"] == "Bearer as.it.is" for posted in bare.taken)
        for posted in bare.taken:
            check(posted)
        assert len(server.taken) == 13
        by_id = {posted.id: posted.data for posted in server.taken}
        assert {posted.id: posted.data for posted in bare.taken}.items() <= by_id.items()
    assert counts == {"sent": 13 + 9, "dropped": 0}


def test_one_receiver_that_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.0)
    with receiving(then="hangs") as hanging, receiving() as server:
        publisher = publisher_to(server, CALLBACK_URL=hanging.url)
        publisher.epoch(epoch(1), last=True)
        server.wait_for(4)
        counts = publisher.close()
    assert counts["dropped"] >= 4


def test_what_json_can_not_hold_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as server, caplog.at_level(logging.INFO):
        publisher = publisher_to(server)
        publisher.log(line("half a character: \ud800"))
        publisher.tell(ENDS[0])
        assert publisher.close() == {"sent": 1, "dropped": 1}
        assert [posted.kind for posted in server.taken] == ["completed"]
    assert "events: 1 dropped" in caplog.text


def test_passwords_in_addresses_are_in_no_event() -> None:
    with receiving() as server:
        publisher = publisher_to(server)
        publisher.log(line("sees https://me:word@host/x?X-Amz-Signature=0123456789", uri="s3://me:word@host"))
        publisher.close()
        assert "word@" not in str(server.taken[0].body)
        assert "0123456789" not in str(server.taken[0].body)
