"""The connection to the database: SQLAlchemy, imported on first use, and its errors turned into ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from visionloop.core import texts
from visionloop.core.errors import AccessDenied, InvalidConfig, SickMachine, Transient, VisionloopError, shortened
from visionloop.training.tracking.connection import LONGEST_TEXT
from visionloop.training.tracking.database.address import VARIABLE, database_url, is_sqlite, place, sqlite_file
from visionloop.training.tracking.database.schema import prepare

#: Seconds that a database may take to be connected with, or to be free.
PATIENCE_SECONDS = 10

#: What a database says, in lower case, and the error that it is. The first that is found counts.
_CAUSES: tuple[tuple[str, type[VisionloopError], str], ...] = (
    ("disk is full", SickMachine, "the disk is full; free space there"),
    ("no space left", SickMachine, "the disk is full; free space there"),
    ("could not extend file", SickMachine, "the disk is full; free space there"),
    ("file is not a database", InvalidConfig, "the file is no SQLite database; give another one"),
    ("unable to open database file", InvalidConfig, "the file can't be opened; correct the path or its permissions"),
    ("readonly database", InvalidConfig, "the file can't be written; correct its permissions"),
    ("authentication failed", AccessDenied, f"the user or password is refused; correct {VARIABLE}"),
    ("permission denied", AccessDenied, "the user may not write there; grant it, or give another database"),
    ("does not exist", InvalidConfig, f"what {VARIABLE} names is not there; make it, or give another one"),
)


@contextlib.contextmanager
def writing(environment: Mapping[str, str]) -> Iterator[Any]:
    """A transaction on the database, whose tables are made first where they are missing; a SQLAlchemy ``Connection``.

    Each time it is connected anew: between two epochs lie hours, in which networks drop what is idle.

    Raises:
        VisionloopError: If the database is down, refuses, is full, or holds something else.
    """
    url = database_url(environment)
    with _errors(url):
        engine = _engine(url)
        try:
            prepare(engine, place(url))
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()


def _engine(url: str) -> Any:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    if not is_sqlite(url):
        return create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": PATIENCE_SECONDS})
    sqlite_file(url).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": PATIENCE_SECONDS})

    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html, "Enabling Non-Legacy SQLite Transactional Modes": tables are made in a
    # transaction too, and of several processes each waits for its turn.
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turns SQLAlchemy's exceptions into ours; a VisionloopError passes unchanged."""
    try:
        yield
    except VisionloopError:
        raise
    except OSError as error:
        raise InvalidConfig(
            f"{place(url)}: the database's folder can't be made ({error.strerror or error})."
        ) from error
    except Exception as error:
        raise _mapped(error, url) from error


def _mapped(error: Exception, url: str) -> VisionloopError:
    said = str(getattr(error, "orig", None) or error)
    for cause, kind, sentence in _CAUSES:
        if cause in said.lower():
            return kind(f"{place(url)}: {sentence}.")
    return Transient(
        f"{place(url)}: the database does not take it ({shortened(texts.sentence(said) or type(error).__name__, LONGEST_TEXT)}); "
        "see that it runs and is reached."
    )
