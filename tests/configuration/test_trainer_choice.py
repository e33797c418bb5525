"""Where no trainer is named, it is the first in a fixed order whose library is installed and that has the task."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from visionloop.core.errors import InvalidConfig
from visionloop.training.catalog import first_installed, in_order, is_installed, missing, trainer
from visionloop.training.chosen import trainer_line
from visionloop.training.configuration import named_trainer, resolve
from visionloop.training.conformance import promises
from visionloop.training.trainers import Trainer

INSTALLED, ABSENT = "msgspec", "no-such-distribution"


@pytest.fixture
def make(toy: Trainer) -> Any:
    """Trainers by name, from their tasks and distributions."""

    def made(**wanted: tuple[str, str]) -> dict[str, Trainer]:
        return {
            name: type(
                "Made",
                (type(toy),),
                {"name": name, "tasks": frozenset(tasks.split()), "distribution": distribution},
            )()
            for name, (tasks, distribution) in wanted.items()
        }

    return made


def test_the_order_is_fixed_and_others_follow_by_name() -> None:
    names = ["zebra", "timm", "ultralytics", "antelope", "transformers", "torchvision"]
    assert in_order(names) == ["ultralytics", "torchvision", "timm", "transformers", "antelope", "zebra"]


def test_a_trainer_without_a_distribution_is_installed(toy: Trainer) -> None:
    assert is_installed(toy)


def test_the_first_that_is_installed_and_has_the_task_is_taken(make: Any) -> None:
    trainers = make(
        antelope=("detection", INSTALLED),
        timm=("classification", INSTALLED),
        torchvision=("detection pose", INSTALLED),
        ultralytics=("detection pose classification", ABSENT),
    )
    assert first_installed(trainers, "detection") == "torchvision"
    assert first_installed(trainers, "classification") == "timm"
    assert resolve({}, trainers, {}, "detection").values["trainer"] == "torchvision"
    assert resolve({"trainer": "antelope"}, trainers, {}, "detection").trainer == "antelope"
    # Named, it counts whether it is installed here or not.
    assert resolve({"trainer": "Ultralytics"}, trainers, {}, "detection").trainer == "ultralytics"
    assert resolve({}, trainers, {"FRAMEWORK": "ultralytics"}, "detection").trainer == "ultralytics"
    # Nobody has the task: the first that is installed says so.
    assert first_installed(trainers, "segmentation") == "torchvision"


def test_a_trainer_of_which_a_requirement_is_missing_is_not_installed(make: Any) -> None:
    trainers = make(torchvision=("detection", INSTALLED), timm=("detection", INSTALLED))
    trainers["torchvision"].requirements = lambda: [version(ABSENT)]
    assert (missing(trainers["torchvision"]), missing(trainers["timm"])) == (ABSENT, None)
    assert first_installed(trainers, "detection") == "timm"


def test_with_none_installed_the_commands_are_told(make: Any) -> None:
    trainers = make(ultralytics=("detection", ABSENT), timm=("classification", INSTALLED))
    with pytest.raises(InvalidConfig) as raised:
        first_installed(trainers, "detection")
    assert raised.value.sentence == (
        f"task detection: no trainer for it is installed here; install one with pip install '{ABSENT}'."
    )
    with pytest.raises(InvalidConfig, match="no trainer for it is installed"):
        trainer_line(trainers, {}, "detection", None, {})


def test_a_trainer_is_found_by_its_name_in_any_case() -> None:
    assert trainer("Timm") is trainer("timm")
    assert next(promises("Timm")).trainer == "timm"
    with pytest.raises(InvalidConfig, match="There is no trainer 'Nobody'"):
        trainer("Nobody")


def test_a_name_is_told_with_its_source() -> None:
    assert named_trainer({}, {}) is None
    assert named_trainer({"trainer": "timm"}, {"FRAMEWORK": "toy"}) == ("timm", "--set")
    assert named_trainer({}, {"FRAMEWORK": "toy"}) == ("toy", "FRAMEWORK")
    assert named_trainer({}, {"CONFIG": '{"framework": "toy"}'}) == ("toy", "CONFIG")


def test_one_line_says_which_is_taken_and_why(make: Any) -> None:
    trainers = make(
        ultralytics=("detection pose classification", ABSENT),
        timm=("classification", INSTALLED),
        torchvision=("detection pose", INSTALLED),
    )
    first = "the first of ultralytics, torchvision, timm that is installed and has the task"
    assert trainer_line(trainers, {"trainer": "timm"}, None, None, {}) == "trainer timm: named by --set"
    assert trainer_line(trainers, {}, None, "ultralytics", {}) == (
        "trainer ultralytics: the run's form names it where --set does not"
    )
    assert trainer_line(trainers, {}, "pose", None, {}) == f"trainer torchvision: {first} pose"
    assert trainer_line(trainers, {}, None, None, {}) == (
        f"trainer by the dataset's task, timm for classification; torchvision for detection, pose: {first}"
    )
    assert trainer_line(make(toy=("pose", INSTALLED)), {}, None, None, {}) == (
        "trainer toy: the first of toy that is installed and has the task"
    )
