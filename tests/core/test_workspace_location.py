"""Where a workspace may lie: apart from the dataset, and where it can be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.core.workspace import check_apart, check_can_be_made


@pytest.mark.parametrize(
    ("workspace", "dataset", "relation"),
    [
        ("data", "data", "equal to"),
        ("data/", "./data", "equal to"),
        ("data/work", "data", "inside"),
        ("data", "data/set", "around"),
        ("link/work", "data", "inside"),
        ("s3://bucket", "s3://bucket", "equal to"),
        ("s3://bucket/set/work", "s3://bucket/set/", "inside"),
        ("s3://bucket", "s3://bucket/set", "around"),
    ],
)
def test_a_workspace_that_is_not_apart_from_the_dataset_is_refused(
    workspace: str, dataset: str, relation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("link").symlink_to("data")
    with pytest.raises(InvalidConfig, match=f"--workspace {workspace} is {relation} --dataset {dataset}: "):
        check_apart(workspace, dataset)


@pytest.mark.parametrize(
    ("workspace", "dataset"),
    [("work", "data"), ("data2", "data"), ("s3://bucket/set2", "s3://bucket/set"), ("s3://bucket", "bucket")],
)
def test_a_workspace_beside_the_dataset_is_taken(workspace: str, dataset: str, tmp_path: Path) -> None:
    check_apart(workspace, dataset)


def test_equal_buckets_of_two_stores_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTERNAL_S3_ENDPOINT", "http://one:9000")
    monkeypatch.setenv("INTERNAL_S3_ENDPOINT", "http://other:9000")
    check_apart("s3://bucket/set", "s3://bucket/set")


def test_a_workspace_that_can_not_be_made_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for workspace in (tmp_path / "file", tmp_path / "file/work", Path("/proc/work"), Path("/dev/null/work")):
        with pytest.raises(AccessDenied, match=str(workspace)):
            check_can_be_made(str(workspace))
    for name in ("x" * 256, "ü" * 128, "a/" * 1600):
        with pytest.raises(
            InvalidConfig, match=r"--workspace .*: its name is too long; give one of at most 255 bytes a folder"
        ):
            check_can_be_made(str(tmp_path / name))
    check_can_be_made(str(tmp_path / "new/deeper"))
    check_can_be_made("s3://bucket/prefix")


@pytest.mark.skipif(not Path("/proc").exists(), reason="no file system here that holds no folders")
@pytest.mark.parametrize("workspace", ["/proc/work", "/dev/null/work"])
def test_no_store_is_said_to_be_out_where_a_folder_can_not_be_made(workspace: str) -> None:
    with pytest.raises(AccessDenied, match="choose a folder that can be written"):
        open_prefix(workspace, "results").write("runs/a.json", b"{}")


def test_a_loop_of_links_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(AccessDenied):
        check_can_be_made(str(tmp_path / "loop/work"))
    with pytest.raises(AccessDenied):
        open_prefix(str(tmp_path / "loop/work"), "results").write("a.json", b"{}")
    assert os.path.lexists(tmp_path / "loop")
