"""``visionloop run evaluate`` on a machine: any version or checkpoint on any snapshot, with record, receipts and reuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from laptop import Ended, Laptop, Trained, sets

pytestmark = pytest.mark.slow


def measured(laptop: Laptop, model: str, *arguments: str, settings: tuple[str, ...] = ()) -> Ended:
    words = ["--model", model, "--workspace", laptop.workspace.uri]
    return laptop.run("run", "evaluate", *words, *arguments, *sets(settings))


def test_a_registered_version_is_measured_and_nothing_is_registered(toy_trained: Trained) -> None:
    laptop, trained = toy_trained.laptop, toy_trained.summary
    versions = laptop.versions()
    name = str(trained["model_name"])
    first = measured(laptop, f"{name}/{trained['version']}", "--dataset", toy_trained.dataset.uri).expect()
    summary = first.summary
    assert (summary["verdict"], summary["version"]) == ("none", None)
    assert summary["measured"] == {"model": f"{name}/{trained['version']}", "split": "test"}
    assert summary["metrics"] == trained["metrics"]
    assert list(summary["stages"]) == ["snapshot", "validate", "convert", "evaluate", "cleanup"]
    reused = {stage: entry["reused"] for stage, entry in summary["stages"].items()}
    assert (reused["snapshot"], reused["validate"], reused["convert"], reused["evaluate"]) == (True, True, True, False)
    assert Path(summary["reports"]["evaluate"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert laptop.versions() == versions
    record = laptop.record(str(summary["run"]))
    assert {state.stage: state.state for state in record.stages()}["evaluate"] == "succeeded"

    snapshot = laptop.result("snapshot", summary["stages"]["snapshot"]["key"])
    again = measured(
        laptop,
        f"{name}/{trained['version']}",
        *("--snapshot", str(snapshot.receipt.scalars["snapshot_id"]), "--output", "text"),
    ).expect()
    assert "✓ evaluate  reused" in again.stderr
    assert f"Model    {name}/{trained['version']}, measured" in again.stdout
    assert "on the test split" in again.stdout
    assert "nothing is decided or registered" in again.stdout

    other = measured(
        laptop, f"{name}/{trained['version']}", "--dataset", toy_trained.dataset.uri, "--split-name", "val"
    )
    assert other.expect().summary["measured"]["split"] == "val"


def test_mistakes_end_before_anything_starts(toy_trained: Trained, tmp_path: Path) -> None:
    laptop, name = toy_trained.laptop, str(toy_trained.summary["model_name"])
    data = ("--dataset", toy_trained.dataset.uri)
    runs = [key for key in laptop.listing() if key.startswith("runs/")]
    assert "no such model is registered" in measured(laptop, "nobody@champion", *data).refused(78)
    assert "no such version" in measured(laptop, f"{name}/99", *data).refused(78)
    assert "gone.pt" in measured(laptop, str(tmp_path / "gone.pt"), *data, settings=("trainer=toy",)).refused(78)
    task = measured(laptop, f"{name}/1", *data, "--task", "classification").refused(78)
    assert "is for detection, but the dataset's task is classification" in task
    assert "give one of train, val, test" in measured(laptop, f"{name}/1", *data, "--split-name", "all").refused(78)
    assert "Give either --dataset" in measured(laptop, f"{name}/1").refused(78)
    assert "leave out --runner" in measured(laptop, f"{name}/1", *data, "--runner", "docker").refused(78)
    assert [key for key in laptop.listing() if key.startswith("runs/")] == runs


def test_a_checkpoint_of_the_real_trainer_says_what_it_was_trained_with(trained: Trained) -> None:
    laptop, stages = trained.laptop, trained.summary["stages"]
    checkpoint = laptop.result("train", stages["train"]["key"]).output_uri("best")
    options = ("--dataset", trained.dataset.uri)
    measured_anew = measured(laptop, checkpoint, *options, settings=("trainer=ultralytics", "batch=8")).expect()
    assert measured_anew.summary["metrics"] == trained.summary["metrics"]
    assert measured_anew.summary["measured"]["model"] == checkpoint
    for trainer in ("timm", "torchvision"):
        assert measured(laptop, checkpoint, *options, settings=(f"trainer={trainer}",)).code in (65, 78)
