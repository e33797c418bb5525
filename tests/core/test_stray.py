"""Whatever a library writes to stderr, in any language, is a log line with the trace id, also when it crashes the stage."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the reader is a fork")

PROGRAM = """
import ctypes, os, subprocess, sys, warnings
from visionloop.core import logs
from visionloop.core.stray import stray_lines
with stray_lines():
    os.write(2, b"before any stage\\n")
    logs.configure(trace_id="t", run="r", stage="validate")
    os.write(2, b"TIFFReadDirectory: Warning, unknown tag, secret-of-results\\r50 %\\r100 %\\n\\xff\\n")
    logs.notice("our own")
    warnings.warn("of Python", stacklevel=1)
    subprocess.run(["sh", "-c", "echo of a child >&2"])
    if sys.argv[1:]:
        os.write(2, b"free(): invalid pointer\\n")
        ctypes.string_at(0)
print("The last sentence.", file=sys.stderr)
"""


def lines(*arguments: str, form: str = "json") -> list[str]:
    variables = {"VISIONLOOP_LOG_FORMAT": form, "INTERNAL_S3_SECRET_KEY": "secret-of-results"}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=variables,
    )
    return done.stderr.splitlines()


def test_no_plain_line_stands_among_json_lines_and_the_sentence_is_the_last() -> None:
    *printed, last = lines()
    assert last == "The last sentence."
    read = [json.loads(line) for line in printed]
    messages = {line["message"].split("\n")[0]: line["source"] for line in read}
    stray = (
        "before any stage",
        "TIFFReadDirectory: Warning, unknown tag, ***",
        "50 %",
        "100 %",
        "\ufffd",
        "of a child",
    )
    assert {name: source for name, source in messages.items() if source == "stderr"} == dict.fromkeys(stray, "stderr")
    assert messages["our own"] == "sdk"
    assert "py.warnings" in messages.values()
    assert {line["trace_id"] for line in read if line["message"] != "before any stage"} == {"t"}


def test_what_a_library_says_as_it_crashes_the_process_is_told() -> None:
    assert "free(): invalid pointer" in [json.loads(line)["message"] for line in lines("crash")]


def test_each_line_of_a_text_log_has_the_trace_id() -> None:
    *printed, last = lines(form="text")
    assert last == "The last sentence."
    # Written before anybody knows the run.
    traced = [line for line in printed if line != "before any stage"]
    assert len(traced) == len(printed) - 1
    assert [line for line in traced if not line.startswith("[TRACE:t] ")] == []
    assert {"[TRACE:t] our own", "[TRACE:t] of a child", "[TRACE:t] 50 %", "[TRACE:t] \ufffd"} <= set(traced)
    assert any(line.startswith("[TRACE:t] WARNING: ") and "of Python" in line for line in traced)
    assert not any("secret-of-results" in line for line in printed)


def test_on_a_terminal_a_library_writes_as_it_likes() -> None:
    """A bar is drawn in one place there."""
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, stderr=theirs, env={"VISIONLOOP_LOG_FORMAT": "text"})
    os.close(theirs)
    with contextlib.suppress(OSError), open(ours, "rb", closefd=False) as screen:
        shown = screen.read1(2**16).decode("utf-8", "replace")
    os.close(ours)
    assert "\r50 %\r100 %" in shown
    assert "[TRACE:t] our own" in shown
