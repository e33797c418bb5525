"""What evaluate is asked for is compared with the dataset by snapshot and by plan, hours before evaluate would say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_detector import published, run, write_dataset

from visionloop.components.snapshot import STAGE
from visionloop.core.errors import VisionloopError
from visionloop.core.stage import Outcome
from visionloop.pipelines.plan import plan_train

SETTINGS = {"model": "yolo11n.yaml"}

#: A field that the images have and one that none has.
SLICES = "metadata.source,metadata.wheather,attributes.occluded"

CONDITIONS = {"min_images": 3, "min_objects": 3}
TOLD = (
    "--slices: nothing in the split test has metadata.wheather, so it is not sliced by it.",
    "--slices: nothing in the split test has attributes.occluded, so it is not sliced by it.",
    "--gate: min_images is 3, and the split test has 2: no model can get further than the verdict keep.",
    "--gate: min_objects is 3, and the split test has 2 of bright, 2 of dim: no model can get further than the verdict keep.",
)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of 8 images 2 are test; one in train alone is by day."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    path = write_dataset(tmp_path / "dataset") / "annotations_detection.json"
    document = json.loads(path.read_text())
    for image in document["images"]:
        image["metadata"] = {"source": "night"} | ({"wheather": "rain"} if image["split"] == "train" else {})
    path.write_text(json.dumps(document))
    return str(path.parent)


def taken(dataset: str, tmp_path: Path, **asked: Any) -> Outcome:
    arguments = {"dataset": dataset, "settings": json.dumps(SETTINGS), **asked}
    return run(STAGE, arguments, (tmp_path / "workspace").as_uri())


def listed(tmp_path: Path, **line: Any) -> str:
    (tmp_path / "list.jsonl").write_text(json.dumps(line))
    return json.dumps({"must_pass": (tmp_path / "list.jsonl").as_uri()})


def test_a_field_that_nothing_has_and_a_condition_that_no_model_can_meet_are_told(
    dataset: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = {"slices": SLICES, "gate": json.dumps(CONDITIONS)}
    first = taken(dataset, tmp_path, **asked)
    said = capfd.readouterr().err
    assert [text for text in TOLD if text not in said] == []
    assert "metadata.source" not in said
    # Found again by another run, and by its id, it says so too.
    again = taken(dataset, tmp_path, **asked)
    assert again.reused
    said = capfd.readouterr().err
    assert [text for text in TOLD if text not in said] == []
    wanted = str(published(first).receipt.scalars["snapshot_id"])
    taken("", tmp_path, snapshot=wanted, **asked)
    said = capfd.readouterr().err
    assert [text for text in TOLD if text not in said] == []


def test_what_holds_is_not_told_and_no_key_changes(
    dataset: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = published(run(STAGE, {"dataset": dataset}, (tmp_path / "workspace").as_uri()))
    gate = json.dumps({"min_images": 2, "min_objects": 2})
    asked = taken(dataset, tmp_path, slices="metadata.source", gate=gate, costs='{"dim": {"miss": 2}}')
    assert published(asked).receipt.key == plain.receipt.key
    assert "--gate: " not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said", "code"),
    [
        ({"costs": '{"cup": {"miss": 2}}'}, '--costs: "cup" is not a class here; the classes are bright, dim', 78),
        ({"line": {"file_name": "0.png", "class": "dim"}}, "the split test does not hold the image 0.png", 65),
        ({"line": {"file_name": "3.png", "class": "cup"}}, '"cup" is not a class here', 78),
    ],
)
def test_what_evaluate_would_refuse_is_refused_before_the_training(
    asked: dict[str, Any], said: str, code: int, dataset: str, tmp_path: Path
) -> None:
    asked = {"gate": listed(tmp_path, **asked["line"])} if "line" in asked else asked
    with pytest.raises(VisionloopError) as refused:
        taken(dataset, tmp_path, **asked)
    assert said in refused.value.sentence
    assert refused.value.exit_code == code
    with pytest.raises(VisionloopError) as planned:
        planned_run(dataset, tmp_path, **asked)
    assert planned.value.sentence == refused.value.sentence


def planned_run(dataset: str, tmp_path: Path, **asked: Any) -> None:
    """``visionloop plan train``."""
    workspace, settings = (tmp_path / "planned").as_uri(), [f"{name}={value}" for name, value in SETTINGS.items()]
    plan_train({"workspace": workspace, "model_name": "told", "dataset": dataset, "settings": settings, **asked})


def test_a_plan_tells_it_too(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("visionloop.pipelines.plan.notice", told.append)
    planned_run(dataset, tmp_path, slices=SLICES, gate=json.dumps(CONDITIONS))
    assert [text for text in TOLD if text not in told] == []
