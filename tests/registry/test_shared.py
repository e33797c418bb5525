"""A champion of other classes, compared on the classes that both models have: ``incomparable: shared``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components.convert.converted import Converted
from visionloop.components.evaluate.measuring import OTHER_CLASS, adapted, restricted
from visionloop.components.evaluate.result import EvaluationResult, read
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.stage import Outcome
from visionloop.data.images import ImageCache

pytestmark = pytest.mark.usefixtures("mlflow_uri", "toy")

SHARED = '{"incomparable": "shared"}'


@pytest.fixture
def grown(prepared: Prepared, tmp_path: Path) -> Prepared:
    """Today's dataset, which calls bright things lids: of the champion's classes dim is left."""
    return prepare(write_dataset(tmp_path / "grown", classes=("dim", "lid"), images=16), prepared.workspace)


def promoted(prepared: Prepared, name: str, offset: int = 3) -> None:
    training = prepared.train(offset)
    assert prepared.register(prepared.evaluate(training, name), name).summary()["alias"] == "champion"


def evaluated(prepared: Prepared, name: str, offset: int, gate: str = SHARED, classes: str = "dim,lid") -> Outcome:
    return prepared.evaluate(prepared.train(offset, classes=classes), name, gate=gate)


def result_of(outcome: Outcome) -> EvaluationResult:
    return read(published(outcome))


def test_the_better_on_the_shared_classes_is_promoted_and_the_reason_says_so(
    prepared: Prepared, grown: Prepared, name: str
) -> None:
    promoted(prepared, name)
    outcome = evaluated(grown, name, 1, '{"incomparable": "shared", "max_seen": 1}')
    result = result_of(outcome)
    assert (result.verdict, result.shared) == ("promote", ["dim"])
    assert result.champion_metrics is not None
    assert result.compared_metrics is not None
    assert "on the 1 class that both have" in result.reason
    assert "is better than the champion's" in result.reason
    page = published(outcome).read("report").decode()
    assert "those of the 1 class that both have (dim), where the candidate" in page
    card = published(grown.register(outcome, name)).read("card").decode()
    assert "that both have" in card


def test_the_worse_is_kept(prepared: Prepared, grown: Prepared, name: str) -> None:
    promoted(prepared, name)
    result = result_of(evaluated(grown, name, 5))
    assert (result.verdict, result.shared) == ("keep", ["dim"])
    assert "on the 1 class that both have" in result.reason
    assert "is worse than the champion's" in result.reason


def test_only_labels_of_the_shared_classes_are_measured_by_each_model_s_numbers(
    prepared: Prepared, name: str, toy: ToyTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(prepared, name)
    seen: list[set[str]] = []
    measure = toy.evaluate

    def watched(checkpoint: Path, dataset: Path, split: str, *rest: Any) -> Any:
        texts = [path.read_text() for path in (dataset / "labels" / split).iterdir()]
        seen.append({line.split()[0] for text in texts for line in text.splitlines()})
        return measure(checkpoint, dataset, split, *rest)

    monkeypatch.setattr(toy, "evaluate", watched)
    # bright is 1 for the champion, and 0 here.
    today = prepare(write_dataset(tmp_path / "today", classes=("bright", "lid"), images=16), prepared.workspace)
    result = result_of(evaluated(today, name, 1, classes="bright,lid"))
    assert result.shared == ["bright"]
    assert seen == [{"0", "1"}, {"0"}, {"1"}]


def test_evidence_and_classes_are_judged_on_what_is_compared(prepared: Prepared, grown: Prepared, name: str) -> None:
    promoted(prepared, name)
    gate = '{"incomparable": "shared", "evidence": "better", "max_class_drop": 0.01, "min_objects": 1}'
    result = result_of(evaluated(grown, name, 1, gate))
    assert result.verdict == "promote"
    assert result.difference is not None
    assert result.difference[0] > 0
    worse = result_of(evaluated(grown, name, 5, gate))
    assert worse.verdict == "keep"
    assert "dim has" in worse.reason


def test_without_a_shared_class_a_person_decides(prepared: Prepared, name: str, tmp_path: Path) -> None:
    promoted(prepared, name)
    others = prepare(write_dataset(tmp_path / "others", classes=("lid", "cap")), prepared.workspace)
    result = result_of(evaluated(others, name, 1, classes="lid,cap"))
    assert (result.verdict, result.shared, result.champion_metrics) == ("keep", None, None)
    assert "has other classes than this model, and none of them in common; a person decides" in result.reason


def test_the_same_classes_are_compared_as_ever_and_keep_stays_keep(
    prepared: Prepared, grown: Prepared, name: str
) -> None:
    promoted(prepared, name)
    same = result_of(prepared.evaluate(prepared.train(1), name, gate=SHARED))
    assert (same.verdict, same.shared, same.compared_metrics) == ("promote", None, None)
    kept = result_of(evaluated(grown, name, 1, '{"incomparable": "keep"}'))
    assert (kept.verdict, kept.shared) == ("keep", None)
    assert "has other classes than this model; a person decides" in kept.reason


def test_a_classification_s_images_of_other_classes_are_not_compared(tmp_path: Path) -> None:
    from small_datasets import dataset

    images = dataset(tmp_path / "set", "classification", None)
    document = json.loads((images / "annotations_classification.json").read_text())
    document["classes"] = [{"id": number, "name": name} for number, name in enumerate(("ant", "bee", "cat"))]
    for number, image in enumerate(document["images"]):
        image["split"], image["annotations"] = ("train", "test", "test", "val")[number], [{"class_id": number % 3}]
    (images / "annotations_classification.json").write_text(json.dumps(document))
    made = prepare(images, (tmp_path / "work").as_uri())
    converted = Converted(receipts.load(made.converted, "convert"))
    snapshot = Snapshot(receipts.load(made.snapshot, "snapshot"))
    entries = [entry for entry in converted.index() if entry.split == "test"]
    assert [entry.path for entry in entries] == ["test/00001_bee/1.png", "test/00002_cat/2.png"]

    def view(name: str) -> Path:
        folder = tmp_path / name
        converted.view(snapshot, folder, ImageCache(tmp_path / "cache"), ("test",))
        return folder

    class Loaded:
        classes = ("dog", "cat", "ant", "cow")

    folder = view("measured")
    found = adapted(folder, "test", entries, converted, "mine", Loaded(), {"imgsz": 32})  # type: ignore[arg-type]
    assert (found.shared, found.left_out) == (["ant", "cat"], {"1.png": OTHER_CLASS})
    assert [entry.path for entry in found.entries] == ["test/00001_cat/2.png"]
    assert sorted(path.name for path in (folder / "test").iterdir()) == [
        "00000_dog",
        "00001_cat",
        "00002_ant",
        "00003_cow",
    ]
    assert (folder / found.entries[0].path).is_file()
    folder = view("compared")
    left, positions = restricted(folder, "test", entries, converted, ("cat", "bee"), ["cat"])
    assert ([entry.path for entry in left], positions) == (["test/00000_cat/2.png"], [None, None, 0])
