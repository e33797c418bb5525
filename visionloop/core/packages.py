"""A package that is not installed here: the sentence that names it, and the command that installs it."""

from __future__ import annotations

import re
from importlib import metadata

from visionloop.core.errors import InvalidConfig

#: Modules whose distribution has another name (https://packaging.python.org/en/latest/discussions/distribution-package-vs-import-package/).
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "MySQLdb": "mysqlclient",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    # mlflow-skinny, which the data stages have, leaves these out.
    "pandas": "mlflow",
    "sqlalchemy": "mlflow",
    "alembic": "mlflow",
    "flask": "mlflow",
}

#: The extra that holds the others.
ALL = "all"

#: The extra for a distribution that several extras hold.
PREFERRED = {"mlflow": "local", "torch": "ultralytics"}


def is_foreign(error: ImportError) -> bool:
    """Whether a module of another distribution is missing; one of our own is a defect."""
    return bool(error.name) and not str(error.name).startswith("visionloop")


def not_installed(error: ImportError, what: str, extra: str | None = None) -> InvalidConfig:
    """The error for a package that a user can install.

    Args:
        error: What Python raised.
        what: What needs the package, as the sentence begins: ``register``, ``--engine argo``.
        extra: As for `install_command`.
    """
    module = (error.name or "").partition(".")[0]
    if not module:
        return InvalidConfig(f"{what} needs a package that can't be loaded here ({error}); install it again.")
    command = install_command(module, extra)
    return InvalidConfig(f"{what} needs the package {module}, which is not installed here; install it with {command}.")


def install_command(module: str, extra: str | None = None) -> str:
    """The command that installs the package of a module: an extra of Visionloop's that holds it, else the package itself.

    Args:
        module: The module's name, or its distribution's.
        extra: The extra to name if it is one that holds the package: that of the trainer which needs it.
    """
    if extra and extra in _extras_with(module.replace("_", "-")):
        return f"pip install 'visionloop[{extra}]'"
    distribution = DISTRIBUTIONS.get(module, module).replace("_", "-")
    holding = _extras_with(distribution)
    wanted = next((name for name in (extra, PREFERRED.get(distribution), distribution) if name in holding), None)
    wanted = wanted or next(iter(holding), None)
    return f"pip install 'visionloop[{wanted}]'" if wanted else f"pip install '{distribution}'"


def _extras_with(distribution: str) -> list[str]:
    """The extras, but for the one that holds them all, whose requirements name a distribution."""
    extras = []
    for requirement in metadata.requires("visionloop") or ():
        matched = re.match(r"([A-Za-z0-9._-]+)[^;]*;.*extra == ['\"]([\w-]+)['\"]", requirement)
        if matched and matched[2] != ALL and matched[1].lower() == distribution.lower():
            extras.append(matched[2])
    return extras


def version_of(distribution: str) -> str | None:
    """The version of an installed distribution, of which nothing is imported; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_installed(distribution: str) -> bool:
    """Whether a distribution is installed."""
    return version_of(distribution) is not None
