"""Evaluate with ``--model``: a registered version or a checkpoint is measured on any snapshot, and nothing is decided."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from toy_detector import Prepared, ToyTrainer, install, prepare, published, run, write_dataset

from visionloop.components.evaluate import STAGE
from visionloop.components.evaluate.result import read
from visionloop.core.errors import InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.policy import POLICIES
from visionloop.core.stage import Outcome
from visionloop.data.view import read_labels
from visionloop.registry import Registry
from visionloop.training.trainers import Evaluation, Setting

pytestmark = pytest.mark.usefixtures("registry")


class WholeToy(ToyTrainer):
    """With what a configuration asks of a trainer, for a checkpoint that no training describes."""

    policy = replace(POLICIES["train"], gpus=0)
    #: The class numbers of each image's labels, as the last evaluation found them, in its files and in the archive.
    labels: ClassVar[list[list[str]]] = []

    def evaluate(self, checkpoint: Path, dataset: Path, split: str, *rest: Any) -> Evaluation:
        texts = [path.read_text() for path in sorted((dataset / "labels" / split).iterdir())]
        assert [text.decode() for _, text in read_labels(dataset, split)] == texts
        self.labels[:] = [[line.split()[0] for line in text.splitlines()] for text in texts]
        return super().evaluate(checkpoint, dataset, split, *rest)

    def settings(self, task: str) -> Mapping[str, Setting]:
        return {}

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        return values

    def model_task(self, model: str) -> str | None:
        return None

    def weights_names(self, model: str) -> tuple[str, ...]:
        return ()

    def is_architecture(self, model: str) -> bool:
        return False

    def train(self, job: Any, listener: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def toy() -> Iterator[WholeToy]:
    with pytest.MonkeyPatch.context() as patch:
        whole = WholeToy()
        install(patch, whole)
        yield whole


def measure(prepared: Prepared, model: str, **options: Any) -> Outcome:
    arguments = {"snapshot": prepared.snapshot, "converted": prepared.converted, "model": model, **options}
    return run(STAGE, arguments, prepared.workspace)


@pytest.fixture
def champion(prepared: Prepared, name: str) -> str:
    """A champion with offset 2."""
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    return f"{name}@champion"


def test_a_model_is_measured_in_tiles_as_it_predicts(prepared: Prepared, name: str) -> None:
    prepared.register(prepared.evaluate(prepared.train(0), name), name)
    whole, tiled = (published(measure(prepared, f"{name}@champion", **more)) for more in ({}, {"tile": "64"}))
    assert "tile" not in whole.receipt.parameters
    assert tiled.receipt.parameters["tile"].value == 64
    # Each rectangle is whole in one of the tiles, or in the picture: what borders cut counts for nothing.
    assert tiled.receipt.metrics["mAP50-95"] == pytest.approx(1.0, abs=0.01)
    result = read(tiled)
    assert result.images == read(whole).images
    outcome = measure(prepared, f"{name}@champion", tile="64")
    assert (outcome.reused, outcome.scalars["tile"]) == (True, 64)
    with pytest.raises(InvalidConfig, match="--tile 8: give the side of a tile"):
        measure(prepared, f"{name}@champion", tile="8")
    with pytest.raises(InvalidConfig, match="--tile is for --model"):
        prepared.evaluate(prepared.train(0), name, tile="64")


def test_a_version_is_measured_as_in_its_evaluation(prepared: Prepared, champion: str, name: str) -> None:
    before = read(published(prepared.evaluate(prepared.train(2), name)))
    outcome = measure(prepared, champion)
    result = read(published(outcome))
    assert (result.verdict, result.champion, result.shared) == ("none", "none", None)
    assert result.reason.startswith("The model was measured; nothing is decided or registered")
    assert (result.metrics, result.per_class, result.training) == (before.metrics, before.per_class, before.training)
    assert result.interval == before.interval
    summary = outcome.summary()
    assert (summary["model"], summary["split"], summary["verdict"]) == (f"{name}/1", "test", "none")
    page = published(outcome).read("report").decode()
    assert f"{name}/1" in page
    assert "Champion" not in page


def test_the_key_is_that_of_the_training_and_not_of_the_name(
    prepared: Prepared, champion: str, name: str, toy: ToyTrainer
) -> None:
    first = measure(prepared, champion)
    other = f"{name}-too"
    prepared.register(prepared.evaluate(prepared.train(2), other), other)
    measured = len(toy.evaluated)
    for model in (f"{name}/1", f"models:/{name}/1", f"{other}/1"):
        again = measure(prepared, model)
        assert (again.reused, published(again).receipt.key) == (True, published(first).receipt.key)
        assert again.summary()["model"].endswith("/1")
    assert len(toy.evaluated) == measured
    prepared.register(prepared.evaluate(prepared.train(1), name), name)
    assert published(measure(prepared, champion)).receipt.key != published(first).receipt.key


def test_today_s_data_and_another_split(prepared: Prepared, champion: str, tmp_path: Path) -> None:
    today = prepare(write_dataset(tmp_path / "today", images=40), prepared.workspace)
    whole = read(published(measure(today, champion)))
    assert (whole.images, whole.split) == (10, "test")
    train = read(published(measure(today, champion, split_name="train", slices="metadata.source")))
    assert (train.images, train.split) == (20, "train")
    with pytest.raises(InvalidConfig, match=r"^--split-name all: give one of train, val, test"):
        measure(today, champion, split_name="all")


def test_the_classes_of_both_are_measured_by_their_names(
    prepared: Prepared, champion: str, tmp_path: Path, toy: WholeToy
) -> None:
    own = read(published(measure(prepared, champion)))
    # The dataset numbers the shared class 1, the model 0.
    today = prepare(write_dataset(tmp_path / "today", classes=("lid", "dim")), prepared.workspace)
    outcome = measure(today, champion)
    result = read(published(outcome))
    assert (result.shared, result.classes) == (["dim"], ["dim", "bright"])
    assert "on the 1 class that it shares with the dataset (the dataset alone has lid; the model alone has bright)" in (
        result.reason
    )
    assert result.images == 2
    assert own.shared is None
    # What the toy finds as bright is the dataset's dim: by number it would be right.
    assert toy.labels == [["0"], ["0"]]
    assert result.slices["size:small"]["objects"] == 2
    swapped = prepare(write_dataset(tmp_path / "swapped", classes=("bright", "dim")), prepared.workspace)
    assert read(published(measure(swapped, champion))).shared is None
    assert [sorted(each) for each in toy.labels] == [["0", "1"], ["0", "1"]]
    assert toy.labels[0][0] == "1"


def test_a_dataset_of_other_classes_alone_is_refused(prepared: Prepared, champion: str, tmp_path: Path) -> None:
    others = prepare(write_dataset(tmp_path / "others", classes=("lid", "cap")), prepared.workspace)
    with pytest.raises(InvalidDataset, match=r"none of its classes \(cap, lid\) is one of .*/1 \(bright, dim\)"):
        measure(others, champion)


def test_a_checkpoint_is_measured_by_its_trainer(prepared: Prepared, champion: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    file.write_text(json.dumps({"classes": ["dim", "bright"], "offset": 2}))
    outcome = measure(prepared, str(file), settings='{"trainer": "toy", "imgsz": 96}')
    result = read(published(outcome))
    assert result.metrics == read(published(measure(prepared, champion))).metrics
    assert result.training.startswith("sha256:")
    moved = tmp_path / "elsewhere.pt"
    file.rename(moved)
    assert measure(prepared, str(moved), settings='{"trainer": "toy", "imgsz": 96}').reused
    moved.write_text(json.dumps({"classes": ["lid"], "offset": 2}))
    with pytest.raises(InvalidDataset, match=r"none of its classes"):
        measure(prepared, str(moved), settings='{"trainer": "toy"}')


def test_a_checkpoint_of_another_task_is_refused(
    prepared: Prepared, toy: ToyTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.pt"
    file.write_text(json.dumps({"classes": ["dim", "bright"], "offset": 2}))
    predictor = toy.predictor

    def segmenter(checkpoint: Path) -> Any:
        loaded = predictor(checkpoint)
        loaded.task = "segmentation"  # type: ignore[attr-defined]
        return loaded

    monkeypatch.setattr(toy, "predictor", segmenter)
    with pytest.raises(InvalidConfig, match=r"is for segmentation, but the dataset's task is detection"):
        measure(prepared, str(file), settings='{"trainer": "toy"}')


def test_mistakes_are_told_by_their_argument(prepared: Prepared, champion: str, name: str, tmp_path: Path) -> None:
    for model, sentence in (
        (f"{name}/9", "no such version"),
        (f"{name}@staging", "no such alias"),
        ("nobody@champion", "no such model is registered"),
        (name, "give NAME/VERSION or NAME@ALIAS"),
        (str(tmp_path / "gone.pt"), "gone.pt"),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            measure(prepared, model, **({"settings": '{"trainer": "toy"}'} if model.endswith(".pt") else {}))
    with pytest.raises(InvalidConfig, match="--set epochs: a checkpoint's measurement takes trainer, imgsz"):
        measure(prepared, str(tmp_path / "gone.pt"), settings='{"trainer": "toy", "epochs": 3}')
    with pytest.raises(InvalidConfig, match="--set imgsz: a registered model is measured as in its training"):
        measure(prepared, champion, settings='{"imgsz": 64}')
    with pytest.raises(InvalidConfig, match="leave out --training, --model-name, --gate and --costs"):
        measure(prepared, champion, gate='{"floor": 0.5}')
    with pytest.raises(InvalidConfig, match="needs --converted"):
        run(STAGE, {"snapshot": prepared.snapshot, "model": champion}, prepared.workspace)
    with pytest.raises(InvalidConfig, match="needs --training and --model-name, or --model"):
        run(STAGE, {"snapshot": prepared.snapshot}, prepared.workspace)
    later = prepare(write_dataset(tmp_path / "later", images=12), prepared.workspace)
    with pytest.raises(InvalidReceipt, match="converted from another snapshot"):
        measure(prepared, champion, converted=later.converted)


def test_what_was_only_measured_is_not_registered(
    prepared: Prepared, champion: str, name: str, registry: Registry
) -> None:
    with pytest.raises(InvalidConfig, match="was only measured there"):
        prepared.register(measure(prepared, champion), name)
    assert [version.number for version in registry.of_name(name)] == [1]
