"""The tables, by version (docs/tracking.md, "The tables"), and how an older database comes to them.

A later version appends to MIGRATIONS and never changes what stands there. The statements are SQLite's and PostgreSQL's alike.
"""

from __future__ import annotations

import time
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import utc

#: The table with the version of the others.
SCHEMA = "visionloop_schema"

#: What makes of each version the next one; the first makes the tables of version 1.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE visionloop_runs (
            id TEXT PRIMARY KEY,
            run TEXT NOT NULL,
            experiment TEXT NOT NULL,
            name TEXT NOT NULL,
            description TEXT NOT NULL,
            dataset_hash TEXT NOT NULL,
            status TEXT NOT NULL,
            started_at TEXT NOT NULL,
            ended_at TEXT
        )""",
        """CREATE TABLE visionloop_params (
            run_id TEXT NOT NULL REFERENCES visionloop_runs (id),
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (run_id, name)
        )""",
        """CREATE TABLE visionloop_tags (
            run_id TEXT NOT NULL REFERENCES visionloop_runs (id),
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (run_id, name)
        )""",
        """CREATE TABLE visionloop_metrics (
            run_id TEXT NOT NULL REFERENCES visionloop_runs (id),
            epoch INTEGER NOT NULL,
            name TEXT NOT NULL,
            value DOUBLE PRECISION,
            logged_at TEXT NOT NULL,
            PRIMARY KEY (run_id, name, epoch)
        )""",
    ),
)

#: PostgreSQL's lock for those who prepare the tables at once; the number is this application's own.
_LOCK = 7_201_337_915

#: Names of tables in a sentence.
_NAMED = 3


def prepare(engine: Any, where: str) -> None:
    """Makes the tables, or brings older ones to this version; several processes may do so at once.

    Args:
        engine: SQLAlchemy's.
        where: The database, for people.

    Raises:
        InvalidConfig: If it holds tables of a newer version or of another application.
    """
    from sqlalchemy import text

    with engine.begin() as connection:
        if _version(connection, where) == len(MIGRATIONS):
            return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        version = _version(connection, where)
        if version == 0:
            connection.execute(text(f"CREATE TABLE {SCHEMA} (version INTEGER NOT NULL, updated_at TEXT NOT NULL)"))
            connection.execute(text(f"INSERT INTO {SCHEMA} VALUES (0, '')"))  # noqa: S608 - a constant
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(text(statement))
        connection.execute(
            text(f"UPDATE {SCHEMA} SET version = :version, updated_at = :now"),  # noqa: S608 - a constant
            {"version": len(MIGRATIONS), "now": utc(time.time())},
        )


def _version(connection: Any, where: str) -> int:
    """The version of a database's tables; 0 for an empty one. Raises InvalidConfig."""
    from sqlalchemy import inspect, text

    tables = sorted(inspect(connection).get_table_names())
    if SCHEMA not in tables:
        if tables:
            more = " …" if len(tables) > _NAMED else ""
            raise InvalidConfig(
                f"{where}: the database holds tables of another application ({', '.join(tables[:_NAMED])}{more}); give one of its own."
            )
        return 0
    version = int(connection.execute(text(f"SELECT max(version) FROM {SCHEMA}")).scalar() or 0)  # noqa: S608 - a constant
    if version > len(MIGRATIONS):
        raise InvalidConfig(
            f"{where}: the database has the tables of version {version} and this Visionloop those of version {len(MIGRATIONS)}; "
            "install the newer Visionloop, or give another database."
        )
    return version
