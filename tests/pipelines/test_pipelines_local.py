"""The train pipeline's graph through kfp.local, with toy stages: what runs, what is reused, what a failure does."""

from __future__ import annotations

import json

from conftest import ToyRuns

ALL = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def test_the_graph_runs_each_stage_once_and_reuses_all_the_second_time(toy_runs: ToyRuns) -> None:
    status, output, computed = toy_runs.run("first", epochs=3, advanced_config={"mosaic": 0})
    assert status == 0, output
    assert computed == ALL
    told = json.loads(next((toy_runs.workspace / "train").glob("*/*/told.json")).read_text())
    assert sorted(told["set"]) == ['advanced_config={"mosaic": 0}', "epochs=3"]
    status, output, computed = toy_runs.run("second", epochs=3, advanced_config={"mosaic": 0})
    assert status == 0, output
    assert computed == []
    for stage in ("train", "evaluate", "register"):
        state = toy_runs.state("second", stage)
        assert state is not None
        assert (state.state, state.reused) == ("succeeded", True)
        assert toy_runs.receipt("first", stage) == toy_runs.receipt("second", stage)
