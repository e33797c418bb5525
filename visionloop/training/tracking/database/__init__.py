"""A database of one's own: runs, settings and metrics in tables of SQLite or PostgreSQL (docs/tracking.md, "Database")."""

from visionloop.training.tracking.database.tracker import TRACKER

__all__ = ["TRACKER"]
