"""One message about a run's end, sent to a real receiver; nothing about it ever fails the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from message_receiver import Receiver, receiving
from test_receipts import make, store

from visionloop.components.cleanup.notify import message_of, notify, payload
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.runs import RunRecord, StageState, describe_failure
from visionloop.core.storage import open_prefix


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as server:
        monkeypatch.setenv("VISIONLOOP_NOTIFY_URL", server.url)
        yield server


@pytest.fixture
def failed(workspace: str) -> RunRecord:
    record = RunRecord(open_prefix(workspace, "results"), "night")
    record.open({"model_name": "bottles"}, "trace-1")
    record.write_state(StageState(stage="snapshot", state="succeeded", receipt="s3://w/snapshot/k/receipt.json"))
    record.write_state(StageState(stage="validate", state="failed"))
    error = InvalidDataset("annotations_detection.json: images[3] <is> wrong & bad; correct it.")
    record.write_failure(describe_failure("validate", error, attempt=1, trace_id="trace-1", traceback=None))
    return record


def test_a_failure_is_told_once_with_its_sentence_remedy_link_and_what_is_kept(
    failed: RunRecord, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONLOOP_RUN_URL", "https://argo.example.com/{run}")
    assert notify(failed)
    assert not notify(failed)
    (body,) = receiver.bodies
    assert body["status"] == "failed"
    assert body["title"] == "bottles: validate failed"
    assert body["text"] == "annotations_detection.json: images[3] <is> wrong & bad; correct it."
    assert body["remedy"] == InvalidDataset.remedy
    assert "snapshot" in body["kept"]
    assert body["link"] == "https://argo.example.com/night"


def test_slack_and_teams_get_their_own_form(failed: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_RUN_URL", "https://argo.example.com/?run={run}&tab=<logs>")
    message = replace(message_of(failed), title="bottles & <caps>: validate failed")
    lines = payload(message, "slack")["text"].splitlines()
    assert lines[0] == "*bottles &amp; &lt;caps&gt;: validate failed*"
    assert "images[3] &lt;is&gt; wrong &amp; bad" in lines[1]
    assert lines[-1] == "https://argo.example.com/?run=night&amp;tab=&lt;logs&gt;"
    # What a Teams workflow takes: a message with one Adaptive Card, whose text is plain.
    body = payload(message, "teams")
    (attachment,) = body["attachments"]
    assert (body["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert [entry["type"] for entry in card["body"]] == ["TextBlock", "TextBlock", "FactSet"]
    assert [entry["text"] for entry in card["body"][:2]] == [message.title, message.text]
    assert {"title": "stage", "value": "validate"} in card["body"][2]["facts"]
    (action,) = card["actions"]
    assert (action["type"], action["url"]) == ("Action.OpenUrl", message.link)
    assert "actions" not in payload(replace(message, link=None), "teams")["attachments"][0]["content"]
    with pytest.raises(InvalidConfig, match="slack, teams or json"):
        payload(message, "fax")


def test_of_several_failures_the_earliest_is_the_cause(failed: RunRecord) -> None:
    """What failed later failed of it, whatever its place in the pipeline or the alphabet."""
    (first,) = failed.failures()
    for stage, later, cause in (("convert", 1, "validate"), ("train", 2, "validate"), ("evaluate", -1, "evaluate")):
        failed.write_state(StageState(stage=stage, state="failed"))
        failed.write_failure(msgspec.structs.replace(first, stage=stage, written_at=first.written_at + later))
        assert message_of(failed).title == f"bottles: {cause} failed"


def test_a_success_tells_version_verdict_alias_and_the_main_figures(workspace: str) -> None:
    metrics = {
        "mAP50-95": 0.512345,
        "mAP50": 0.75,
        "precision": 0.8,
        "recall": 0.7,
        "mask_mAP50-95": 0.4,
        "mask_mAP50": 0.6,
    }
    receipt = make(stage="evaluate", metrics=metrics | {"pose_mAP50": 0.1})
    _, evaluated = store(workspace, receipt)
    record = RunRecord(open_prefix(workspace, "results"), "day")
    record.open({}, None)
    verdict = {"verdict": "promote"}
    record.write_state(StageState(stage="evaluate", state="succeeded", receipt=evaluated.uri, scalars=verdict))
    scalars = {"model_name": "bottles", "version": 7, "alias": "champion"}
    record.write_state(StageState(stage="register", state="succeeded", scalars=scalars))
    message = message_of(record, "Succeeded")
    assert (message.status, message.title) == ("completed", "bottles: version 7")
    assert message.text == "Version 7 is registered as champion."
    shown = {
        "mAP50-95": "0.5123",
        "mAP50": "0.75",
        "precision": "0.8",
        "recall": "0.7",
        "mask_mAP50-95": "0.4",
        "mask_mAP50": "0.6",
    }
    assert message.facts == {"verdict": "promote"} | shown
    assert "mAP50-95: 0.5123" in payload(message, "slack")["text"].splitlines()


@pytest.mark.parametrize("arguments", [{"model_name": "bottles"}, {"snapshot": {"model_name": "bottles"}}])
def test_a_run_that_was_not_worth_it_is_told_with_its_reason(workspace: str, arguments: dict[str, Any]) -> None:
    record = RunRecord(open_prefix(workspace, "results"), "night")
    record.open(arguments, None)
    scalars = {"go": "false", "reason": "skipped: 12 new images, 50 needed"}
    record.write_state(StageState(stage="snapshot", state="succeeded", scalars=scalars))
    message = message_of(record, "Succeeded")
    assert (message.status, message.title) == ("completed", "bottles: skipped")
    assert message.text == "skipped: 12 new images, 50 needed"
    assert "skipped: 12 new images" in payload(message, "slack")["text"]
    # What counts is that the engine failed anyway.
    assert message_of(record, "Failed").status == "failed"


def test_an_engine_that_ended_the_run_without_a_stages_failure_is_told(workspace: str) -> None:
    record = RunRecord(open_prefix(workspace, "results"), "lost")
    record.open({}, None)
    assert message_of(record, "Failed").status == "failed"
    assert message_of(record, "Succeeded").status == "completed"
    assert "a lost node, a limit of the engine" in message_of(record, "Failed").text
    why = message_of(record, "Error", "train: OOMKilled\n(exit code 137)").text
    assert why == "The engine ended the run, and no stage told a failure: train: OOMKilled (exit code 137)."
    assert "OOM" not in message_of(record, "Succeeded", "train: OOMKilled").text


def test_a_prediction_tells_model_images_and_objects(workspace: str) -> None:
    record = RunRecord(open_prefix(workspace, "results"), "camera")
    record.open({"model": "bottles@champion", "images": "s3://camera/2026"}, "trace-1")
    scalars = {"model": "bottles/3", "images": 12_000, "objects": 4_310, "unreadable": 2}
    state = StageState(stage="predict", state="succeeded", receipt="s3://w/predict/k/receipt.json", scalars=scalars)
    record.write_state(state)
    # Kubeflow Pipelines may call a run that has ended well RUNNING.
    message = message_of(record, "RUNNING")
    assert (message.status, message.title) == ("completed", "bottles/3: predicted")
    assert message.text == "bottles/3 predicted on 12,000 images: s3://w/predict/k/receipt.json."
    assert message.facts == {"objects": "4,310", "unreadable": "2"}


@pytest.mark.parametrize(
    ("stage", "scalars", "status"),
    [
        ("train", {}, "failed"),
        ("evaluate", {"verdict": "promote"}, "failed"),
        ("evaluate", {"verdict": "reject"}, "completed"),
        ("snapshot", {"go": "false", "reason": "skipped: 12 new images, 50 needed"}, "completed"),
        ("snapshot", {"go": "true"}, "failed"),
        ("register", {"version": 7}, "completed"),
    ],
)
def test_where_the_engine_only_says_running_the_end_in_the_record_counts(
    workspace: str, stage: str, scalars: dict[str, Any], status: str
) -> None:
    """Kubeflow Pipelines tells its exit task RUNNING of a run that a lost pod has ended, and of some that ended well."""
    record = RunRecord(open_prefix(workspace, "results"), "night")
    record.open({}, None)
    record.write_state(StageState(stage=stage, state="succeeded", scalars=scalars))
    assert message_of(record, "RUNNING").status == status
    assert message_of(record, "SUCCEEDED").status == "completed"


def test_a_receiver_that_refuses_or_is_gone_fails_nothing(
    failed: RunRecord, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 404
    assert not notify(failed)
    monkeypatch.setattr("visionloop.components.cleanup.notify.TRIES", 1)
    monkeypatch.setenv("VISIONLOOP_NOTIFY_URL", "http://127.0.0.1:9/secret-token")
    assert not notify(failed)
    monkeypatch.delenv("VISIONLOOP_NOTIFY_URL")
    assert not notify(failed)
    assert not failed.prefix.exists("notified.json")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "url": "https://hooks.example.com/s3cret"},
            "the Secret visionloop-notify holds the address under the key url, which is not read; name the key VISIONLOOP_NOTIFY_URL.",
        ),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "VISIONLOOP_NOTIFY_FORMAT": "slack"},
            "VISIONLOOP_NOTIFY_FORMAT is set, but the Secret visionloop-notify has no key VISIONLOOP_NOTIFY_URL (docs/engines.md, Notifications).",
        ),
        (
            {"VISIONLOOP_NOTIFY_FORMAT": "slack"},
            "VISIONLOOP_NOTIFY_FORMAT is set, but VISIONLOOP_NOTIFY_URL is not set (docs/engines.md, Notifications).",
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
        ({"url": "https://hooks.example.com/s3cret"}, None),
    ],
)
def test_an_address_that_is_not_where_it_is_read_is_told(
    failed: RunRecord,
    variables: dict[str, str],
    sentence: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level("INFO", "visionloop"):
        assert not notify(failed)
    arguments = [record.message for record in caplog.records if "no message" in record.message]
    assert arguments == ([f"no message was sent: {sentence}"] if sentence else [])
