"""Events held against docs/events.schema.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from event_receiver import Posted

from visionloop.training.events.payloads import KINDS
from visionloop.training.events.predictions import PREDICTION

DOCS = Path(__file__).parents[1] / "docs"


@cache
def _validator(kind: str, file: str = "events.schema.json") -> Any:
    schema = json.loads((DOCS / file).read_text(encoding="utf-8"))
    schema.pop("oneOf")
    return jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{kind}"})


def check(posted: Posted) -> None:
    """Holds a whole event, or bare data, against its schema; it may have no field that the schema does not know."""
    data = KINDS[posted.kind]
    _validator(posted.kind if "specversion" in posted.body else data.__name__).validate(posted.body)
    assert set(posted.data) == set(data.__struct_fields__)


def check_prediction(posted: Posted) -> None:
    """Holds a whole event of a prediction against its schema."""
    _validator(posted.kind, "predictions.schema.json").validate(posted.body)
    assert set(posted.data) == set(PREDICTION.kinds[posted.kind].__struct_fields__)
