"""Compares a dataset with the snapshot that the champion was trained on: new images, drift, age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.retraining.policy import Comparison
from visionloop.core import receipts
from visionloop.core.errors import InvalidReceipt, NotFound
from visionloop.core.storage import Prefix
from visionloop.data.annotations.drift import class_counts, shares, total_variation
from visionloop.data.annotations.tables import Annotations, column
from visionloop.registry import Version


def compare(
    champion: Version | None, model: str, snapshot_id: str, annotations: Annotations, now: datetime, workspace: Prefix
) -> Comparison | str:
    """Compares a dataset with the snapshot that the champion was trained on, or says why there is none to compare with.

    Args:
        champion: The model's champion.
        model: The registered model's name.
        snapshot_id: The id of the dataset's snapshot.
        annotations: Its annotations.
        now: The time, in UTC.
        workspace: The workspace that is open now.
    """
    if champion is None:
        return f"{model} has no champion"
    if champion.training_receipt is None:
        return f"the champion {champion.label} names no snapshot to compare with"
    try:
        theirs, trained_at = _trained_on(champion, workspace)
    except (NotFound, InvalidReceipt):
        return f"the snapshot of the champion {champion.label} can't be read any more"
    return Comparison(
        snapshot=theirs.id,
        unchanged=theirs.id == snapshot_id,
        new_images=len(labelled(annotations) - labelled(theirs.annotations)),
        drift=total_variation(shares(class_counts(theirs.annotations)), shares(class_counts(annotations))),
        champion_age=(now - trained_at) / timedelta(days=1),
    )


def _trained_on(champion: Version, workspace: Prefix) -> tuple[Snapshot, datetime]:
    """The snapshot of a champion's training, and when it was finished. Raises NotFound or InvalidReceipt."""
    # Its checkpoints may be gone by now: only the receipt is needed.
    result = receipts.nearest(
        champion.training_receipt or "", "train", workspace, champion.training_digest, outputs=False
    )
    finished = datetime.fromtimestamp(result.prefix.head(receipts.FILE).modified, UTC)
    return Snapshot(result.input("snapshot", "snapshot")), finished


def labelled(annotations: Annotations) -> set[str]:
    """The file names of the images with annotations."""
    rows = np.unique(column(annotations.objects, "image"))
    return set(annotations.images["file_name"].take(pa.array(rows)).to_pylist())
