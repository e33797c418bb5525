"""The decision of a run against a real MLflow: the champion, its snapshot, and the runs of its workspace."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from toy_detector import CLASSES, Prepared, ToyTrainStage, prepare, run, write_dataset

from visionloop.components.snapshot import STAGE
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.retraining.champion import compare
from visionloop.components.snapshot.retraining.policy import Comparison
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig
from visionloop.core.runs import RunRecord
from visionloop.core.stage import Outcome
from visionloop.core.storage import open_prefix
from visionloop.registry import Registry

pytestmark = pytest.mark.usefixtures("mlflow_uri")

#: Takes a snapshot of a dataset under a policy.
Taken = Callable[..., Outcome]


@pytest.fixture(params=["file", "s3"])
def prepared(request: pytest.FixtureRequest, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """A workspace in a folder, and one on S3, with a dataset of 8 images in it."""
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    workspace = request.getfixturevalue(f"{request.param}_workspace")
    return prepare(write_dataset(tmp_path / "dataset"), workspace)


@pytest.fixture
def taken(prepared: Prepared, name: str, tmp_path: Path) -> Taken:
    def take(policy: str, images: int = 8, classes: tuple[str, ...] = CLASSES, **overrides: Any) -> Outcome:
        folder = write_dataset(tmp_path / "dataset", images=images, classes=classes)
        arguments = {"dataset": str(folder), "retraining": policy, "model_name": name} | overrides
        return run(STAGE, arguments, prepared.workspace)

    return take


def reported(outcome: Outcome) -> tuple[str, str]:
    return outcome.scalars["go"], outcome.scalars["reason"]


def test_without_a_champion_it_goes_on(taken: Taken, name: str) -> None:
    assert reported(taken('{"min_new_images": 50}')) == ("true", f"retraining: {name} has no champion")


def test_new_images_are_counted_from_the_champions_snapshot(prepared: Prepared, taken: Taken, name: str) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    snapshot_id = Snapshot(receipts.load(prepared.snapshot, "snapshot")).id
    unchanged = f"skipped: the dataset is still the champion's {snapshot_id}"
    assert reported(taken('{"min_new_images": 3}')) == ("false", unchanged)
    assert reported(taken("{}")) == ("false", unchanged)
    assert reported(taken('{"min_new_images": 3}', images=10)) == ("false", "skipped: 2 new images, 3 needed")
    assert reported(taken('{"min_new_images": 3}', images=12)) == ("true", "retraining: 4 new images, 3 needed")
    # Counted from the champion, not from the last snapshot that was taken.
    assert reported(taken('{"min_new_images": 3}', images=11)) == ("true", "retraining: 3 new images, 3 needed")


def test_the_decision_is_made_anew_beside_the_same_receipt(prepared: Prepared, taken: Taken, name: str) -> None:
    first = taken('{"min_new_images": 3}', images=10)
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    again = taken('{"min_new_images": 3}', images=10)
    assert again.reused
    assert again.result is not None
    assert first.result is not None
    assert again.result.uri == first.result.uri
    assert (first.scalars["go"], again.scalars["go"]) == ("true", "false")
    assert not {"go", "reason"} & set(again.result.receipt.scalars)
    assert not {"retraining", "model_name"} & set(again.result.receipt.parameters)
    assert again.summary()["reason"] == "skipped: 2 new images, 3 needed"


def test_a_challenger_changes_nothing_and_a_rollback_does(
    prepared: Prepared, taken: Taken, name: str, registry: Registry, tmp_path: Path
) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    grown = prepare(write_dataset(tmp_path / "dataset", images=12), prepared.workspace)
    grown.register(grown.evaluate(grown.train(6), name), name)
    policy = '{"min_new_images": 3}'
    assert reported(taken(policy, images=12)) == ("true", "retraining: 4 new images, 3 needed")
    version = registry.version(name, 2)
    assert version is not None
    registry.set_alias(version, "champion")
    assert reported(taken(policy, images=12))[0] == "false"


def test_drift_is_measured_between_the_champions_classes_and_these(prepared: Prepared, taken: Taken, name: str) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    wanted = ("false", "skipped: drift 0, more than 0.4 needed")
    assert reported(taken('{"drift_above": 0.4}', images=12)) == wanted
    renamed = reported(taken('{"drift_above": 0.4}', classes=("dim", "dark")))
    assert renamed == ("true", "retraining: drift 0.5, more than 0.4 needed")


def test_an_earlier_snapshot_that_is_used_again_is_compared_too(
    prepared: Prepared, taken: Taken, name: str, tmp_path: Path
) -> None:
    grown = taken("{}", images=12)
    snapshot_id = grown.scalars["snapshot_id"]
    prepared_again = prepare(write_dataset(tmp_path / "other", images=8), prepared.workspace)
    prepared_again.register(prepared_again.evaluate(prepared_again.train(2), name), name)
    pinned = {"retraining": '{"min_new_images": 3}', "model_name": name, "snapshot": snapshot_id}
    outcome = run(STAGE, pinned, prepared.workspace)
    assert reported(outcome) == ("true", "retraining: 4 new images, 3 needed")
    assert outcome.scalars["pinned"] is True


def test_the_champions_age_is_that_of_its_training(prepared: Prepared, name: str, registry: Registry) -> None:
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name), name)
    snapshot = Snapshot(receipts.load(prepared.snapshot, "snapshot"))
    workspace = open_prefix(prepared.workspace, "results")
    written = receipts.load(training, "train").prefix.head(receipts.FILE).modified
    for days in (0, 30.5):
        now = datetime.fromtimestamp(written, UTC) + timedelta(days=days)
        result = compare(registry.champion(name), name, "snap_another", snapshot.annotations, now, workspace)
        assert result == Comparison(snapshot.id, False, 0, 0.0, days)


def test_a_champion_of_somebody_elses_has_nothing_to_compare_with(
    prepared: Prepared, taken: Taken, name: str, mlflow_uri: str
) -> None:
    client = MlflowClient(mlflow_uri)
    client.create_registered_model(name)
    client.create_model_version(name, "file:///nowhere", await_creation_for=0)
    client.set_registered_model_alias(name, "champion", "1")
    wanted = f"retraining: the champion {name}/1 names no snapshot to compare with"
    assert reported(taken('{"min_new_images": 3}')) == ("true", wanted)


@pytest.mark.parametrize("stage", ["train", "snapshot"])
def test_a_champion_whose_receipts_are_gone_has_nothing_to_compare_with(
    stage: str, prepared: Prepared, taken: Taken, name: str
) -> None:
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name), name)
    grown = taken("{}", images=12)
    assert grown.scalars["go"] == "true"
    prefix = open_prefix(prepared.workspace, "results")
    gone = {"train": training, "snapshot": prepared.snapshot}[stage]
    prefix.delete([gone.removeprefix(f"{prefix.uri}/")])
    wanted = f"retraining: the snapshot of the champion {name}/1 can't be read any more"
    assert reported(taken('{"min_new_images": 30}', images=12)) == ("true", wanted)


def test_a_champion_whose_checkpoints_are_gone_is_compared_all_the_same(
    prepared: Prepared, taken: Taken, name: str
) -> None:
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name), name)
    result = receipts.load(training, "train")
    result.prefix.delete([result.output("best").path, result.output("last").path])
    assert reported(taken('{"min_new_images": 3}', images=12)) == ("true", "retraining: 4 new images, 3 needed")


def test_earlier_trainings_of_the_model_use_up_the_week(prepared: Prepared, taken: Taken, name: str) -> None:
    record = RunRecord(open_prefix(prepared.workspace, "results"), "yesterday")
    record.open({"model_name": name}, None)
    arguments = {"converted": prepared.converted, "snapshot": prepared.snapshot, "offset": 2}
    assert reported(taken('{"max_runs_per_week": 1}'))[0] == "true"
    run(ToyTrainStage(), arguments, prepared.workspace, run="yesterday")
    assert reported(taken('{"max_runs_per_week": 1}')) == ("false", "skipped: 1 run in 7 days, 1 allowed")
    assert reported(taken('{"max_runs_per_week": 2}'))[0] == "true"
    # A second run finds that training and takes nothing.
    RunRecord(record.workspace, "today").open({"model_name": name}, None)
    assert run(ToyTrainStage(), arguments, prepared.workspace, run="today").reused
    assert reported(taken('{"max_runs_per_week": 2}'))[0] == "true"
    assert reported(taken('{"max_runs_per_week": 1}', model_name=f"{name}-other"))[0] == "true"


def test_the_policy_needs_a_name_and_an_mlflow(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match=r"^--retraining needs --model-name: .*\.$"):
        taken("{}", model_name="")
    with pytest.raises(InvalidConfig, match=r"^--retraining: Object contains unknown field `new_images`.*\.$"):
        taken('{"new_images": 3}')
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InvalidConfig, match=r"^--retraining needs an MLflow: "):
        taken("{}")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert reported(taken("")) == ("true", "no retraining policy")
