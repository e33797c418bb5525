"""A champion that has learned from today's test images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components.evaluate.result import read
from visionloop.components.evaluate.stage import LINEAGE
from visionloop.core import receipts
from visionloop.core.stage import Outcome
from visionloop.core.stores import local_path
from visionloop.registry import Registry

pytestmark = pytest.mark.usefixtures("mlflow_uri", "toy")


def earlier(folder: Path, workspace: str, splits: dict[str, str], renamed: dict[str, str] | None = None) -> Prepared:
    """A dataset of the same images with other splits, and other names for some."""
    path = write_dataset(folder) / "annotations_detection.json"
    document = json.loads(path.read_text())
    for image in document["images"]:
        image["split"] = splits.get(image["file_name"], image["split"])
        if new := (renamed or {}).get(image["file_name"]):
            (folder / "images" / image["file_name"]).rename(folder / "images" / new)
            image["file_name"] = new
    path.write_text(json.dumps(document))
    return prepare(folder, workspace)


@pytest.fixture
def before(prepared: Prepared, tmp_path: Path) -> Prepared:
    """In the dataset before, 3.png was train; today it and 7.png are test."""
    return earlier(tmp_path / "before", prepared.workspace, {"3.png": "train"})


def promoted(prepared: Prepared, name: str, offset: int = 3, **overrides: str) -> str:
    training = prepared.train(offset, **overrides)
    assert prepared.register(prepared.evaluate(training, name), name).summary()["alias"] == "champion"
    return training


def evaluated(prepared: Prepared, name: str, offset: int = 1, gate: str | None = None) -> Outcome:
    return prepared.evaluate(prepared.train(offset), name, gate=gate)


def test_images_that_the_champion_was_trained_on_are_not_compared(
    prepared: Prepared, before: Prepared, name: str, toy: ToyTrainer, capfd: pytest.CaptureFixture[str]
) -> None:
    promoted(before, name)
    outcome = evaluated(prepared, name)
    result = read(published(outcome))
    assert "trained on 1 of the 2 images of the split test: 3.png; they are left out" in capfd.readouterr().err
    assert (result.images, result.seen, result.verdict) == (2, 1, "promote")
    assert result.compared_metrics is not None
    assert result.champion_metrics is not None
    # 7.png alone: its boxes are those of every image, and the champion is further off.
    assert result.compared_metrics["mAP50-95"] > result.champion_metrics["mAP50-95"]
    assert "on the images that the champion was not trained on is better" in result.reason
    page = published(outcome).read("report").decode()
    assert "was trained on 1 of these images: its values and the differences are those of the other 1" in page
    card = published(prepared.register(outcome, name)).read("card").decode()
    assert "was trained on 1 of these images" in card


def test_too_many_seen_images_are_no_comparison(prepared: Prepared, before: Prepared, name: str) -> None:
    promoted(before, name)
    result = read(published(evaluated(prepared, name, gate='{"max_seen": 0.4, "min_images": 2, "min_objects": 2}')))
    assert result.verdict == "keep"
    assert "was trained on 1 of the 2 images of the split test, and the gate's max_seen is 0.4" in result.reason
    assert result.champion_metrics is None
    assert result.seen == 1


def test_conditions_count_the_images_of_the_comparison(prepared: Prepared, before: Prepared, name: str) -> None:
    promoted(before, name)
    result = read(published(evaluated(prepared, name, gate='{"min_images": 2}')))
    assert result.verdict == "keep"
    assert "1 image decides, fewer than 2" in result.reason


def test_equal_bytes_under_another_name_were_seen_too(prepared: Prepared, tmp_path: Path, name: str) -> None:
    other = earlier(tmp_path / "before", prepared.workspace, {"3.png": "train"}, {"3.png": "was.png"})
    promoted(other, name)
    assert read(published(evaluated(prepared, name))).seen == 1


def test_a_dataset_that_only_grew_has_no_seen_images(prepared: Prepared, name: str, toy: ToyTrainer) -> None:
    promoted(prepared, name)
    asked = len(toy.evaluated)
    result = read(published(evaluated(prepared, name)))
    assert result.seen == 0
    assert result.compared_metrics is None
    assert len(toy.evaluated) == asked + 2


def test_a_model_that_the_champion_went_on_from_counts(
    prepared: Prepared, before: Prepared, name: str, registry: Registry
) -> None:
    promoted(before, f"{name}-first", 9)  # no other test makes a checkpoint of this offset
    first = registry.champion(f"{name}-first")
    assert first is not None
    promoted(prepared, name, 3, model=f"sha256:{first.checkpoint_sha256}")
    result = read(published(evaluated(prepared, name)))
    assert result.seen == 1


def test_a_lineage_that_is_gone_is_told_and_the_comparison_stands(
    prepared: Prepared, before: Prepared, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    training = promoted(before, name)
    key = published(evaluated(prepared, name)).receipt.key
    snapshot = local_path(receipts.load(training, "train").receipt.inputs["snapshot"].receipt or "")
    assert snapshot is not None
    shutil.rmtree(snapshot.parent)
    outcome = evaluated(prepared, name)
    result = read(published(outcome))
    assert "is not known: " in capfd.readouterr().err
    assert (result.seen, result.verdict) == (0, "promote")
    assert published(outcome).receipt.key != key
    assert LINEAGE not in published(outcome).receipt.parameters
