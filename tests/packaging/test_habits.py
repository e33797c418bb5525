"""What a developer runs by hand: the checks before a commit, and the files of a release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

import visionloop

ROOT = Path(__file__).parents[2]


def make(*arguments: str, folder: Path = ROOT) -> list[str]:
    """The lines that make prints, in an environment that counts as installed."""
    done = run_make(*arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def run_make(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same, however it ends."""
    installed = ["-o", f"{sys.prefix}/.installed", f"VENV={sys.prefix}"]
    # A make that runs the tests would hand its own flags down.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "--no-print-directory", *installed, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=inherited, timeout=120)


def test_the_hooks_of_pre_commit_are_the_checks_of_make_lint() -> None:
    configured = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in configured["repos"] for hook in repository["hooks"]]
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks)
    assert [hook["entry"].replace(".venv/", f"{sys.prefix}/", 1) for hook in hooks] == make("--dry-run", "lint")


def test_make_release_builds_both_files_of_the_commit_and_prints_the_images(tmp_path: Path) -> None:
    for name in ("visionloop", "components", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, tmp_path)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    (tmp_path / "visionloop/uncommitted.py").touch()
    refused = run_make("release", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("make release URL=https://…: give the repository's public address")
    address = "https://code.example.com/visionloop"
    printed = make("release", f"URL={address}", "REGISTRY=registry.example.com/vision", folder=tmp_path)
    version = visionloop.__version__
    built = {path.name for path in (tmp_path / "dist").iterdir()}
    assert built == {f"visionloop-{version}-py3-none-any.whl", f"visionloop-{version}.tar.gz"}
    with zipfile.ZipFile(tmp_path / "dist" / f"visionloop-{version}-py3-none-any.whl") as wheel:
        assert "visionloop/uncommitted.py" not in wheel.namelist()
        metadata = wheel.read(f"visionloop-{version}.dist-info/METADATA").decode()
    assert f"Project-URL: Repository, {address}" in metadata
    trainers = [
        f"trainer-{path.parent.name}" for path in sorted(ROOT.glob("visionloop/training/trainers/*/__init__.py"))
    ]
    images = [f"registry.example.com/vision/visionloop-{name}:{version}" for name in ("stage", *trainers, "services")]
    assert printed[-len(images) :] == images
