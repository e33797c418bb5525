"""The embedded services of a laptop: S3 (SeaweedFS) and MLflow on SQLite, under one folder.

``session`` is for runs, ``up``, ``down`` and ``status`` for people. Data, keys, ports and logs lie in ``.visionloop``, or
in the folder that ``VISIONLOOP_HOME`` names.
"""

from visionloop.pipelines.services.lifecycle import Services, ServiceStatus, Status, down, session, status, up
from visionloop.pipelines.services.store import DATASETS_BUCKET, RESULTS_BUCKET

__all__ = [
    "DATASETS_BUCKET",
    "RESULTS_BUCKET",
    "ServiceStatus",
    "Services",
    "Status",
    "down",
    "session",
    "status",
    "up",
]
