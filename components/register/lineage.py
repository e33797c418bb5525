"""The receipts that a registered model was made from."""

#: From register down to the snapshot: the name of the input, and the stage whose receipt it is.
LINKS = (
    ("evaluation", "evaluate"),
    ("training", "train"),
    ("converted", "convert"),
    ("report", "validate"),
    ("snapshot", "snapshot"),
)
