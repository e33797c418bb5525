"""Temporary folders: removed at the end, and after a kill by whoever comes next."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from visionloop.core import folders
from visionloop.core.errors import AccessDenied
from visionloop.core.folders import PREFIX, sweep, temporary_folder

HOLDER = """
import sys
from visionloop.core.folders import temporary_folder
with temporary_folder("held") as folder:
    (folder / "large").write_bytes(b"0" * 100)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this process and of those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def age(folder: Path) -> None:
    long_ago = time.time() - 2 * folders.UNTOUCHED_SECONDS
    os.utime(folder, (long_ago, long_ago))


def test_a_folder_is_gone_at_the_end_whatever_happens(temporary):
    def fail() -> None:
        with temporary_folder("toy") as folder:
            (folder / "below" / "this").mkdir(parents=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(temporary):
    (killed, left), (living, kept) = start(), start()
    killed.kill()
    killed.communicate()
    age(left)
    age(kept)
    with temporary_folder("toy") as folder:
        assert {path.name for path in temporary.iterdir()} == {folder.name, kept.name}
        assert (kept / "large").exists()
    living.communicate("")
    assert list(temporary.iterdir()) == []


def test_a_folder_that_was_just_made_is_left_alone(temporary):
    (temporary / f"{PREFIX}toy-new").mkdir()
    assert sweep() == 0
    age(temporary / f"{PREFIX}toy-new")
    assert sweep() == 1


def test_nobody_elses_folder_and_no_link_is_touched(temporary, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (temporary / "visionloop-temporary-another-host-toy-x").mkdir()
    (temporary / "visionloop-temporary").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    for path in (elsewhere, *temporary.iterdir()):
        age(path)
    assert sweep() == 0
    assert elsewhere.exists()


def test_a_temporary_folder_that_is_none_is_named(temporary, monkeypatch):
    (temporary / "file").write_text("")
    monkeypatch.setenv("TMPDIR", str(temporary / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "file"))
    with pytest.raises(AccessDenied, match="choose another TMPDIR"), temporary_folder("toy"):
        pass
