"""A store that fails in a tenth of the calls: nothing is lost, nothing differs, and nobody is told of what a retry mended."""

from __future__ import annotations

import json

import pytest
from faulty_proxy import FAULTS, each_tenth, failing
from laptop import Laptop, Server, Trained

STAGES = ("snapshot", "validate", "convert", "train", "evaluate")


@pytest.mark.matrix
@pytest.mark.parametrize("how", FAULTS)
def test_a_store_that_fails_in_a_tenth_of_the_calls_costs_nothing_but_time(
    how: str, laptop: Laptop, toy_trained: Trained, s3: Server
) -> None:
    with failing(s3.endpoint, each_tenth(how)) as proxy:
        variables = {f"{role}_S3_ENDPOINT": proxy.url for role in ("EXTERNAL", "INTERNAL")}
        ended = laptop.run(*laptop.train_command(toy_trained.dataset.uri, "--run", "night"), variables=variables)
        ended.expect()
    methods = {call.method for call in proxy.failed}
    assert len(proxy.failed) == len(proxy.calls) // 10 > 20
    assert {"GET", "PUT"} <= methods
    for stage in STAGES:
        key = ended.summary["stages"][stage]["key"]
        assert key == toy_trained.key(stage), stage
        ours, undisturbed = (entry.receipt(stage, key) for entry in (laptop, toy_trained.laptop))
        assert ours.digest == undisturbed.digest, stage
        results = {name: output.sha256 for name, output in undisturbed.outputs.items() if output.result}
        assert {name: ours.outputs[name].sha256 for name in results} == results
        assert (ours.scalars, ours.metrics) == (undisturbed.scalars, undisturbed.metrics)
    assert (ended.summary["version"], ended.summary["alias"], laptop.versions()) == (
        1,
        "champion",
        [("tiny-digits", 1)],
    )
    assert not [key for key in laptop.listing() if "/checkpoints/" in key or key.endswith("reservation.json")]
    # A write whose answer was lost is no sign of a store that keeps no conditional writes.
    assert json.loads(laptop.workspace.read("workspace.json"))["conditional_create"] is True
