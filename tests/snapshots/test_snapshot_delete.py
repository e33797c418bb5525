"""``visionloop snapshot delete``: what refuses it, what goes, and what a deletion leaves that was cut off."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from small_datasets import converted, dataset, stage
from snapshot_commands import command, objects_of_the_register, taken

from visionloop.core import reservation
from visionloop.core.errors import InvalidReceipt
from visionloop.core.reservation import Holder, Reservation, Reserved, this_process
from visionloop.core.runs import RunRecord, StageState
from visionloop.core.storage import Prefix, open_prefix
from visionloop.registry.versions import EVALUATION, SNAPSHOT_ID, Registry


class Killed(BaseException):
    """Ends a deletion where it is."""


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def ids(capsys: pytest.CaptureFixture[str], workspace: Path) -> list[str]:
    result = json.loads(command(capsys, "list", "--workspace", workspace)[1])["snapshots"]
    return [entry["id"] for entry in result]


def deleted(capsys: pytest.CaptureFixture[str], identity: str, workspace: Path, *more: str) -> tuple[int, str, str]:
    return command(capsys, "delete", identity, "--workspace", workspace, *more)


def test_it_goes_with_all_its_receipts_and_what_was_made_from_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    _, made = converted(source, workspace)
    identity = taken(source, workspace)
    other = taken(dataset(tmp_path / "other", "detection", [], dataset_id="2"), workspace)
    images, before = files_of(source), files_of(workspace)
    code, out, sentence = deleted(capsys, identity, workspace, "--dry-run")
    assert (code, sentence, files_of(workspace)) == (0, "", before)
    planned = json.loads(out)
    assert (planned["removed"], planned["objects"], planned["results"]) == (False, 4, {"validate": 1, "convert": 1})
    code, out, _ = deleted(capsys, identity, workspace)
    assert (code, json.loads(out)) == (0, planned | {"removed": True})
    assert ids(capsys, workspace) == [other]
    gone = set(before) - set(files_of(workspace))
    assert len(gone) == 5  # with the index
    assert all(name.startswith(("snapshot/", f"snapshots/{identity}")) for name in gone)
    assert files_of(source) == images
    with pytest.raises(InvalidReceipt, match="no such receipt"):
        stage("validate", workspace, snapshot=made.receipt.inputs["snapshot"].receipt or "")
    # The same content is the same snapshot, and what was made from it counts again.
    assert taken(source, workspace) == identity
    assert converted(source, workspace)[1].uri == made.uri


def test_an_unknown_one_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    code, _, sentence = deleted(capsys, "snap_0123456789ab", workspace)
    assert (code, sentence.endswith(f"; it has {identity}.")) == (78, True)
    assert deleted(capsys, "../snapshot", workspace)[0] == 78
    code, out, _ = deleted(capsys, identity, workspace, "--output", "text")
    assert (code, out.startswith(f"{identity} is deleted: 4 objects, ")) == (0, True)


def test_a_registered_version_keeps_its_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mlflow_database: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    other = taken(dataset(tmp_path / "other", "detection", [], dataset_id="2"), workspace)
    registry = Registry(os.environ)
    receipt = objects_of_the_register(workspace, identity, "pets", 1)
    before = files_of(workspace)

    code, _, sentence = deleted(capsys, identity, workspace)
    assert code == 78
    assert "register's receipt names pets/1" in sentence
    assert "set MLFLOW_TRACKING_URI to the one that has" in sentence

    registry.ensure_model("pets", "pets")
    tags = {SNAPSHOT_ID: identity, EVALUATION: receipt.receipt.inputs["evaluation"].receipt or ""}
    first = registry.create_version("pets", (tmp_path / "model").as_uri(), tags, "")
    second = registry.create_version("pets", (tmp_path / "model").as_uri(), tags, "")
    code, _, sentence = deleted(capsys, identity, workspace)
    assert code == 78
    assert "the registered version pets/1, pets/2 was trained on it" in sentence
    assert files_of(workspace) == before

    registry.delete_version(first)  # of the second there is no receipt: its registration was cut off
    assert "version pets/2 was" in deleted(capsys, identity, workspace)[2]
    assert deleted(capsys, other, workspace)[0] == 0
    registry.delete_version(second)
    assert deleted(capsys, identity, workspace)[0] == 0
    assert ids(capsys, workspace) == []


def run_of(workspace: Path, key: str, states: Iterable[StageState], name: str = "nightly", age: float = 0.0) -> None:
    """The record of a pipeline's run that took a snapshot; its stages told of themselves so many seconds ago."""
    record = RunRecord(open_prefix(str(workspace), "results"), name)
    record.open({"model_name": "pets"}, None)
    for state in (StageState(stage="snapshot", state="succeeded", key=key), *states):
        state.started_at = state.updated_at = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        record.prefix.write(f"{state.stage}.json", msgspec.json.encode(state))


def test_a_run_that_is_under_way_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    key = stage("snapshot", workspace, snapshot=identity).receipt.key
    results = open_prefix(str(workspace), "results")
    train, ended = "a" * 64, StageState(stage="cleanup", state="succeeded")

    def refused() -> str:
        code, _, sentence = deleted(capsys, identity, workspace, "--dry-run")
        assert code in (0, 78)
        return sentence

    run_of(workspace, key, [StageState(stage="train", state="running")])
    assert "the run nightly is under way (train) and uses it; wait until it has ended" in refused()
    run_of(workspace, key, [StageState(stage="train", state="running")], age=900)
    assert refused() == ""  # silent for longer than any stage may be
    run_of(workspace, key, [StageState(stage="train", state="succeeded")], age=7200)
    assert "under way (after " in refused()  # a pod may wait for a node
    run_of(workspace, key, [StageState(stage="train", state="succeeded")], age=26 * 3600)
    assert refused() == ""

    run_of(workspace, key, [StageState(stage="train", state="running", key=train)], age=900)
    holder = Reservation(results.child(f"train/{train}"), "nightly", uuid.uuid4().hex[:12])
    assert holder.take()
    assert "under way (train)" in refused()
    holder.release()
    # Its process is known to be dead, whatever the time.
    run_of(workspace, key, [StageState(stage="train", state="running", key=train)])
    mine = this_process()
    dead = Holder(mine.host, mine.boot, mine.namespace, 2**22 + 1, 1.0)
    results.write(
        f"train/{train}/{reservation.FILE}", msgspec.json.encode(Reserved("nightly", "b" * 12, dead, 3, 60, ""))
    )
    assert refused() == ""
    run_of(workspace, key, [StageState(stage="train", state="succeeded"), ended])
    assert deleted(capsys, identity, workspace)[0] == 0


def test_a_key_that_is_computed_now_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    key = stage("snapshot", workspace, snapshot=identity).receipt.key
    holder = Reservation(open_prefix(f"{workspace}/snapshot/{key}", "results"), "other", uuid.uuid4().hex[:12])
    assert holder.take()
    try:
        code, _, sentence = deleted(capsys, identity, workspace)
    finally:
        holder.release()
    assert (code, sentence) == (78, f"{identity} is not deleted: other computes it now; wait until it has ended.")
    assert ids(capsys, workspace) == [identity]


@pytest.mark.parametrize("objects", range(5))
def test_a_deletion_that_is_cut_off_leaves_no_half_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, objects: int
) -> None:
    """Killed behind any object: the snapshot is whole or there is none, and the next deletion or snapshot finishes the work."""
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    real, left = Prefix.delete, [objects]

    def cut_off(self: Prefix, keys: Iterable[str]) -> int:
        for key in keys:
            if not left[0]:
                raise Killed
            left[0] -= 1
            real(self, [key])
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(Prefix, "delete", cut_off)
        with pytest.raises(Killed):
            deleted(capsys, identity, workspace)
    held = list(workspace.glob("snapshot/*/reservation.json"))
    assert len(held) == 1  # as a killed process leaves it
    held[0].unlink()
    present = ids(capsys, workspace)
    assert present == ([] if objects else [identity])
    code, _, sentence = command(capsys, "show", identity, "--workspace", workspace)
    assert (code, "it has none" in sentence) == ((78, True) if objects else (0, False))
    assert deleted(capsys, identity, workspace)[0] == 0
    assert files_of(workspace / "snapshot") == files_of(workspace / "snapshots") == []
    assert taken(source, workspace) == identity
    assert ids(capsys, workspace) == [identity]


def test_a_snapshot_that_the_index_lost_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace)
    (workspace / f"snapshots/{identity}.json").unlink()
    assert command(capsys, "show", identity, "--workspace", workspace)[0] == 0
    assert deleted(capsys, identity, workspace)[0] == 0
    assert ids(capsys, workspace) == []
