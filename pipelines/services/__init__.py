"""The embedded services of a laptop: S3 (SeaweedFS) and MLflow on SQLite, under one folder.

``session`` is for runs, ``registry`` for those that need no S3, ``up``, ``down`` and ``status`` for people. Data, keys,
ports and logs lie in the home (``folder.find_folder``).
"""

from visionloop.pipelines.services.lifecycle import Services, ServiceStatus, Status, down, registry, session, status, up
from visionloop.pipelines.services.store import DATASETS_BUCKET, RESULTS_BUCKET

__all__ = [
    "DATASETS_BUCKET",
    "RESULTS_BUCKET",
    "ServiceStatus",
    "Services",
    "Status",
    "down",
    "registry",
    "session",
    "status",
    "up",
]
