"""The archive of Visionloop's own modules that a registered model carries, so that it loads where Visionloop is not installed."""

from __future__ import annotations

import zipfile
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


def write(path: Path) -> None:
    """Writes the archive, which Python imports from by its path: equal sources give equal bytes."""
    package = Path(__file__).resolve().parents[1]
    with zipfile.ZipFile(path, "w") as archive:
        # The real one asks for the version of the installed distribution.
        archive.writestr(zipfile.ZipInfo("visionloop/__init__.py", _DATE), f'__version__ = "{version("visionloop")}"\n')
        for room in ROOMS:
            for file in sorted((package / room).rglob("*.py")):
                name = f"visionloop/{file.relative_to(package).as_posix()}"
                archive.writestr(zipfile.ZipInfo(name, _DATE), file.read_bytes())


def requirements() -> list[str]:
    """The pinned pip requirements of the archive's modules."""
    return [f"{name}=={version(name)}" for name in REQUIREMENTS]
