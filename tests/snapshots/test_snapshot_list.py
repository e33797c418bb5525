"""``visionloop snapshot list`` and ``show``: what a workspace holds, and who uses it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from small_datasets import converted, dataset, stage
from snapshot_commands import command, objects_of_the_register, taken


def listed(capsys: pytest.CaptureFixture[str], workspace: Path) -> list[dict[str, object]]:
    code, out, sentence = command(capsys, "list", "--workspace", workspace)
    assert (code, sentence) == (0, "")
    result: list[dict[str, object]] = json.loads(out)["snapshots"]
    return result


def test_what_a_snapshot_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    converted(source, workspace)
    (result,) = listed(capsys, workspace)
    identity = taken(source, workspace)
    assert str(result.pop("time")).endswith("Z")
    assert result == {
        "id": identity,
        "dataset": source.as_uri(),
        "other_datasets": [],
        "format": "dice",
        "task": "detection",
        "images": 4,
        "classes": 1,
        "splits": {"train": 2, "val": 1, "test": 1},
        "objects": 4,
        "runs": ["one"],
        "versions": [],
    }
    code, out, _ = command(capsys, "show", identity, "--workspace", workspace)
    shown = json.loads(out)
    assert code == 0
    assert shown["classes"] == [{"id": 0, "name": "thing", "objects": 4}]
    assert shown["results"] == {"validate": 1, "convert": 1}
    assert (shown["missing_images"], shown["split_rule"], shown["options"]) == (0, None, {})
    assert shown["image_bytes"] == sum(path.stat().st_size for path in (source / "images").iterdir())


def test_the_same_content_elsewhere_is_one_snapshot_and_the_newest_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, workspace = dataset(tmp_path / "first", "detection", None), tmp_path / "work"
    second, other = tmp_path / "second", dataset(tmp_path / "other", "classification", None)
    shutil.copytree(first, second)
    ids = [taken(folder, workspace) for folder in (first, second, other)]
    assert ids[0] == ids[1]
    for age, path in enumerate(
        sorted(workspace.glob("snapshot/*/receipt.json"), key=lambda path: path.stat().st_mtime_ns)
    ):
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    result = listed(capsys, workspace)
    assert [entry["id"] for entry in result] == [ids[2], ids[0]]
    assert [result[1][name] for name in ("dataset", "other_datasets")] == [second.as_uri(), [first.as_uri()]]
    code, out, _ = command(capsys, "list", "--workspace", workspace, "--output", "text")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["SNAPSHOT", ids[2], ids[0]]
    assert out.splitlines()[1].endswith(f"{other.as_uri()} (dice)")


def test_versions_are_those_whose_lineage_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    other = taken(dataset(tmp_path / "other", "detection", [], dataset_id="2"), workspace)
    identity = taken(source, workspace)
    objects_of_the_register(workspace, identity, "pets", 3)
    results = {entry["id"]: entry["versions"] for entry in listed(capsys, workspace)}
    assert results == {identity: ["pets/3"], other: []}


def test_no_workspace_and_an_empty_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert listed(capsys, empty) == []
    assert command(capsys, "list", "--workspace", empty, "--output", "text")[1] == "No snapshot.\n"
    assert list(empty.iterdir()) == []
    (empty / "notes.txt").write_text("mine")
    code, out, sentence = command(capsys, "list", "--workspace", empty)
    assert (code, out) == (78, "")
    assert sentence == f"--workspace {empty}: no workspace, workspace.json is missing; give the workspace of a run."
    code, _, sentence = command(capsys, "show", "snap_0123456789ab", "--workspace", tmp_path / "none")
    assert (code, "there is no such folder" in sentence) == (78, True)


def test_an_unknown_snapshot_is_told_with_ids_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = tmp_path / "work"
    identity = taken(dataset(tmp_path / "set", "detection", None), workspace)
    for wanted in ("snap_0123456789ab", "../x", "snap_" + "‮" * 12, ""):
        code, out, sentence = command(capsys, "show", wanted, "--workspace", workspace)
        assert (code, out) == (78, "")
        assert sentence.endswith(f"; it has {identity}.")
        assert "‮" not in sentence


def test_a_stage_and_the_commands_find_a_snapshot_in_one_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whose annotations are damaged is refused by both in the same words; an older receipt of the same content serves."""
    first, workspace = dataset(tmp_path / "first", "detection", None), tmp_path / "work"
    second = tmp_path / "second"
    shutil.copytree(first, second)
    identity = taken(first, workspace)
    older = stage("snapshot", workspace, dataset=str(first))
    newest = stage("snapshot", workspace, dataset=str(second))
    path = workspace / f"snapshot/{newest.receipt.key}" / newest.receipt.outputs["snapshot"].path
    path.unlink()
    shown = json.loads(command(capsys, "show", identity, "--workspace", workspace)[1])
    assert shown["id"] == identity
    assert stage("snapshot", workspace, snapshot=identity).uri == older.uri
    (workspace / f"snapshot/{older.receipt.key}" / older.receipt.outputs["snapshot"].path).unlink()
    code, _, sentence = command(capsys, "show", identity, "--workspace", workspace)
    assert (code, "'snapshot' is gone; run again" in sentence) == (65, True)


def test_what_was_chosen_of_a_dataset_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, workspace = dataset(tmp_path / "set", "detection", None), tmp_path / "work"
    identity = taken(source, workspace, where="file_name != '0.png'", dataset_format="dice")
    words = ("show", identity, "--workspace", workspace)
    options = json.loads(command(capsys, *words)[1])["options"]
    assert options == {"dataset_format": "dice", "where": "file_name != '0.png'"}
    assert "Option    where = file_name != '0.png'" in command(capsys, *words, "--output", "text")[1].splitlines()
