"""The operating point: chosen on val from the costs, stored in the model, taken by its ``predict``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_detector
from numpy.typing import NDArray
from toy_detector import Prepared, ToyPredictor, published

from visionloop.components.evaluate import operating
from visionloop.components.evaluate.costs import Cost, Costs, parse_costs
from visionloop.components.evaluate.operating import OperatingPoint, Tally, cheapest
from visionloop.components.evaluate.truth import Compared
from visionloop.core.errors import InvalidConfig
from visionloop.core.stage import Outcome
from visionloop.pipelines.models.decisions import rollback
from visionloop.pipelines.models.verification import verify
from visionloop.registry import Registry, package
from visionloop.registry.versions import PROMOTED, SUPERSEDED_BY
from visionloop.training.trainers import Prediction, PredictionSettings

pytestmark = pytest.mark.usefixtures("mlflow_uri", "toy")

_DEFAULTS = PredictionSettings()


class Unsure(ToyPredictor):
    """Finds the rectangles with confidence 0.6, and of each class a false one with 0.4 in every image."""

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        for found in super().predict(images):
            true = [Prediction(entry.class_index, 0.6, entry.box) for entry in found]
            false = [Prediction(index, 0.4, (0.0, 80.0, 5.0, 90.0)) for index in range(len(self.classes))]
            yield [entry for entry in (*true, *false) if entry.confidence >= settings.confidence]


@pytest.fixture
def unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_detector, "ToyPredictor", Unsure)


def point_of(outcome: Outcome) -> OperatingPoint:
    point = operating.read(published(outcome))
    assert point is not None
    return point


# The costs


def test_costs_are_of_all_classes_or_of_one() -> None:
    costs = parse_costs('{"miss": 5, "person": {"miss": 10}, "car": {"false_alarm": 0}}')
    assert costs.of("dog") == Cost(5, 1)
    assert costs.of("person") == Cost(10, 1)
    assert costs.of("car") == Cost(5, 0)
    assert parse_costs(costs.text()).content() == costs.content()
    assert parse_costs("{}") == Costs()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"miss": -1}', "--costs: miss is -1; give a number from 0."),
        ('{"miss": "many"}', '--costs: miss is "many"; give a number from 0.'),
        ('{"miss": true}', "miss is True"),
        ('{"miss": NaN}', "miss is nan"),
        ('{"false_alarm": 1e999}', "false_alarm is inf"),
        ('{"misses": 1}', '--costs: "misses" is neither miss nor false_alarm'),
        ('{"person": {"miss": -2}}', '--costs: "person": miss is -2'),
        ('{"person": {"misses": 2}}', '"misses" is neither'),
        ('{"miss": 0, "false_alarm": 0}', "both 0"),
        ('{"miss": 0, "person": {"false_alarm": 0}}', '"person": miss and false_alarm are both 0'),
        ('{"miss": 1, "miss": 2}', "written twice"),
        ("{", "neither JSON nor YAML"),
        ("[1]", "no text file can be read there"),
    ],
)
def test_wrong_costs_are_refused_with_the_field(text: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse_costs(text)
    assert said in refused.value.sentence


def test_a_class_that_the_dataset_does_not_have_is_refused(prepared: Prepared, name: str) -> None:
    with pytest.raises(InvalidConfig, match='--costs: "cup" is not a class here; the classes are bright, dim'):
        prepared.evaluate(prepared.train(0), name, costs='{"cup": {"miss": 2}}')


# What is chosen


def test_of_equal_costs_the_middle_of_the_widest_range_is_taken() -> None:
    assert cheapest(np.array([3, 1, 2, 1, 1, 1, 5])) == 4
    assert cheapest(np.array([1, 1])) == 0
    assert cheapest(np.array([0.1 + 0.2, 0.3, 0.9])) == 0  # equal but for rounding


def tally(right: list[float], wrong: list[float], objects: int) -> Tally:
    """A split of one class with detections of these confidences."""
    counted = Tally(["cup", "never"])
    box = (0.0, 0.0, 1.0, 1.0)
    predicted = [Prediction(0, confidence, box) for confidence in (*right, *wrong)]
    compared = Compared([], range(len(right)), range(len(right), len(predicted)))
    counted.add([Prediction(0, 1.0, box)] * objects, predicted, compared)
    return counted


def test_the_confidence_follows_the_costs() -> None:
    """Two objects are found with 0.3 and 0.8, and two things that are not there with 0.5."""
    counted = tally([0.3, 0.8], [0.5, 0.5], objects=2)
    misses, alarms = counted.point(Costs(Cost(5, 1))), counted.point(Costs(Cost(1, 5)))
    assert misses.confidence["cup"] == 0.15  # the middle of 0.01 to 0.3
    assert (misses.classes["cup"].missed, misses.classes["cup"].false_alarms) == (0, 2)
    assert alarms.confidence["cup"] == 0.65  # the middle of 0.51 to 0.8
    assert (alarms.classes["cup"].missed, alarms.classes["cup"].false_alarms) == (1, 0)
    assert counted.point(Costs(classes={"cup": Cost(5, 1)})).confidence == misses.confidence


def test_a_class_without_an_object_keeps_the_default_and_says_why() -> None:
    point = tally([0.9], [], objects=1).point(Costs())
    assert point.confidence["never"] == 0.25
    assert point.not_chosen == {"never": "the split val has no object of this class"}
    nothing = tally([], [0.9], objects=0).point(Costs())
    assert (nothing.source, set(nothing.confidence.values())) == ("default", {0.25})


def test_of_whole_images_one_class_is_missed_or_found() -> None:
    counted = Tally(["cat", "dog"])
    counted.add([Prediction(0, 1.0)], [Prediction(1, 0.7)], Compared([0], [], [0]))
    counted.add([Prediction(0, 1.0)], [Prediction(0, 0.9)], Compared([], [0], []))
    point = counted.point(Costs())
    assert point.classes["cat"].objects == 2
    assert point.classes["cat"].missed == 1
    assert "dog" in point.not_chosen


# The stage


def test_without_costs_each_class_has_the_default_and_the_key_is_as_before(
    prepared: Prepared, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating, "choose", lambda *_: pytest.fail("val is looked at"))
    outcome = prepared.evaluate(prepared.train(2), name)
    assert point_of(outcome) == OperatingPoint(source="default", confidence={"dim": 0.25, "bright": 0.25})
    assert "costs" not in published(outcome).receipt.parameters
    assert published(outcome).receipt.outputs["operating_point"].result


@pytest.mark.usefixtures("unsure")
def test_with_costs_it_is_chosen_on_val_and_they_are_in_the_key_by_content(
    prepared: Prepared, name: str, tmp_path: Path
) -> None:
    training = prepared.train(0)
    (tmp_path / "costs.yaml").write_text("miss: 1\nfalse_alarm: 3\n")
    outcome = prepared.evaluate(training, name, costs='{"false_alarm": 3}')
    point = point_of(outcome)
    # Of 8 images 2 are val; everything true has 0.6, and everything false 0.4.
    assert point.source == "val"
    assert point.images == 2
    assert point.confidence == {"dim": 0.5, "bright": 0.5}
    assert (
        published(prepared.evaluate(training, name, costs=str(tmp_path / "costs.yaml"))).uri == published(outcome).uri
    )
    assert published(prepared.evaluate(training, name, costs='{"miss": 2}')).uri != published(outcome).uri
    page = published(outcome).read("report").decode()
    assert "Operating point" in page
    assert "Cost by confidence" in page
    assert '<td class="number">0.50</td>' in page


# The registered model


def predicted(prepared: Prepared, name: str, **params: Any) -> list[str]:
    """The classes that the model of a name sees in the first image."""
    picture = next((Path(prepared.workspace.removeprefix("file://")).parent / "dataset" / "images").iterdir())
    import mlflow.pyfunc  # after the registration, which imports it without its warnings

    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    return [found["class"] for found in model.predict([str(picture)], params=params or None)[0]]


@pytest.mark.usefixtures("unsure")
def test_predict_takes_the_point_unless_a_confidence_is_given(prepared: Prepared, name: str) -> None:
    training = prepared.train(0)
    costs = '{"dim": {"miss": 0}, "bright": {"false_alarm": 0}}'
    evaluation = prepared.evaluate(training, name, costs=costs)
    assert point_of(evaluation).confidence == {"dim": 0.7, "bright": 0.3}
    outcome = prepared.register(evaluation, name)
    assert predicted(prepared, name) == ["bright", "bright"]
    assert sorted(predicted(prepared, name, confidence=0.5)) == ["bright", "dim"]
    described = package.read(str(outcome.summary()["storage_uri"]))
    assert described.operating_point == {"dim": 0.7, "bright": 0.3}
    card = published(outcome).read("card").decode()
    assert "| bright | 0.30 | 2 | 0 | 2 |" in card


@pytest.mark.usefixtures("unsure")
def test_another_point_is_another_version_and_both_stay_what_they_were(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    training = prepared.train(0)
    plain = prepared.evaluate(training, name)
    first = prepared.register(plain, name)
    assert "Confidence 0.25 for each class" in published(first).read("card").decode()
    assert len(predicted(prepared, name)) == 4
    costs = '{"false_alarm": 3}'
    strict = prepared.evaluate(training, name, costs=costs)
    assert (prepared.register(strict, name).summary()["version"], len(predicted(prepared, name))) == (2, 2)
    assert registry.aliases(name) == {"champion": 2}
    for version in (1, 2):
        assert verify(registry, f"{name}/{version}", "none").version == version
    # The same costs by another evaluation are the same version, whose files stay.
    gated = prepared.evaluate(training, name, costs=costs, gate='{"floor": 0.01}')
    for force in (False, True):
        assert prepared.register(gated, name, force=force).summary()["version"] == 2
        assert verify(registry, f"{name}/2", "none").version == 2
    # What is found again moves no alias; evaluated again with the old costs, the training's first version is taken.
    found = prepared.register(plain, name)
    assert (found.reused, found.summary()["version"], found.summary()["alias"]) == (True, 1, None)
    back = prepared.register(prepared.evaluate(training, name), name)
    assert (back.reused, back.summary()["version"], back.summary()["alias"]) == (False, 1, "champion")
    assert len(predicted(prepared, name)) == 4
    assert verify(registry, f"{name}/1", "none").notes[0].startswith("It was registered by ")


@pytest.mark.usefixtures("unsure")
def test_a_training_that_a_person_took_back_does_not_return_by_another_point(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(7), name), name)
    better = prepared.train(0)
    prepared.register(prepared.evaluate(better, name), name)
    assert registry.aliases(name) == {"champion": 2}
    rollback(registry, name, None, "Ann", "")
    again = prepared.register(prepared.evaluate(better, name, costs='{"false_alarm": 3}'), name)
    assert (again.summary()["version"], again.summary()["alias"]) == (3, "challenger")
    assert f"{name}/3 is the same training as {name}/2." in str(again.summary()["reason"])
    assert registry.aliases(name) == {"champion": 1, "challenger": 3}


@pytest.mark.usefixtures("unsure")
def test_an_alias_that_was_moved_by_a_killed_attempt_is_completed(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    training = prepared.train(0)
    prepared.register(prepared.evaluate(training, name), name)
    strict = prepared.evaluate(training, name, costs='{"false_alarm": 3}')
    prepared.register(strict, name)
    first, second = registry.version(name, 1), registry.version(name, 2)
    assert first is not None
    assert second is not None
    registry.untag(first, SUPERSEDED_BY)
    registry.untag(second, PROMOTED)
    prepared.register(strict, name, force=True)
    tags = [registry.version(name, number) for number in (1, 2)]
    assert [(SUPERSEDED_BY in version.tags, PROMOTED in version.tags) for version in tags if version] == [
        (True, True),
        (False, True),
    ]
