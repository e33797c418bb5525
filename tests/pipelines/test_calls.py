"""The table of calls: it names every stage, and both compiled forms and plan call the stages as it says."""

from __future__ import annotations

from dataclasses import fields

import pytest
from test_pipelines_parity import EDGES

from visionloop.components.calls import CALLS, EXPENSIVE, PREDICTED, SETTINGS, STAGES
from visionloop.components.convert.ahead import LOOKED_FOR, LOOKS_AHEAD
from visionloop.core import catalog
from visionloop.core.policy import POLICIES
from visionloop.pipelines.definitions import PREDICT, RETRAIN


def test_it_names_every_stage_that_the_package_brings() -> None:
    own = {name for name, stage in catalog.stages().items() if type(stage).__module__.startswith("visionloop.")}
    assert own == set(STAGES) == set(POLICIES)
    assert {name for name in own if hasattr(catalog.stage(name), "resolve")} == {*CALLS, *PREDICTED}


@pytest.mark.parametrize("stage", [*CALLS, *PREDICTED])
def test_a_call_gives_arguments_that_the_stage_has_and_all_that_it_needs(stage: str) -> None:
    call = {**CALLS, **PREDICTED}[stage]
    existing = {entry.name: entry for entry in fields(catalog.stage(stage).arguments)}
    parameters = {name: f"the {name}" for name in (*RETRAIN.parameters, *PREDICT.parameters, SETTINGS)}
    values = call.arguments(parameters, {name: f"{name}'s receipt" for name in CALLS})
    assert set(values) <= set(existing)
    assert all(values[name] == f"{before}'s receipt" for name, before in call.receipts.items())
    assert all(values[name] == f"the {name}" for name in call.parameters)
    catalog.stage(stage).arguments(**values)


@pytest.mark.parametrize("stage", CALLS)
def test_a_call_reads_only_what_comes_before_it(stage: str) -> None:
    before = list(CALLS)[: list(CALLS).index(stage)]
    call = CALLS[stage]
    assert set(call.receipts.values()) <= set(before)
    if call.unless is not None:
        assert call.unless.stage in before
        assert call.unless.scalar in CALLS[call.unless.stage].outputs


def test_the_look_ahead_is_told_all_that_decides_an_expensive_stages_result() -> None:
    for_people = {"run_name", "description"}
    assert {name for stage in EXPENSIVE for name in CALLS[stage].parameters} - for_people == set(LOOKED_FOR)


def test_the_compiled_graphs_have_the_edges_of_the_table() -> None:
    """The other edges come from what convert finds ahead: it decides whether the expensive stages and register start."""
    called = {(before, stage) for stage, call in CALLS.items() for before in call.receipts.values()}
    called |= {(call.unless.stage, stage) for stage, call in CALLS.items() if call.unless is not None}
    assert called | {(LOOKS_AHEAD, stage) for stage in (*EXPENSIVE, "export", "register")} == EDGES


def test_fields_that_a_stage_calls_by_another_name_reach_it() -> None:
    form = {"validate_mode": "full", "on_error": "quarantine", "storage": "s3://models", "approve": "manual"}
    assert CALLS["validate"].arguments(form, {"snapshot": "s"}) == {
        "snapshot": "s",
        "mode": "full",
        "on_error": "quarantine",
    }
    assert CALLS["register"].arguments(form, {"evaluate": "e", "export": ""}) == {
        "evaluation": "e",
        "exports": "",
        "storage": "s3://models",
        "approve": "manual",
    }
