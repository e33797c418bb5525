"""The request to stop a run's training: what counts as one, and how often it is looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from visionloop.core import stop
from visionloop.core.errors import InvalidConfig, Transient
from visionloop.core.runs import STOP_FILE, RunRecord
from visionloop.core.stop import EVALUATE, Stop, Watch, ask, requested, withdraw
from visionloop.core.storage import Prefix, open_prefix


@pytest.fixture
def record(workspace: str) -> RunRecord:
    return RunRecord(open_prefix(workspace, "results"), "one")


def test_a_request_counts_until_it_is_withdrawn_and_is_no_stage(record: RunRecord):
    assert requested(record) is None
    withdraw(record)
    ask(record, Stop())
    ask(record, Stop())
    assert requested(record) == Stop("")
    ask(record, Stop(EVALUATE))
    assert requested(record) == Stop(EVALUATE)
    assert record.stages() == []
    withdraw(record)
    assert requested(record) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"<!DOCTYPE html><html><body>Log in</body></html>", b'{"then": "register"}', b'{"then": 1}', b"\xff"],
)
def test_content_that_is_not_a_request_asks_for_a_stop_and_nothing_else(record: RunRecord, content: bytes):
    record.prefix.write(STOP_FILE, content)
    assert requested(record) == Stop()


def test_fields_of_a_later_version_are_passed_over(record: RunRecord):
    record.prefix.write(STOP_FILE, b'{"then": "evaluate", "by": "somebody"}')
    assert requested(record) == Stop(EVALUATE)


def test_a_gigabyte_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = RunRecord(open_prefix(str(tmp_path), "results"), "one")
    ask(record, Stop(EVALUATE))
    os.truncate(tmp_path / "runs" / "one" / STOP_FILE, 2**30)
    monkeypatch.setattr(Prefix, "read_with_etag", lambda *_: pytest.fail("it was read"))
    assert requested(record) == Stop()


def test_a_folder_is_no_request_and_is_named_to_who_asks_for_one(tmp_path: Path):
    record = RunRecord(open_prefix(str(tmp_path), "results"), "one")
    (tmp_path / "runs" / "one" / STOP_FILE / "inside").mkdir(parents=True)
    assert requested(record) is None
    withdraw(record)
    with pytest.raises(InvalidConfig, match=r"one/stop\.json is a folder; remove it, then stop the run again\."):
        ask(record, Stop())
    assert (tmp_path / "runs" / "one" / STOP_FILE / "inside").is_dir()


def test_a_proxys_page_in_place_of_everything_is_no_request(record: RunRecord, monkeypatch: pytest.MonkeyPatch):
    class Info:
        size = 10

    def page(*_: object) -> bytes:
        raise Transient("a web page instead of the store's data")

    monkeypatch.setattr(Prefix, "head", lambda *_: Info)
    monkeypatch.setattr(Prefix, "read", page)
    with pytest.raises(Transient):
        requested(record)
    assert Watch(record).look() is None


def test_it_is_looked_for_once_in_a_minute_and_kept(record: RunRecord, monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(stop.time, "monotonic", lambda: now[0])
    watch = Watch(record)
    assert watch.look() is None
    ask(record, Stop(EVALUATE))
    now[0] += 59
    assert watch.look() is None
    now[0] += 2
    assert watch.look() == Stop(EVALUATE)
    withdraw(record)
    now[0] += 100
    assert watch.look() == Stop(EVALUATE)


def test_a_store_that_does_not_answer_is_asked_again(record: RunRecord, monkeypatch: pytest.MonkeyPatch):
    def out(*_: object) -> None:
        raise Transient("the store is out")

    monkeypatch.setattr(stop, "LOOK_SECONDS", 0)
    ask(record, Stop())
    watch = Watch(record)
    with monkeypatch.context() as patched:
        patched.setattr(Prefix, "head", out)
        assert watch.look() is None
    assert watch.look() == Stop()
