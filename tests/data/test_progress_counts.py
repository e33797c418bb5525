"""Each data stage says how many of the images it has done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_datasets import converted, dataset

from visionloop.core import live


def test_the_data_stages_count_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = tmp_path / "events"
    monkeypatch.setenv(live.VARIABLE, str(events))
    converted(dataset(tmp_path / "set", "detection", None), tmp_path / "workspace")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    last = {event["stage"]: event for event in told if event["kind"] == "progress"}
    assert {stage: (event["done"], event["total"], event["unit"]) for stage, event in last.items()} == dict.fromkeys(
        ("snapshot", "validate", "convert"), (4, 4, "images")
    )
