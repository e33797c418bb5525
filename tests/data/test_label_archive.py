"""The labels' archive is what the standard library writes, to the byte."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.data import archive
from visionloop.data.archive import read_archive, write_archive


def of_library(labels: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as written:
        for name, text in sorted(labels.items()):
            data = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            written.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def of_stream(labels: dict[str, str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.tar")
        write_archive(path, sorted(labels.items()))
        return path.read_bytes()


names = st.lists(st.text("aZ0_%- é한", min_size=1, max_size=60), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(names, st.text(max_size=2000), max_size=4))
@example({})
@example({"a" * 100: "", "b" * 101: "x" * 512, "é": "y" * 513})
@example({f"labels/train/{number}.txt": "0 0.5 0.5 1 1\n" * number for number in range(40)})
def test_the_archive_is_the_librarys(labels: dict[str, str]) -> None:
    assert of_stream(labels) == of_library(labels)


def test_members_are_written_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {f"{number}.txt": str(number) for number in range(5)}
    whole = of_stream(labels)
    monkeypatch.setattr(archive, "_AT_ONCE", 2)
    assert of_stream(labels) == whole


@given(st.dictionaries(names, st.text(max_size=2000), max_size=4))
@example({"a" * 100: "", "b" * 101: "x" * 512, "é": "y" * 513, "c": "z"})
def test_what_was_written_is_read(labels: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.tar")
        write_archive(path, sorted(labels.items()))
        assert list(read_archive(path)) == [(name, text.encode()) for name, text in sorted(labels.items())]


def test_another_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "labels.tar", "w") as written:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        written.addfile(entry)
    with pytest.raises(ValueError, match="a member of the type"):
        list(read_archive(tmp_path / "labels.tar"))
