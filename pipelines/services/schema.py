"""Creates or migrates MLflow's SQLite file; run as a child process, so that its starter never imports mlflow.

Run as ``python -m visionloop.pipelines.services.schema FILE ARTIFACT_ROOT``.
"""

from __future__ import annotations

import sys

from visionloop.core.processes import end_quickly


def prepare(database: str, artifact_root: str) -> None:
    """Brings a database to the installed MLflow's schema, with a default experiment under ``artifact_root``."""
    from mlflow.db import upgrade
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{database}"
    upgrade.main([uri], standalone_mode=False)
    # Creates the default experiment, whose location can't be changed later.
    SqlAlchemyStore(uri, artifact_root)


if __name__ == "__main__":
    end_quickly()
    prepare(sys.argv[1], sys.argv[2])
