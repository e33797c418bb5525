"""Retraining on this machine, through the command line: the first run trains, the second says why it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import laptop as machine
import pytest
from laptop import TOY, Dataset, Ended, Laptop

#: The longest test makes three runs, one of which trains.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


@pytest.fixture(scope="module")
def laptop(make_laptop: Callable[..., Laptop]) -> Laptop:
    return make_laptop()


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("policy") / "retraining.yaml"
    file.write_text("min_new_images: 3\nmax_runs_per_week: 2\n")
    return file


def retrain(laptop: Laptop, dataset: Dataset, policy: object, *arguments: str) -> Ended:
    words = ["--dataset", dataset.uri, "--workspace", laptop.workspace.uri, "--model-name", "Tiny Digits"]
    return laptop.run("run", "retrain", *words, "--retraining", str(policy), *arguments, *machine.sets(TOY))


@pytest.fixture(scope="module")
def first(laptop: Laptop, dataset: Dataset, policy: Path) -> Ended:
    return retrain(laptop, dataset, policy, "--run", "monday").expect()


@pytest.fixture(scope="module")
def second(first: Ended, laptop: Laptop, dataset: Dataset, policy: Path) -> Ended:
    return retrain(laptop, dataset, policy, "--run", "tuesday").expect()


def test_the_first_run_trains_and_registers(first: Ended, laptop: Laptop) -> None:
    summary = first.summary
    assert (summary["version"], summary["alias"], summary["verdict"]) == (1, "champion", "promote")
    assert list(summary["stages"]) == [*STAGES, "cleanup"]
    scalars = laptop.record("monday").state("snapshot").scalars
    assert (scalars["go"], scalars["reason"]) == ("true", "retraining: tiny-digits has no champion")


def test_the_second_says_why_it_does_not_and_runs_no_later_stage(second: Ended, laptop: Laptop) -> None:
    summary = second.summary
    assert list(summary["stages"]) == ["snapshot", "cleanup"]
    assert summary["stages"]["snapshot"]["reused"] is True
    assert (summary["version"], summary["alias"], summary["verdict"], summary["metrics"]) == (None, None, None, {})
    record = laptop.record("tuesday")
    assert {state.stage for state in record.stages()} == {"snapshot", "cleanup"}
    state = record.state("snapshot")
    assert state.scalars["go"] == "false"
    assert state.scalars["reason"] == f"skipped: the dataset is still the champion's {state.scalars['snapshot_id']}"
    assert state.notices[-1] == state.scalars["reason"]
    assert state.scalars["reason"] in second.stderr


@pytest.mark.matrix
def test_a_few_new_images_are_not_enough_and_more_are_until_the_week_is_used_up(
    second: Ended, laptop: Laptop, dataset: Dataset, policy: Path
) -> None:
    """Where it is only about the decision, the stage that makes it is run alone: what follows it is seen above."""

    def decide(run: str) -> tuple[str, str]:
        arguments = ["--dataset", dataset.uri, "--model-name", "Tiny Digits", "--retraining", str(policy), "--run", run]
        summary = laptop.stage("snapshot", *arguments).expect().summary
        return summary["go"], summary["reason"]

    dataset.put(machine.sample_objects(train=18))
    assert decide("wednesday") == ("false", "skipped: 2 new images, 3 needed")
    dataset.put(machine.sample_objects(train=20))
    enough = retrain(laptop, dataset, policy, "--run", "thursday").expect()
    assert list(enough.summary["stages"]) == [*STAGES, "cleanup"]
    assert enough.summary["version"] == 2
    assert laptop.record("thursday").state("snapshot").scalars["reason"] == "retraining: 4 new images, 3 needed"
    # What the champion was trained on is what validate compares with, and validate has no keys of the registry.
    validated = laptop.receipt("validate", str(laptop.record("thursday").state("validate").key))
    trained_on = laptop.record("monday").state("snapshot").scalars["snapshot_id"]
    assert validated.parameters["baseline"].value == {"snapshot": trained_on}
    dataset.put(machine.sample_objects(train=30))
    assert decide("friday") == ("false", "skipped: 2 runs in 7 days, 2 allowed")


def test_a_wrong_policy_is_refused_before_anything_starts(laptop: Laptop, dataset: Dataset) -> None:
    before = laptop.listing()
    sentence = retrain(laptop, dataset, json.dumps({"new_images": 3}), "--run", "wrong").refused(78)
    assert "new_images" in sentence
    assert "min_new_images" in sentence
    assert laptop.listing() == before
