"""Whatever a library writes to stderr, in any language, is a JSON log line, also when it crashes the stage."""

from __future__ import annotations

import json
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


def test_lines_for_a_person_stay_as_they_are() -> None:
    printed = lines(form="text")
    assert "our own" in printed
    assert "of a child" in printed
