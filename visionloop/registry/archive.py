"""The archive of modules that a registered model carries: Visionloop's own and its trainer's, so that it loads where neither is installed."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

#: The rooms that a registered model's code imports from.
ROOMS = ("core", "data", "registry", "training")

#: The packages that these modules import; a trainer names its own.
REQUIREMENTS = (
    "msgspec",
    "numpy",
    "obstore",
    "opencv-python-headless",
    "pillow",
    "psutil",
    "pyyaml",
    "rfc8785",
    "typing-extensions",
)

#: A ZIP holds no earlier date.
_DATE = (1980, 1, 1, 0, 0, 0)


def write(path: Path, trainer: str | None = None) -> None:
    """Writes the archive, which Python imports from by its path: equal sources give equal bytes.

    Args:
        path: The file to write.
        trainer: Where the trainer is, as "package.module:TRAINER". The Python files of a third party's package go into it too.
    """
    package = Path(__file__).resolve().parents[1]
    with zipfile.ZipFile(path, "w") as archive:
        # The real one asks for the version of the installed distribution.
        archive.writestr(zipfile.ZipInfo("visionloop/__init__.py", _DATE), f'__version__ = "{version("visionloop")}"\n')
        for room in ROOMS:
            for file in sorted((package / room).rglob("*.py")):
                name = f"visionloop/{file.relative_to(package).as_posix()}"
                archive.writestr(zipfile.ZipInfo(name, _DATE), file.read_bytes())
        for name, file in _of_trainer(trainer):
            archive.writestr(zipfile.ZipInfo(name, _DATE), file.read_bytes())


def _of_trainer(trainer: str | None) -> Iterator[tuple[str, Path]]:
    """The Python files of a third party's trainer, with their names in the archive: of its package, or its one module."""
    top = (trainer or "").partition(":")[0].partition(".")[0]
    if not top or top == __package__.partition(".")[0]:
        return
    spec = importlib.util.find_spec(top)
    if spec is None:
        return
    if not spec.submodule_search_locations:
        if spec.origin is not None:
            yield f"{top}.py", Path(spec.origin)
        return
    for folder in spec.submodule_search_locations:
        for file in sorted(Path(folder).rglob("*.py")):
            yield f"{top}/{file.relative_to(folder).as_posix()}", file


def requirements() -> list[str]:
    """The pinned pip requirements of the archive's modules."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]
