"""Each task from its dataset to a registered model that is loaded and predicts, with each trainer, stage by stage in this process."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_datasets import dataset

from visionloop.components.evaluate.coco import FIGURES
from visionloop.components.evaluate.kinds import KINDS
from visionloop.components.evaluate.result import read
from visionloop.core import catalog
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Outcome
from visionloop.data.annotations.masks import runs
from visionloop.training.configuration.settings import PRIMARY_METRICS

#: By trainer and task a small architecture. `test_loop` trains the first.
ARCHITECTURES = {
    ("ultralytics", "detection"): "yolo11n.yaml",
    ("ultralytics", "segmentation"): "yolo11n-seg.yaml",
    ("ultralytics", "pose"): "yolo11n-pose.yaml",
    ("ultralytics", "classification"): "yolo11n-cls.yaml",
    ("timm", "classification"): "test_resnet.yaml",
    ("torchvision", "detection"): "fcos_tiny.yaml",
    ("torchvision", "segmentation"): "maskrcnn_tiny.yaml",
    ("torchvision", "pose"): "keypointrcnn_tiny.yaml",
    ("transformers", "detection"): "rtdetr_tiny.yaml",
}

#: Side of the input, where 32 pixels are too few for the model.
SIDES = {"transformers": 64}

#: What `make ci` runs, the first one `make test` too; the others are the matrix's.
SHORT = [
    ("ultralytics", "segmentation"),
    ("ultralytics", "pose"),
    ("ultralytics", "classification"),
    ("timm", "classification"),
]


def _marks(cell: tuple[str, str]) -> list[pytest.MarkDecorator]:
    """Of the short ones `make test` runs the first alone."""
    if cell not in SHORT:
        return [pytest.mark.matrix]
    return [] if cell == SHORT[0] else [pytest.mark.slow]


CELLS = [
    pytest.param(*cell, id="-".join(cell), marks=_marks(cell))
    for cell in ARCHITECTURES
    if cell != ("ultralytics", "detection")
]

#: What each answer of a registered model holds besides its class and confidence.
ANSWERS = {
    "detection": {"box"},
    "segmentation": {"box", "polygons", "holes", "mask"},
    "pose": {"box", "keypoints"},
    "classification": set[str](),
}


class Loop:
    """The stages of a run on one dataset, as a target runs them."""

    def __init__(self, workspace: Path, trainer: str, task: str, folder: Path) -> None:
        self.workspace, self.trainer, self.task, self.folder = workspace, trainer, task, folder

    def stage(self, name: str, run: str, **arguments: Any) -> Outcome:
        """Runs one stage."""
        return run_stage(catalog.stage(name), arguments, Invocation(str(self.workspace), run=run))

    def run(self, run: str, gate: str = '{"floor": 0}') -> dict[str, Outcome]:
        """Runs all of them."""
        name = f"small {self.trainer} {self.task}"
        model = ARCHITECTURES[self.trainer, self.task]
        settings = [
            f"trainer={self.trainer}",
            f"model={model}",
            f"imgsz={SIDES.get(self.trainer, 32)}",
            "epochs=1",
            "batch=2",
        ]
        done: dict[str, Outcome] = {}

        def uri(stage: str) -> str:
            result = done[stage].result
            assert result is not None
            return result.uri

        done["snapshot"] = self.stage("snapshot", run, dataset=str(self.folder))
        done["validate"] = self.stage("validate", run, snapshot=uri("snapshot"))
        done["convert"] = self.stage("convert", run, snapshot=uri("snapshot"), report=uri("validate"))
        inputs = {"converted": uri("convert"), "snapshot": uri("snapshot")}
        done["train"] = self.stage("train", run, set=settings, model_name=name, **inputs)
        evaluated = {"training": uri("train"), "snapshot": uri("snapshot")}
        done["evaluate"] = self.stage("evaluate", run, model_name=name, gate=gate, **evaluated)
        done["register"] = self.stage("register", run, evaluation=uri("evaluate"), model_name=name)
        return done


#: Each trainer and task on a dataset of other classes; `make ci` runs one.
OTHERS = [
    pytest.param(*cell, id="-".join(cell), marks=pytest.mark.slow if cell[0] == "timm" else pytest.mark.matrix)
    for cell in ARCHITECTURES
]


def grown(folder: Path, task: str) -> Path:
    """The dataset with one class more, which comes before the other one, on one picture of train."""
    dataset(folder, task, None, dataset_id="2")
    file = folder / f"annotations_{task}.json"
    document = json.loads(file.read_text())
    document["classes"] = [{"id": number, "name": name} for number, name in enumerate(("other", "thing"))]
    for entry in document["classes"] if task == "pose" else ():
        entry["keypoints"] = ["nose", "tail"]
    for number, image in enumerate(document["images"]):
        image["annotations"][0]["class_id"] = int(number > 0)
    file.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(("trainer", "task"), CELLS)
def test_a_task_is_trained_registered_loaded_and_reused(
    trainer: str, task: str, tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    keypoints = {"keypoints": ["nose", "tail"]} if task == "pose" else {}
    folder = dataset(tmp_path / "dataset", task, None, classes=[{"id": 0, "name": "thing", **keypoints}])
    loop = Loop(tmp_path / "work", trainer, task, folder)
    first = loop.run("first")
    assert first["register"].summary()["alias"] == "champion"
    assert first["evaluate"].result is not None
    measured = read(first["evaluate"].result)
    assert measured.gate["primary_metric"] == PRIMARY_METRICS[task]
    assert PRIMARY_METRICS[task] in measured.metrics
    objects = task != "classification"
    assert (set(measured.coco), set(measured.errors)) == ((set(FIGURES), set(KINDS)) if objects else (set(), set()))
    assert "of the split test" in first["evaluate"].result.read("report").decode()

    second = loop.run("second")
    assert {name: outcome.reused for name, outcome in second.items()} == dict.fromkeys(first, True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own, of its imports
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{mlflow_database}")
        model = mlflow.pyfunc.load_model(f"models:/small-{trainer}-{task}@champion")
    params: dict[str, Any] = {} if task == "classification" else {"confidence": 0.0}
    if task == "segmentation":
        params["masks"] = True
    (answers,) = model.predict(Image.new("RGB", (40, 24), "red"), params=params or None)
    assert answers
    for answer in answers:
        assert answer["class"] == "thing"
        assert answer.keys() - {"class", "class_index", "confidence"} <= ANSWERS[task]
        for x, y, seen in answer.get("keypoints", {}).values():
            assert 0 <= x <= 40
            assert 0 <= y <= 24
            assert 0 <= seen <= 1
    if task == "pose":
        assert set(answers[0]["keypoints"]) == {"nose", "tail"}
    if task == "segmentation":
        outlined = [answer for answer in answers if "mask" in answer]
        assert outlined
        for answer in outlined:
            assert answer["mask"]["size"] == [24, 40]
            assert bool(answer.get("polygons")) == bool(runs(answer["mask"]["counts"])[1::2].sum())


@pytest.mark.parametrize(("trainer", "task"), OTHERS)
def test_a_version_is_measured_on_and_compared_with_a_dataset_of_other_classes(
    trainer: str, task: str, tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    keypoints = {"keypoints": ["nose", "tail"]} if task == "pose" else {}
    classes = [{"id": 0, "name": "thing", **keypoints}]
    first = Loop(tmp_path / "work", trainer, task, dataset(tmp_path / "dataset", task, None, classes=classes))
    champion = first.run("first")
    assert champion["register"].summary()["alias"] == "champion"

    later = Loop(tmp_path / "work", trainer, task, grown(tmp_path / "grown", task))
    done = later.run("later", gate='{"floor": 0, "incomparable": "shared"}')
    assert done["evaluate"].result is not None
    decided = read(done["evaluate"].result)
    assert decided.classes == ["other", "thing"]
    assert decided.shared == ["thing"]
    assert decided.champion_metrics is not None
    assert decided.verdict in {"promote", "keep"}
    assert "on the 1 class that both have" in decided.reason

    assert champion["evaluate"].result is not None
    alone = read(champion["evaluate"].result)
    for run, loop, outcomes in (("own", first, champion), ("others", later, done)):
        inputs = {}
        for stage, argument in (("snapshot", "snapshot"), ("convert", "converted")):
            result = outcomes[stage].result
            assert result is not None
            inputs[argument] = result.uri
        version = f"small-{trainer}-{task}/1"
        measured = loop.stage("evaluate", run, model=version, split_name="test", **inputs)
        assert measured.result is not None
        found = read(measured.result)
        assert (found.verdict, found.classes) == ("none", ["thing"])
        assert found.metrics == alone.metrics
        assert ("that it shares with the dataset" in found.reason) == (run == "others")
