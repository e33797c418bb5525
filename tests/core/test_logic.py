"""A change of a stage's logic forces a decision: do old results still count?"""

from __future__ import annotations

import functools
import json

import logic
import pytest

current = functools.cache(logic.current)


@pytest.mark.parametrize("stage", logic.stages())
def test_the_logic_of_a_stage_is_the_one_that_its_version_names(stage: str) -> None:
    recorded = json.loads(logic.RECORD.read_text())[stage]
    now = current()[stage]
    assert now == recorded, (
        f"the logic of {stage} changed: raise its logic_version if equal inputs can now give another result, then record the "
        "decision with `make golden`"
    )
