"""The home: where a machine keeps the registry, the embedded services and what else belongs to no run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: The folder's name, looked for from the current one upwards, and the variable that names another one.
DEFAULT_NAME = ".visionloop"
VARIABLE = "VISIONLOOP_HOME"


def find_home(path: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> tuple[Path, str]:
    """The home, the same one in every folder of a project, and by which rule it was chosen.

    Args:
        path: The folder; it comes before every rule.
        environment: The process's variables.

    Returns:
        ``path``, else ``VISIONLOOP_HOME``, else the nearest ``.visionloop`` of this user from the current folder upwards,
        else the user's data folder; none is made.
    """
    if path:
        return Path(path).expanduser().absolute(), "as given"
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE]).expanduser().absolute(), f"set by {VARIABLE}"
    nearest = _nearest()
    if nearest is not None:
        return nearest, f"the nearest {DEFAULT_NAME} from here upwards"
    from platformdirs import user_data_path

    return (
        user_data_path("visionloop", appauthor=False),
        f"your data folder; mkdir {DEFAULT_NAME} begins another",
    )


def _nearest() -> Path | None:
    """The nearest folder of that name; one that another user put in the way, or a link of theirs, is passed over."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None
    for parent in (here, *here.parents):
        candidate = parent / DEFAULT_NAME
        with suppress(OSError):
            owners = {candidate.lstat().st_uid, candidate.stat().st_uid}
            if owners == {os.getuid()} and candidate.is_dir():
                return candidate
    return None
