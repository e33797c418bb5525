"""The receipts that a registered model was made from."""

from __future__ import annotations

from visionloop.core.receipts import Result

#: From register down to the snapshot: the name of the input, and the stage whose receipt it is.
LINKS = (
    ("evaluation", "evaluate"),
    ("training", "train"),
    ("converted", "convert"),
    ("report", "validate"),
    ("snapshot", "snapshot"),
)


def chain(evaluation: Result) -> dict[str, Result]:
    """The receipts by stage, from that of evaluate down to the snapshot's. Raises InvalidReceipt."""
    found, result = {"evaluate": evaluation}, evaluation
    for name, stage in LINKS[1:]:
        result = found[stage] = result.input(name, stage, outputs=False)
    return found
