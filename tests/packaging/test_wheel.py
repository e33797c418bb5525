"""The built package holds every file of the source folders: what an image installs is what the tests ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import visionloop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Beside the sources: what a build reads.
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")

#: What another project's checker must know of the package, in a file of its own.
TYPED = """
import visionloop
from visionloop.components.train import STAGE

reveal_type(visionloop.__version__)
reveal_type(STAGE.name)
"""


def run(*arguments: str, folder: Path, **variables: str) -> str:
    """A command's stdout; one that fails is told with all that it said."""
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's files, links as links, and nothing that a run left in it."""
    folder = tmp_path_factory.mktemp("checkout") / "source"
    arguments = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = run(*arguments, "visionloop", "components", "pipelines", *BUILT_FROM, folder=ROOT).split("\0")
    for name in listed:
        if name and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def build(kind: str, source: Path, out: Path) -> Path:
    """A wheel or a source distribution, made as pip makes it."""
    out.mkdir()
    program = f"import sys; from hatchling.build import build_{kind}; build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", program, str(out), folder=source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made straight from the checkout."""
    return build("wheel", source, tmp_path_factory.mktemp("built") / "wheel")


def names(wheel: Path) -> set[str]:
    """The files in a wheel, but its record of them."""
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert len(held) == len(set(held)), "a file came twice"
    return {name for name in held if not name.endswith("/RECORD")}


def files_of(source: Path) -> set[str]:
    """What a wheel must hold of a checkout: each file by the name that it is imported or read by."""
    folders = {"components": "visionloop/components", "pipelines": "visionloop/pipelines", "visionloop": "visionloop"}
    return {
        f"{name}/{path.relative_to(source / folder)}"
        for folder, name in folders.items()
        for path in (source / folder).rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_the_wheel_holds_every_file_of_the_package(source: Path, wheel: Path) -> None:
    held = {name for name in names(wheel) if ".dist-info/" not in name}
    assert held == files_of(source)
    assert {"visionloop/py.typed", "visionloop/__init__.py", "visionloop/components/train/component.yaml"} <= held


def test_a_wheel_made_from_the_source_distribution_is_the_same(source: Path, wheel: Path, tmp_path: Path) -> None:
    packed = build("sdist", source, tmp_path / "sdist")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert names(build("wheel", unpacked, tmp_path / "again")) == names(wheel)


def test_the_installed_wheel_runs_and_is_typed_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", str(environment), folder=elsewhere)
    (installed,) = environment.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    program = "import visionloop, visionloop.pipelines.cli as it; print(visionloop.__version__, it.__file__)"
    output = run(sys.executable, "-c", program, folder=elsewhere, PYTHONPATH=str(installed))
    assert output.split() == [visionloop.__version__, str(installed / "visionloop/pipelines/cli/__init__.py")]
    python = str(environment / "bin" / "python")
    typed = run(sys.executable, "-m", "mypy", "--python-executable", python, "-c", TYPED, "--strict", folder=elsewhere)
    assert typed.count('Revealed type is "str"') == 2, typed


def test_the_editable_package_is_typed_outside_the_checkout(tmp_path: Path) -> None:
    typed = run(sys.executable, "-m", "mypy", "-c", TYPED, "--strict", folder=tmp_path)
    assert typed.count('Revealed type is "str"') == 2, typed
    output = run(sys.executable, "-c", "import visionloop; print(visionloop.__file__)", folder=tmp_path)
    assert Path(output.strip()) == ROOT / "visionloop" / "__init__.py"


def test_the_command_tells_its_version() -> None:
    command = str(Path(sys.executable).with_name("visionloop"))
    assert run(command, "--version", folder=ROOT) == f"visionloop {visionloop.__version__}\n"


def test_a_checkout_without_links_is_told_so(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "flat", symlinks=True)
    for name in ("components", "pipelines"):
        link = tmp_path / "flat" / "visionloop" / name
        text = os.readlink(link)
        link.unlink()
        link.write_text(text)  # what git and some archives leave where links can't be made
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / "flat")
    done = subprocess.run(
        ["make", "venv"], cwd=tmp_path / "flat", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "not the links that the repository holds" in done.stdout
    assert not (tmp_path / "flat" / ".venv").exists()
