"""What a person sees of a run on this machine while it works."""

from __future__ import annotations

import io
import itertools
from typing import Any

from rich.console import Console

from visionloop.pipelines.engines.laptop.display import Display

STAGES = ("snapshot", "validate", "evaluate")


def shown(*events: dict[str, Any], terminal: bool, kind: str = "xterm", seconds: float = 0) -> str:
    """All that is written while these events come, ``seconds`` apart, and the bar is drawn after each; ``kind`` of terminal as in TERM."""
    clock = itertools.count(0.0, seconds)
    now = 0.0
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=100,
        color_system=None,
        highlight=False,
        soft_wrap=True,
        get_time=lambda: now,
        _environ={"TERM": kind},
    )
    display = Display(STAGES, console)
    for event in events:
        now = next(clock)
        display.event(event)
        if display.bar is not None:
            display.bar.refresh()
    display.close()
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def running(stage: str) -> dict[str, Any]:
    return {"kind": "stage", "stage": stage, "state": "running"}


def test_a_terminal_shows_the_stage_that_works_before_it_has_done_anything():
    assert "  snapshot" in shown(running("snapshot"), terminal=True)


def test_a_terminal_shows_how_much_is_done():
    progress = {"kind": "progress", "stage": "validate", "done": 412, "total": 5000, "unit": "images"}
    assert "412 of 5,000 images" in shown(running("validate"), progress, terminal=True)


def test_a_terminal_shows_how_long_the_rest_takes():
    events = [
        {"kind": "progress", "stage": "validate", "done": 100 * n, "total": 1000, "unit": "images"} for n in range(1, 5)
    ]
    text = shown(running("validate"), *events, terminal=True, seconds=10)
    assert "400 of 1,000 images" in text
    assert "0:01:00 left" in text
    assert "left" not in shown(running("validate"), events[0], terminal=True, seconds=10)


def test_the_bar_of_an_evaluation_moves():
    def bar(done: int) -> int:
        event = {"kind": "progress", "stage": "evaluate", "done": done, "total": 80, "unit": "images"}
        return shown(event, terminal=True).count("━")

    assert 0 < bar(40) <= bar(80)
    text = shown({"kind": "progress", "stage": "evaluate", "done": 40, "total": 80, "unit": "images"}, terminal=True)
    assert "40 of 80 images" in text


def test_an_epochs_batches_move_one_bar_over_all_epochs():
    batch = {"kind": "batch", "stage": "train", "epoch": 2, "epochs": 4, "batch": 5, "batches": 10}
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    display = Display(STAGES, console)
    display.event(batch)
    assert display.bar is not None
    (task,) = display.bar.tasks
    display.close()
    assert (task.completed, task.total, task.fields["text"]) == (1.5, 4, "epoch 2/4")


def test_a_log_gets_a_line_for_each_stage_and_no_bar():
    progress = {"kind": "progress", "stage": "validate", "done": 1, "total": 2, "unit": "images"}
    end = {"kind": "stage", "stage": "validate", "state": "succeeded", "reused": False, "seconds": 1.5}
    lines = ["  validate  …", "✓ validate  done in 1.5 s"]
    assert shown(running("validate"), progress, end, terminal=False).splitlines() == lines
    assert shown(running("validate"), progress, end, terminal=True, kind="dumb").splitlines() == lines


def test_the_first_failures_sentence_is_left_to_the_commands_last_line():
    def failed(stage: str, sentence: str) -> dict[str, Any]:
        return {"kind": "stage", "stage": stage, "state": "failed", "sentence": sentence}

    text = shown(failed("validate", "The data is wrong."), failed("evaluate", "The store is gone."), terminal=False)
    assert text.splitlines() == ["✗ validate  failed", "✗ evaluate  The store is gone."]
