"""Two datasets, one in a store and one in a folder, from the command line to the view that a trainer reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laptop as machine
import pytest
from laptop import Dataset, Laptop
from small_datasets import stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.data.images import ImageCache


def test_datasets_of_a_store_and_a_folder_become_one_view(
    make_laptop: Callable[..., Laptop], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    laptop = make_laptop()
    folder = Dataset(machine.file_prefix(tmp_path / "more", "dataset")).put(machine.sample_objects(6, 2, 2))
    heavy = json.dumps({"uri": folder.uri, "weight": 2})
    snapshot = laptop.stage("snapshot", "--dataset", digits.uri, "--dataset", heavy).expect().summary
    assert snapshot["datasets"]["more"] == {"images": 10, "train": 6, "val": 2, "test": 2, "repeated": 6}
    for name, value in laptop.environment.items():
        monkeypatch.setenv(name, value)
    # Both are drawn alike, so their first images have the same names and the same bytes.
    results: dict[str, Any] = {"workspace": laptop.workspace.uri, "snapshot": snapshot["receipt"]}
    report = stage("validate", **results, checks='{"same_bytes": "warning"}')
    converted = stage("convert", **results, report=report.uri)
    assert converted.receipt.scalars["repeated"] == 6
    frozen = Snapshot(laptop.result("snapshot", snapshot["key"]))
    result = Converted(converted)
    count = result.view(frozen, tmp_path / "view", ImageCache(tmp_path / "cache"))
    entries = result.index()
    assert count == len(entries) == converted.receipt.scalars["images"] + 6
    for entry in entries:
        name = entry.file_name.removeprefix("more/")
        source = folder.prefix if entry.file_name.startswith("more/") else digits.prefix
        name = name if source is folder.prefix else name.removeprefix(f"{frozen.datasets[0].name}/")
        assert (tmp_path / "view" / entry.path).read_bytes() == source.read(f"images/{name}")
    train = Counter(entry.file_name for entry in entries if entry.split == "train")
    assert {number for name, number in train.items() if name.startswith("more/")} == {2}
    assert {number for name, number in train.items() if not name.startswith("more/")} == {1}
