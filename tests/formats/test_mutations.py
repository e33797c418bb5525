"""Broken datasets of every format through snapshot, validate and convert: each ends in one sentence, or its counts add up."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutations
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.components.validate import stage as validating
from visionloop.core import catalog
from visionloop.core.errors import VisionloopError
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage
from visionloop.core.storage import Prefix, open_prefix

#: What a wrong dataset, or a question that it can't answer, ends with.
CODES = (65, 78)

_numbers = itertools.count()

#: Where opened files are collected while a dataset is read; None at any other time.
_opened: list[str] | None = None


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_on_event)


@contextlib.contextmanager
def watched(allowed: tuple[Path, ...], beside: Path) -> Iterator[None]:
    """Sees that of what lies in a folder only the ``allowed`` folders are opened, and of datasets nothing but the first of them."""
    global _opened
    keys: list[str] = []
    real = Prefix._key

    def seen(self: Prefix, key: str) -> str:
        path = real(self, key)
        if self.role == "dataset":
            keys.append(f"/{path}")
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prefix, "_key", seen)
        _opened = []
        try:
            yield
        finally:
            opened, _opened = _opened, None
    for path in keys:
        assert Path(os.path.realpath(path)).is_relative_to(allowed[0]), path
    for file in (Path(os.path.realpath(path)) for path in opened):
        assert not file.is_relative_to(beside) or any(file.is_relative_to(folder) for folder in allowed), file


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """A valid dataset of each format, and the tasks that it is read for."""
    folder = tmp_path_factory.mktemp("valid")
    return {name: mutations.folder_of(name, folder / name) for name in mutations.NAMES_OF_FORMATS}


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Reads the installed packages once, and lets validate leave out as many images as are wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "entry_points", functools.cache(catalog.entry_points))
        patch.setattr(validating, "QUARANTINE_LIMIT", 1.0)
        yield


def taken_through(folder: Path, workspace: Path, task: str, on_error: str, mode: str) -> Result:
    """What convert gives."""
    run = f"run-{next(_numbers)}"

    def stage(name: str, **values: Any) -> Result:
        outcome = run_stage(catalog.stage(name), values, Invocation(str(workspace), run=run))
        assert outcome.result is not None
        return outcome.result

    snapshot = stage("snapshot", dataset=str(folder), task=task)
    report = stage("validate", snapshot=snapshot.uri, on_error=on_error, mode=mode)
    return stage("convert", snapshot=snapshot.uri, report=report.uri)


def check_sums(result: Result) -> None:
    """Every image and every object of the snapshot is either used, or counted under the reason that it is not."""
    snapshot = Snapshot(result.input("snapshot", "snapshot"))
    report = validation.read(result.input("report", "validate"))
    read, table, scalars = snapshot.annotations, snapshot.table, result.receipt.scalars
    entries = Converted(result).index()
    shared = set(table["file_name"].to_pylist()) & set(read.shared)
    labels, left_out = sum(report.labels.values()), sum(report.labels_left_out.values())
    usable = {entry.file_name for entry in entries}
    assert len(usable) == scalars["images"]
    assert len(entries) == len(usable) + len(usable & shared)
    images = read.objects["image"].to_pylist()
    if read.task == "classification":
        labelled = {read.images["file_name"][row].as_py() for row in set(images)}
        assert usable == labelled - set(report.quarantined) - _too_small(snapshot)
        assert labels == len(entries)
        return
    small = _too_small(snapshot) - set(report.quarantined)
    assert len(table) == len(usable) + len(report.quarantined) + len(small)
    assert scalars["too_small"] == len(small)
    twice = [row for row in images if read.images["file_name"][row].as_py() in shared]
    assert scalars["objects"] == labels
    if not twice:
        assert len(images) == labels + left_out


def _too_small(snapshot: Snapshot) -> set[str]:
    rows = snapshot.annotations.images.to_pylist()
    return {row["file_name"] for row in rows if min(row["width"] or 10, row["height"] or 10) < 10}


def broken_dataset(name: str, valid: tuple[Path, tuple[str, ...]], beside: Path, data: st.DataObject) -> None:
    """One valid dataset, broken in one to three ways and taken through the three stages."""
    source, tasks = valid
    task = data.draw(st.sampled_from(tasks))
    on_error = data.draw(st.sampled_from(("fail", "quarantine")))
    mode = data.draw(st.sampled_from(("headers", "annotations", "full")))
    with tempfile.TemporaryDirectory(dir=beside) as temporary:
        folder = Path(temporary, "dataset")
        shutil.copytree(source, folder)
        outside = Path(temporary, "outside")
        shutil.copytree(source, outside)
        for stem in "abcd":
            shutil.copy(next(source.rglob("a.png")), outside / f"{stem}.png")
        for _ in range(data.draw(st.integers(1, 3))):
            note(mutations.spoil(folder, outside, data.draw))
        note(f"{task}, {on_error}, {mode}")
        error: VisionloopError | None = None
        with watched((folder, beside / "workspace"), beside):
            try:
                result = taken_through(folder, beside / "workspace", task, on_error, mode)
            except VisionloopError as raised:
                error = raised
        if error is None:
            check_sums(result)
            return
    note(error.sentence)
    assert error.exit_code in CODES
    assert error.sentence.isprintable()
    assert error.sentence.endswith((".", ")"))


#: A failing example says what was done to its dataset, and a smaller one would take minutes.
_KEPT = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
    phases=[Phase.generate],
)


@pytest.mark.parametrize("name", mutations.NAMES_OF_FORMATS)
@settings(_KEPT, max_examples=5, derandomize=True)
@given(data=st.data())
def test_a_broken_dataset_ends_in_a_sentence_or_its_counts_add_up(
    name: str, data: st.DataObject, valid: dict[str, tuple[Path, tuple[str, ...]]], quick: None, tmp_path: Path
) -> None:
    broken_dataset(name, valid[name], tmp_path, data)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", mutations.NAMES_OF_FORMATS)
@settings(_KEPT, max_examples=int(os.environ.get("MUTATIONS", "50")))
@given(data=st.data())
def test_hundreds_of_broken_datasets_end_in_a_sentence_or_their_counts_add_up(
    name: str, data: st.DataObject, valid: dict[str, tuple[Path, tuple[str, ...]]], quick: None, tmp_path: Path
) -> None:
    broken_dataset(name, valid[name], tmp_path, data)


@pytest.mark.matrix
@pytest.mark.parametrize("name", mutations.NAMES_OF_FORMATS)
def test_the_datasets_that_are_broken_are_valid(
    name: str, valid: dict[str, tuple[Path, tuple[str, ...]]], quick: None, tmp_path: Path
) -> None:
    folder, tasks = valid[name]
    with watched((folder, tmp_path / "workspace"), tmp_path):
        for task in tasks:
            check_sums(taken_through(folder, tmp_path / "workspace", task, "fail", "full"))


def test_what_lies_outside_a_dataset_is_seen_when_it_is_opened(tmp_path: Path) -> None:
    folder, beside = tmp_path / "dataset", tmp_path / "secret.txt"
    folder.mkdir()
    beside.write_text("secret")
    ways: tuple[Callable[[], object], ...] = (
        beside.read_text,
        lambda: open_prefix(str(tmp_path), "dataset").exists("secret.txt"),
    )
    for way in ways:
        with pytest.raises(AssertionError, match=r"secret\.txt"), watched((folder,), tmp_path):
            way()
