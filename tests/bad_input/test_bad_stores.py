"""Stores that can't be used: wrong keys, no answer, no room, no right to write."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import laptop as machine
import pytest
from laptop import Dataset, Laptop, Server

WRONG = {
    "wrong secret": {"EXTERNAL_S3_SECRET_KEY": "wrong"},
    "wrong key": {"EXTERNAL_S3_ACCESS_KEY": "wrong"},
    "half a pair": {"EXTERNAL_S3_SECRET_KEY": None},
    "no keys": {"EXTERNAL_S3_ACCESS_KEY": None, "EXTERNAL_S3_SECRET_KEY": None},
}


@pytest.mark.parametrize("variables", WRONG.values(), ids=WRONG)
def test_keys_that_do_not_open_the_dataset(
    laptop: Laptop, digits: Dataset, s3: Server, variables: dict[str, str | None]
):
    ended = laptop.stage("snapshot", "--dataset", digits.uri, variables=variables)
    sentence = ended.refused(77)
    assert "EXTERNAL_S3_" in sentence
    assert not any(secret in ended.stderr for secret in (s3.keys.secret, s3.keys.access))
    laptop.stage("snapshot", "--dataset", digits.uri).expect()
    assert laptop.versions() == []


@pytest.mark.parametrize("variables", WRONG.values(), ids=WRONG)
def test_keys_that_do_not_open_the_workspace(laptop: Laptop, digits: Dataset, variables: dict[str, str | None]):
    renamed = {name.replace("EXTERNAL", "INTERNAL"): value for name, value in variables.items()}
    sentence = laptop.stage("snapshot", "--dataset", digits.uri, variables=renamed).refused(77)
    assert "INTERNAL_S3_" in sentence
    assert laptop.listing() == {}


def test_a_workspace_that_may_only_be_read(laptop: Laptop, digits: Dataset, s3: Server):
    readonly: dict[str, str | None] = dict(s3.variables("INTERNAL_S3_", s3.readonly))
    sentence = laptop.stage("snapshot", "--dataset", digits.uri, variables=readonly).refused(77)
    assert "the results store refused to write" in sentence
    assert laptop.listing() == {}
    # As a dataset's keys they are enough: nothing is ever written there.
    keys: dict[str, str | None] = dict(s3.variables("EXTERNAL_S3_", s3.readonly))
    laptop.stage("snapshot", "--dataset", digits.uri, variables=keys).expect()


@pytest.mark.parametrize("role", ["EXTERNAL", "INTERNAL"])
def test_an_endpoint_where_nobody_listens(laptop: Laptop, digits: Dataset, role: str):
    """The command's own patience bounds it: ``Laptop.run`` gives up after some minutes."""
    nobody: dict[str, str | None] = {f"{role}_S3_ENDPOINT": "http://127.0.0.1:9"}
    sentence = laptop.stage("snapshot", "--dataset", digits.uri, variables=nobody).refused(75)
    assert "http://127.0.0.1:9" in sentence
    laptop.stage("snapshot", "--dataset", digits.uri).expect()


def test_an_endpoint_that_is_none(laptop: Laptop, digits: Dataset):
    sentence = laptop.stage(
        "snapshot", "--dataset", digits.uri, variables={"EXTERNAL_S3_ENDPOINT": "not a url"}
    ).refused(78)
    assert "EXTERNAL_S3_ENDPOINT" in sentence


def test_a_workspace_whose_bucket_is_not_there(laptop: Laptop, digits: Dataset):
    arguments = ["stage", "snapshot", "--dataset", digits.uri, "--workspace", "s3://no-such-bucket/work"]
    sentence = laptop.run(*arguments).refused(78)
    assert "s3://no-such-bucket/work" in sentence


@pytest.mark.parametrize(
    "uri", ["ftp://somewhere/work", "s3:/one-slash", "s3://", "", "s3://bucket/../up", "file://host/x"]
)
def test_a_workspace_that_is_no_place(laptop: Laptop, digits: Dataset, uri: str):
    sentence = laptop.run("stage", "snapshot", "--dataset", digits.uri, "--workspace", uri).refused(78)
    assert (uri or "--workspace") in sentence


def test_a_workspace_below_a_file(file_laptop: Laptop, digits_folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    arguments = ["stage", "snapshot", "--dataset", str(digits_folder), "--workspace", str(tmp_path / "file" / "work")]
    assert str(tmp_path / "file") in file_laptop.run(*arguments).refused(77)


@pytest.fixture
def digits_folder(tmp_path: Path) -> Path:
    """A small dataset in a folder."""
    Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(4, 2, 2))
    return tmp_path / "digits"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the test with another user")
def test_a_folder_that_may_not_be_written(file_laptop: Laptop, digits_folder: Path, tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o555)
    arguments = ["stage", "snapshot", "--dataset", str(digits_folder), "--workspace", str(tmp_path / "closed")]
    assert str(tmp_path / "closed") in file_laptop.run(*arguments).refused(77)


@pytest.fixture
def mount() -> Iterator[Callable[[str], Path]]:
    """Makes file systems of a size, such as 128k."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root mounts a small file system")
    folders: list[Path] = []

    def make(size: str) -> Path:
        # Not below tmp_path: the path of a server's socket has 108 bytes at most.
        folder = Path(tempfile.mkdtemp(prefix="small-"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            folder.rmdir()
            pytest.skip("this container mounts nothing")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.fixture
def small_disk(mount: Callable[[str], Path]) -> Path:
    """A file system of 128 KiB."""
    return mount("128k")


def test_no_space_in_the_store(file_laptop: Laptop, digits_folder: Path, small_disk: Path):
    (small_disk / "filler").write_bytes(b"0" * 112_000)
    arguments = ["stage", "snapshot", "--dataset", str(digits_folder), "--workspace", str(small_disk / "work")]
    first = file_laptop.run(*arguments)
    assert "no space is left in the results store" in first.refused(75)
    (small_disk / "filler").unlink()
    file_laptop.run(*arguments).expect()


@pytest.fixture
def filled_store(mount: Callable[[str], Path], make_s3: Callable[[Path], Server]) -> tuple[Server, Path]:
    """A SeaweedFS whose volumes lie on a disk without a free byte, and the file that takes them."""
    disk = mount("40m")
    server = make_s3(disk)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return server, filler


def test_no_space_in_an_s3_store(laptop: Laptop, tmp_path: Path, filled_store: tuple[Server, Path]):
    """SeaweedFS has no code for it: it answers 500 InternalError, and takes writes again soon after there is space."""
    server, filler = filled_store
    dataset = Dataset(machine.file_prefix(tmp_path / "crowded", "dataset")).put(machine.sample_objects(4, 2, 2))
    document = dataset.annotations()
    # Larger than what fits into the rests of the store's blocks.
    document["images"][0]["annotations"] *= 5000
    dataset.write_annotations(document)
    full = dict(server.variables("INTERNAL_S3_"))
    arguments = ["stage", "snapshot", "--dataset", dataset.uri, "--workspace", "s3://results/work"]
    sentence = laptop.run(*arguments, variables=full).refused(75)
    assert f"the results store at {server.endpoint} fails to write (500 Internal Server Error)" in sentence
    assert "see that it has space left" in sentence
    filler.unlink()
    # Where it looked at its disk while that was full, it looks again a minute later.
    ended = machine.wait_for(lambda: ended if (ended := laptop.run(*arguments, variables=full)).code == 0 else None)
    assert ended.expect().summary["reused"] is False


def test_no_space_on_the_machine(file_laptop: Laptop, digits_folder: Path, small_disk: Path):
    uris = file_laptop.prepare(str(digits_folder))
    inputs = ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]
    full: dict[str, str | None] = {"VISIONLOOP_CACHE": str(small_disk / "cache"), "MLFLOW_TRACKING_URI": None}
    (small_disk / "filler").write_bytes(b"0" * 110_000)
    settings = ("trainer=toy", "epochs=1", "batch=4")
    sentence = file_laptop.stage("train", *inputs, settings=settings, variables=full).refused(71)
    assert "the machine's disk is full" in sentence
    assert str(small_disk) in sentence
    (small_disk / "filler").unlink()
    file_laptop.stage("train", *inputs, settings=settings, variables=full).expect()


@pytest.mark.parametrize(
    ("workspace", "codes"),
    [
        ("s3://no-such-bucket/work", (78, 78)),
        ("/dev/null/work", (77, 77)),
        ("ftp://somewhere/work", (78, 78)),
        ("", (78, 78)),
    ],
)
def test_run_and_plan_refuse_a_workspace_that_is_no_place(
    laptop: Laptop, digits: Dataset, workspace: str, codes: tuple[int, int]
):
    args = ["--dataset", digits.uri, "--workspace", workspace, "--model-name", "digits", "--set", "model=yolo11n.yaml"]
    for command, code in zip(("run", "plan"), codes, strict=True):
        laptop.run(command, "train", *args).refused(code)


def test_run_and_plan_refuse_keys_that_open_nothing(laptop: Laptop, digits: Dataset):
    args = ["--dataset", digits.uri, "--workspace", laptop.workspace.uri, "--model-name", "digits"]
    args += ["--set", "model=yolo11n.yaml"]
    for command in ("run", "plan"):
        ended = laptop.run(command, "train", *args, variables={"INTERNAL_S3_SECRET_KEY": "wrong"})
        assert "INTERNAL_S3_ACCESS_KEY" in ended.refused(77)
