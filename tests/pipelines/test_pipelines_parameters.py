"""The form: what a person gives arrives as given, and what the form holds by itself decides nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from visionloop.components.kubeflow import given_settings
from visionloop.core.errors import InvalidConfig
from visionloop.core.runs import RUN_VARIABLE
from visionloop.pipelines.parameters import SETTINGS, TRAIN, arguments_for
from visionloop.training import catalog, configuration
from visionloop.training.configuration import merge_settings, parse_settings
from visionloop.training.configuration.settings import BASIC

VALUES = {
    "model": st.sampled_from(["yolo11n", "yolo11n.yaml", "models:/cats@champion"]),
    "imgsz": st.sampled_from([32, 640, 8192]),
    "epochs": st.integers(1, 300),
    "batch": st.sampled_from([1, 16, 65_536]),
    "lr0": st.sampled_from([0.01, 1e-9, 0.002, 10.0]),
    "optimizer": st.sampled_from(["SGD", "AdamW"]),
    "augment": st.booleans(),
    "primary_metric": st.sampled_from(["mAP50-95", "mAP50"]),
    "primary_metric_mode": st.just("max"),
    "mosaic": st.sampled_from([0.0, 0.5, 1.0]),
    "patience": st.sampled_from([0, 7]),
    "seed": st.integers(0, 9),
}


def form(arguments: dict[str, Any]) -> dict[str, Any]:
    """What an engine's form hands to a component: every field, the given ones in the engine's types."""
    values = {name: parameter.default for name, parameter in TRAIN.items() if name in (*SETTINGS, "advanced_config")}
    return values | {name: value for name, value in arguments.items() if name in values}


def resolved(settings: dict[str, Any], environment: dict[str, str]) -> configuration.Resolved:
    """What train resolves, of settings that came as JSON."""
    settings_of_form = merge_settings([], json.dumps(settings))
    return configuration.resolve(settings_of_form, catalog.trainers(), environment, "detection")


@configure(deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES), st.booleans())
def test_explicit_settings_reach_the_stage_whatever_the_variables_say(explicit: dict[str, Any], as_text: bool) -> None:
    environment = {"EPOCHS": "7", "CONFIG": '{"imgsz": 96, "advanced_config": {"patience": 25}}', "CONFIG_BATCH": "3"}
    fields = {name: _text(value) if as_text else value for name, value in explicit.items()}
    pairs = [f"{name}={_text(value)}" for name, value in explicit.items()]
    try:
        wanted = resolved({**parse_settings(pairs)}, environment)
    except InvalidConfig:
        with pytest.raises(InvalidConfig):
            resolved(given_settings(form(arguments_for(fields))), environment)
        return
    result = resolved(given_settings(form(arguments_for(fields))), environment)
    assert result.values == wanted.values
    for name in explicit:
        assert result.sources[name].startswith("argument")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_an_untouched_form_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_VARIABLE, "local")
    assert given_settings(form({})) == {}
    assert resolved({}, {"EPOCHS": "7", "FRAMEWORK": "ultralytics"}).values["epochs"] == 7


def test_on_a_cluster_the_form_decides_the_trainer_because_it_has_decided_the_image() -> None:
    assert given_settings(form({})) == {"trainer": "ultralytics"}


def test_engines_types_make_no_difference() -> None:
    """KFP's forms turn 100 into 100.0, and its objects hold floats only."""
    whole = resolved(given_settings(form({"advanced_config": {"patience": 7.0, "mosaic": 0.0}})), {})
    assert (whole.values["patience"], whole.values["mosaic"]) == (7, 0.0)
    assert given_settings({"advanced_config": {}}) == given_settings({"advanced_config": ""}) == {}


def test_a_setting_in_a_parameter_and_in_the_object_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="epochs"):
        resolved(given_settings(form({"epochs": 5, "advanced_config": {"epochs": 6}})), {})


def test_an_empty_field_is_not_given() -> None:
    assert given_settings({"optimizer": "", "model": "", "epochs": 100}) == {}


def test_what_has_no_such_form_is_left_to_the_stage() -> None:
    """A text that is not a number can't stand in a number's field; the stage's own sentence says what is wrong."""
    arguments = arguments_for({"epochs": "many", "augment": "perhaps"})
    assert arguments == {"advanced_config": {"epochs": "many", "augment": "perhaps"}}
    with pytest.raises(InvalidConfig, match="epochs"):
        resolved(given_settings(form(arguments)), {})


def test_the_table_holds_the_seeds_defaults() -> None:
    wanted = {
        "trainer": "ultralytics",
        "model": "yolo11n",
        "imgsz": 640,
        "epochs": 100,
        "batch": 16,
        "lr0": 0.01,
        "optimizer": "SGD",
        "augment": True,
        "primary_metric": "mAP50-95",
        "primary_metric_mode": "max",
    }
    assert {name: TRAIN[name].default for name in SETTINGS} == wanted
    assert [name for name in SETTINGS if not isinstance(TRAIN[name].default, BASIC[name].kind)] == []
    assert [name for name, parameter in TRAIN.items() if parameter.default is None] == ["workspace", "model_name"]


def test_the_form_of_the_snapshot_component_is_the_pipelines() -> None:
    """It repeats the settings in its signature, as KFP wants them, and hands them on as one parameter."""
    from visionloop.components.snapshot.component import snapshot

    inputs = snapshot.component_spec.inputs
    for name in (*SETTINGS, "advanced_config"):
        assert inputs[name].default == TRAIN[name].default, name


def test_only_the_snapshot_component_repeats_the_form() -> None:
    from visionloop.components.convert.component import convert
    from visionloop.components.train.component import train

    for component in (convert, train):
        assert component.component_spec.inputs["settings"].default == {}
        assert not {*SETTINGS, "advanced_config"} & set(component.component_spec.inputs)


@pytest.mark.parametrize(
    ("trainer", "arguments"),
    [
        ("Timm", {"trainer": "timm"}),
        (" TORCHVISION ", {"trainer": "torchvision"}),
        ("Ultralytics", {"advanced_config": {"trainer": "ultralytics"}}),
        ("Elsewhere", {"trainer": "Elsewhere"}),
    ],
)
def test_a_trainer_is_handed_on_as_it_spells_itself(trainer: str, arguments: dict[str, object]) -> None:
    assert arguments_for({"trainer": trainer}) == arguments
