"""The labels' archive is what the standard library writes, to the byte."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.components.convert import archive
from visionloop.components.convert.archive import write_archive


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
