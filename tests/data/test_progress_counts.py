"""Each data stage says how many of the images it has done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_datasets import converted, dataset, stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import catalog, live
from visionloop.core.running import Invocation, run_stage
from visionloop.data.images import ImageCache


def test_the_data_stages_count_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = tmp_path / "events"
    monkeypatch.setenv(live.VARIABLE, str(events))
    converted(dataset(tmp_path / "set", "detection", None), tmp_path / "workspace")
    arguments = [json.loads(line) for line in events.read_text().splitlines()]
    last = {event["stage"]: event for event in arguments if event["kind"] == "progress"}
    assert {stage: (event["done"], event["total"], event["unit"]) for stage, event in last.items()} == dict.fromkeys(
        ("snapshot", "validate", "convert"), (4, 4, "images")
    )


def test_bytes_are_counted_and_a_listing_knows_its_last_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "workspace"
    _, first = converted(folder, workspace)
    (folder / "images" / "0.png").rename(tmp_path / "0.png")
    (folder / "unrelated.txt").write_text("changes what is listed, twice")
    (folder / "unrelated2.txt").write_text("and not what is read")
    events = tmp_path / "events"
    monkeypatch.setenv(live.VARIABLE, str(events))
    stage("snapshot", workspace, dataset=str(folder))
    arguments = [json.loads(line) for line in events.read_text().splitlines()]
    listed = [(event["done"], event["bytes"], event["before"]) for event in arguments if event["kind"] == "listing"]
    assert listed == [(6, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), 5)]
    size = sum(path.stat().st_size for path in (folder / "images").iterdir())
    last = [event for event in arguments if event["kind"] == "progress"][-1]
    assert (last["bytes"], last["total_bytes"]) == (size, size)
    events.unlink()
    (tmp_path / "0.png").rename(folder / "images" / "0.png")
    snapshot = Snapshot(stage("snapshot", workspace, dataset=str(folder)))
    run_stage(catalog.stage("validate"), {"snapshot": snapshot.result.uri}, Invocation(str(workspace), force=True))
    seen: list[tuple[int, ...]] = []
    view = Converted(first).view
    view(
        Snapshot(first.input("snapshot", "snapshot")),
        tmp_path / "view",
        ImageCache(tmp_path / "cache"),
        advanced=lambda *counts: seen.append(counts),
    )
    arguments = [json.loads(line) for line in events.read_text().splitlines()]
    validated = [event for event in arguments if event["kind"] == "progress" and event["stage"] == "validate"][-1]
    size = sum(path.stat().st_size for path in (folder / "images").iterdir())
    assert (validated["bytes"], validated["total_bytes"]) == (size, size)
    assert seen[-1] == (4, 4, size, size)
