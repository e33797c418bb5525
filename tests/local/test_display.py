"""What a person sees of a run on this machine while it works."""

from __future__ import annotations

import io
import itertools
import re
from typing import Any

from rich.console import Console

from visionloop.pipelines.engines.laptop.display import Display

STAGES = ("snapshot", "validate", "evaluate")


def shown(*events: dict[str, Any], terminal: bool, kind: str = "xterm", seconds: float = 0, width: int = 100) -> str:
    """All that is written while these events come, ``seconds`` apart, and the bar is drawn after each; ``kind`` of terminal as in TERM."""
    clock = itertools.count(0.0, seconds)
    now = 0.0
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
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


def test_a_terminal_shows_how_many_bytes_are_done():
    progress = {"kind": "progress", "stage": "validate", "done": 412, "total": 5000, "unit": "images"}
    text = shown(running("validate"), progress | {"bytes": 1_250_000_000, "total_bytes": 15 * 10**9}, terminal=True)
    assert "412 of 5,000 images, 1.2 GB of 15.0 GB" in text


def listing(*done: int, before: int = 0) -> list[dict[str, Any]]:
    return [
        {"kind": "listing", "stage": "snapshot", "done": number, "bytes": 10**5 * number, "before": before}
        for number in done
    ]


def test_a_listing_shows_its_count_and_speed_and_where_it_is_known_its_total():
    text = shown(running("snapshot"), *listing(20_000, 60_000), terminal=True, seconds=10)
    assert "listed 60,000 objects, 6.0 GB, 4,000 a second" in text
    assert "left" not in text
    text = shown(running("snapshot"), *listing(20_000, 60_000, 100_000, before=120_000), terminal=True, seconds=10)
    assert "listed 100,000 of about 120,000, 10.0 GB" in text
    assert "0:00:05 left" in text
    # More than the last time: what is left is not known.
    assert "listed 130,000 objects" in shown(*listing(130_000, before=120_000), terminal=True)


def test_on_eighty_columns_the_bar_gives_way_to_images_bytes_and_the_time_left():
    listed = [event | {"bytes": 10**11} for event in listing(200_000, 600_000, 1_000_000, before=1_200_000)]
    text = shown(running("snapshot"), *listed, terminal=True, seconds=10, width=80)
    assert re.search(r"snapshot .*listed 1,000,000 of about 1,200,000, 100.0 GB 0:00:20 0:00:05 left", text)
    event = {"kind": "progress", "stage": "validate", "total": 5000, "unit": "images", "total_bytes": 15 * 10**9}
    done = [event | {"done": number, "bytes": 10**6 * number} for number in (100, 400)]
    text = shown(running("validate"), *done, terminal=True, seconds=10, width=80)
    assert re.search(r"validate .*400 of 5,000 images, 400.0 MB of 15.0 GB 0:00:10 0:02:34 left", text)


def test_a_log_gets_a_line_now_and_then_with_how_much_is_done_and_left():
    done = (20_000, 60_000, 100_000, 140_000)
    assert shown(*listing(*done), terminal=False, seconds=10).splitlines() == [
        "  snapshot  listed 140,000 objects, 14.0 GB, 4,000 a second"
    ]
    event = {"kind": "progress", "stage": "validate", "total": 1000, "unit": "images", "total_bytes": 10**9}
    events = [event | {"done": 100 * number, "bytes": number * 10**8} for number in range(1, 9)]
    assert shown(*events, terminal=False, seconds=10).splitlines() == [
        "  validate  400 of 1,000 images, 400.0 MB of 1.0 GB, 0:01:00 left",
        "  validate  700 of 1,000 images, 700.0 MB of 1.0 GB, 0:00:30 left",
    ]
