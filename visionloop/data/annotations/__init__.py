"""The canonical annotations of a dataset, and what is read from them by column. Pure functions, no stores."""

from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.content import annotations_hash, dataset_hash, digests
from visionloop.data.annotations.findings import Finding, Severity
from visionloop.data.annotations.tables import (
    BOX,
    HUNDREDTHS,
    IMAGES,
    LIMIT,
    OBJECTS,
    WRONG_VISIBILITY,
    Annotations,
    column,
    hundredths,
    images_table,
    objects_table,
    offsets,
)

__all__ = [
    "BOX",
    "HUNDREDTHS",
    "IMAGES",
    "LIMIT",
    "OBJECTS",
    "WRONG_VISIBILITY",
    "Annotations",
    "Class",
    "Finding",
    "Severity",
    "annotations_hash",
    "column",
    "dataset_hash",
    "digests",
    "hundredths",
    "images_table",
    "objects_table",
    "offsets",
]
