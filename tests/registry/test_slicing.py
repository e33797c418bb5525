"""An evaluation sliced by what the dataset says of its images and objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components.evaluate.result import EvaluationResult, read
from visionloop.components.evaluate.slicing import LONGEST, VALUES, named_by, parse_slices
from visionloop.core.errors import InvalidConfig

pytestmark = pytest.mark.usefixtures("mlflow_uri", "toy")

#: Of 48 images every fourth is test.
IMAGES = 48


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Test images are by night, but for two by day; the bright object of each night is occluded."""
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    path = write_dataset(tmp_path / "dataset", images=IMAGES) / "annotations_detection.json"
    document = json.loads(path.read_text())
    for image in document["images"]:
        day = image["id"] in (3, 7)
        image["metadata"] = {"source": "day" if day else "night", "number": image["id"], "rain": day}
        if not day:
            image["annotations"][1]["attributes"] = {"occluded": True}
    path.write_text(json.dumps(document))
    return prepare(tmp_path / "dataset", (tmp_path / "workspace").as_uri())


def evaluated(dataset: Prepared, name: str, slices: str | None = None, **options: Any) -> EvaluationResult:
    return read(published(dataset.evaluate(dataset.train(3), name, slices=slices, **options)))


def test_fields_are_slices_with_counts_and_none_has_a_number_from_too_few(dataset: Prepared, name: str) -> None:
    outcome = dataset.evaluate(dataset.train(3), name, slices="size, metadata.source,attributes.occluded")
    result = read(published(outcome))
    night = result.slices["metadata.source=night"]
    assert night == {"images": 10, "mAP50-95": pytest.approx(result.metrics["mAP50-95"], abs=0.05)}
    assert result.slices["metadata.source=day"] == {"images": 2}
    assert result.slices["attributes.occluded=true"] == {**night, "objects": 10}
    assert "size:small" in result.slices
    page = published(outcome).read("report").decode()
    assert "Images by field" in page
    assert "too few" in page


def test_a_slice_is_what_its_images_alone_give(dataset: Prepared, toy: ToyTrainer, name: str) -> None:
    weights: list[list[int]] = []

    def resampled(metric: str, holds: Any) -> float:
        weights.append(holds.tolist())
        return 0.25

    toy.resampled = resampled
    result = evaluated(dataset, name, "metadata.source")
    assert result.slices["metadata.source=night"]["mAP50-95"] == 0.25
    assert sorted(weights[-1]) == [0, 0, *[1] * 10]  # after the samples of the interval


def test_only_the_commonest_values_are_slices_and_the_others_are_told(
    dataset: Prepared, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("visionloop.components.evaluate.slicing.VALUES", 5)
    result = evaluated(dataset, name, "metadata.number")
    assert [slice_ for slice_ in result.slices if slice_.startswith("metadata")] == [
        f"metadata.number={number}" for number in (11, 15, 19, 23, 27)
    ]
    assert "metadata.number has 7 more values" in capfd.readouterr().err
    assert VALUES == 20


def test_long_values_that_begin_alike_are_slices_of_their_own() -> None:
    names = [named_by("x" * 200 + end) for end in ("a", "b")]
    assert len(set(names)) == 2
    assert max(map(len, names)) <= LONGEST


def test_a_field_that_nothing_has_is_told(dataset: Prepared, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = evaluated(dataset, name, "metadata.wheather")
    assert not any(slice_.startswith("metadata") for slice_ in result.slices)
    assert "nothing in the split test has metadata.wheather" in capfd.readouterr().err


def test_the_fields_and_their_values_are_in_the_key_and_no_field_changes_none(dataset: Prepared, name: str) -> None:
    training = dataset.train(3)
    plain = published(dataset.evaluate(training, name)).receipt
    assert "slices" not in plain.parameters
    assert published(dataset.evaluate(training, name, slices="size")).receipt.key == plain.key
    by_source, by_rain = (
        published(dataset.evaluate(training, name, slices=f"metadata.{field}")).receipt for field in ("source", "rain")
    )
    assert len({plain.key, by_source.key, by_rain.key}) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("source", r'^--slices "source": not a field; give size, metadata.KEY or attributes.KEY\.$'),
        ("metadata.", "not a field"),
        ("metadata", "not a field"),
        ("attributes.labeled_by", "who labelled an image"),
        ("size,\x1b[31m", "not a field"),
    ],
)
def test_what_is_no_field_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence) as refused:
        parse_slices(text)
    assert "\x1b" not in refused.value.sentence
