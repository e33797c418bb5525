"""A file is replaced whole or not at all, and nothing is left beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from visionloop.core.files import atomic_write


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_private_from_its_first_byte_on(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "key", mode=0o600) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_writers_of_one_file_at_once_do_not_meet(tmp_path: Path) -> None:
    contents = {bytes([65 + number]) * 100_000 for number in range(8)}

    def write(content: bytes) -> None:
        for _ in range(20):
            with atomic_write(tmp_path / "file") as partial:
                partial.write_bytes(content)
            assert (tmp_path / "file").read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
