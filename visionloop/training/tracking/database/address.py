"""Which database a training is tracked in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from visionloop.core.errors import InvalidConfig
from visionloop.core.home import find_home
from visionloop.training.tracking.address import shown

VARIABLE = "VISIONLOOP_DATABASE_URL"

#: The SQLite file in the home, where no database is named.
FILE = "tracking.db"

_SQLITE = "sqlite:///"
_POSTGRESQL = re.compile(r"(?i)postgres(?:ql)?(\+\w+)?://")
_EXAMPLE = "postgresql://user:password@host/database, or sqlite:////folder/tracking.db"


def database_url(environment: Mapping[str, str]) -> str:
    """The URL of the database, as SQLAlchemy takes it.

    Raises:
        InvalidConfig: If it is of another kind or has no such form, or none is named in a pod.
    """
    url = environment.get(VARIABLE, "").strip()
    if not url and "KUBERNETES_SERVICE_HOST" in environment:
        raise InvalidConfig(
            f"{VARIABLE} is not set, and a pod keeps no database of its own: set it in the Secret visionloop-registry, "
            "such as postgresql://user:password@host/database."
        )
    if not url:
        return f"{_SQLITE}{find_home(None, environment)[0] / FILE}"
    if url.startswith("sqlite:"):
        if not url.startswith(_SQLITE) or not sqlite_file(url).name:
            raise InvalidConfig(
                f"{VARIABLE}: a path after sqlite: needs three slashes, a whole one four; give sqlite:////folder/tracking.db."
            )
        return url
    postgresql = _POSTGRESQL.match(url)
    if postgresql is None:
        raise InvalidConfig(f"{VARIABLE} {place(url)}: not the URL of a database that is tracked in; give {_EXAMPLE}.")
    try:
        urlsplit(url).port  # noqa: B018 - it is read to see whether it is one
    except ValueError as error:
        raise InvalidConfig(
            f"{VARIABLE}: no host and port can be read in it; give {_EXAMPLE}, with %2F for / and %40 for @ in a password."
        ) from error
    return f"postgresql{postgresql[1] or '+psycopg'}://{url[postgresql.end() :]}"


def is_sqlite(url: str) -> bool:
    """Whether the database is a file."""
    return url.startswith("sqlite:")


def sqlite_file(url: str) -> Path:
    """The file of a SQLite database."""
    return Path(url.removeprefix(_SQLITE).partition("?")[0])


def place(url: str) -> str:
    """Where a database lies, without user, password and query."""
    if is_sqlite(url):
        return str(sqlite_file(url))
    scheme, separator, rest = shown(url).partition(":")
    # Without a host (a socket, named in the query) the two slashes of an empty one are lost on the way.
    rest = rest if rest.startswith("//") or not separator else f"//{rest}"
    return f"{scheme.partition('+')[0]}{separator}{rest}"
