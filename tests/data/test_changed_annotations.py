"""Whether a dataset's annotations are still those of its snapshot, with little of both in memory."""

from __future__ import annotations

import weakref
from pathlib import Path

import pyarrow as pa
import pytest
from small_datasets import dataset, stage

from visionloop.components.snapshot import several
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.stage import Context
from visionloop.data.annotations.tables import Annotations


def test_the_tables_of_now_are_let_go_before_those_of_the_snapshot_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million images each takes half a gigabyte."""
    folder, workspace = dataset(tmp_path / "data", "detection", None), tmp_path / "workspace"
    taken = stage("snapshot", workspace, dataset=str(folder))
    now: list[weakref.ReferenceType[pa.Table]] = []
    then: list[int] = []

    def read_again(snapshot: Snapshot, context: Context) -> Annotations:
        assert "annotations" not in vars(snapshot)
        read = again(snapshot, context)
        now.append(weakref.ref(read.objects))
        return read

    def read_annotations(snapshot: Snapshot) -> Annotations:
        then.append(sum(table() is not None for table in now))
        return frozen(snapshot)

    again, frozen = several.read_snapshot_again, Snapshot.read_annotations
    monkeypatch.setattr(several, "read_snapshot_again", read_again)
    monkeypatch.setattr(Snapshot, "read_annotations", read_annotations)
    stage("validate", workspace, snapshot=taken.uri)
    assert (len(now), then) == (1, [0])
