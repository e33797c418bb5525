"""What people and machines read besides the results: log lines and live events."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionloop.core import live
from visionloop.core.errors import InvalidConfig, Terminated
from visionloop.core.limits import Limits
from visionloop.core.logs import LOGGER, JsonLines, Lines, PlainLines, configure, notice


def logged(message: str, level: int = logging.INFO, **extra) -> logging.LogRecord:
    return LOGGER.makeRecord("visionloop", level, "f", 1, message, (), None, extra=extra)


@given(st.text(st.characters()))
def test_a_json_line_is_one_line_and_says_the_same(message):
    line = JsonLines({"trace_id": "t"}).format(logged(message, fields={"kind": "notice"}))
    assert not {"\n", "\r"} & set(line)
    read = json.loads(line)
    assert read["message"] == message
    assert (read["trace_id"], read["metadata"]) == ("t", {"kind": "notice"})
    assert read["timestamp"].endswith("Z")


def test_a_value_that_json_does_not_know_does_not_cost_the_line():
    assert "object" in JsonLines({}).format(logged("m", fields={"value": object()}))


def test_plain_lines_name_a_level_that_is_not_info():
    assert PlainLines().format(logged("said")) == "said"
    assert PlainLines().format(logged("said", logging.WARNING)) == "WARNING: said"


def test_each_plain_line_has_the_trace_id_before_it():
    assert PlainLines("a-b").format(logged("one\ntwo", logging.ERROR)) == "[TRACE:a-b] ERROR: one\n[TRACE:a-b] two"
    assert PlainLines("a\nb\x1b").format(logged("said")) == "[TRACE:a b\\x1b] said"


def test_a_stream_that_somebody_closed_gives_way_to_another(tmp_path):
    """A program that calls a stage in its own process may have closed what stderr was before."""
    other = io.StringIO()
    with (tmp_path / "log").open("w") as closed:
        handler = Lines(closed)
    handler.setStream(other)
    handler.emit(logged("said"))
    assert other.getvalue() == "said\n"


def test_a_signal_while_a_line_is_written_ends_the_stage_and_prints_no_traceback(monkeypatch, capfd):
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            os.kill(os.getpid(), signal.SIGTERM)
            return written

    stream = Interrupted()
    monkeypatch.setattr(sys, "__stderr__", stream)
    configure(trace_id="t", run="r", stage="train")
    with pytest.raises(Terminated, match="toy was asked to end by SIGTERM"), Limits("toy", 60, 0):
        LOGGER.info("epoch 1/4")
    assert "Traceback" not in stream.getvalue() + capfd.readouterr().err


def test_configuring_again_replaces_the_context_and_writes_each_line_once(capfd):
    configure(trace_id="one", run="r", stage="s")
    configure(trace_id="two", run="r", stage="s")
    notice("heard")
    LOGGER.debug("not heard")
    (line,) = capfd.readouterr().err.splitlines()
    assert (json.loads(line)["trace_id"], json.loads(line)["message"]) == ("two", "heard")


def test_level_and_format_come_from_variables(monkeypatch, capfd):
    monkeypatch.setenv("VISIONLOOP_LOG_FORMAT", "text")
    monkeypatch.setenv("VISIONLOOP_LOG_LEVEL", "warning")
    configure(trace_id="t", run="r", stage="s")
    notice("not heard")
    LOGGER.warning("heard")
    assert capfd.readouterr().err == "[TRACE:t] WARNING: heard\n"


@pytest.mark.parametrize(("name", "value"), [("VISIONLOOP_LOG_LEVEL", "loud"), ("VISIONLOOP_LOG_FORMAT", "xml")])
def test_a_log_setting_that_there_is_not(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidConfig, match=name):
        configure(trace_id="t", run="r", stage="s")


def test_events_of_many_writers_never_mix(tmp_path, monkeypatch):
    path = tmp_path / "events"
    monkeypatch.setenv(live.VARIABLE, str(path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: live.emit("batch", number=number, padding="x" * 500), range(400)))
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(event["number"] for event in events) == list(range(400))
    assert {event["kind"] for event in events} == {"batch"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.floats(), st.binary(), st.builds(object), st.just("\ud800")))
def test_an_event_never_fails_the_stage(tmp_path_factory, value):
    with pytest.MonkeyPatch.context() as patch:
        for path in (tmp_path_factory.getbasetemp() / "events", tmp_path_factory.getbasetemp() / "none" / "events"):
            patch.setenv(live.VARIABLE, str(path))
            live.emit("kind", value=value)
        patch.delenv(live.VARIABLE)
        live.emit("kind", value=value)
    # What can't be written leaves no half of a line.
    events = tmp_path_factory.getbasetemp() / "events"
    lines = events.read_bytes().splitlines() if events.exists() else []
    assert all(json.loads(line)["kind"] == "kind" for line in lines)


def test_argo_hears_of_progress_where_it_asks(tmp_path, monkeypatch):
    live.argo_progress(1, 2)
    monkeypatch.setenv("ARGO_PROGRESS_FILE", str(tmp_path / "progress"))
    live.argo_progress(3, 14)
    assert (tmp_path / "progress").read_text() == "3/14\n"
    live.argo_progress(15, 14)
    assert (tmp_path / "progress").read_text() == "14/14\n"
    live.argo_progress(0, 0)
    assert (tmp_path / "progress").read_text() == "14/14\n"
    monkeypatch.setenv("ARGO_PROGRESS_FILE", str(tmp_path / "none" / "progress"))
    live.argo_progress(1, 2)
