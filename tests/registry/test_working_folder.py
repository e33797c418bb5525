"""The git commit that a version's tags and card name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from visionloop.components.register.working_folder import commit


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_is_that_of_the_repository_and_says_where_a_file_differs(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git(tmp_path, "init", "--quiet")
    assert commit(tmp_path) == ""
    (tmp_path / "settings.yaml").write_text("epochs: 3\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "new").write_text("")
    (tmp_path / "below").mkdir()
    assert commit(tmp_path / "below") == head
    (tmp_path / "settings.yaml").write_text("epochs: 4\n")
    assert commit(tmp_path) == f"{head}-dirty"


def test_without_git_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == ""
