from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration import (
    BASIC,
    Resolved,
    check_model_task,
    describe,
    resolve,
    settings_of,
    split_strategy,
)
from visionloop.training.configuration.sources import OLD_VARIABLES, SINGLE_VARIABLES
from visionloop.training.trainers import Trainer

Trainers = Mapping[str, Trainer]


def run(trainers: Trainers, environment: Mapping[str, str] | None = None, /, **arguments: object) -> Resolved:
    return resolve(arguments, trainers, environment or {}, "detection")


def sentence(trainers: Trainers, environment: Mapping[str, str] | None = None, /, **arguments: object) -> str:
    with pytest.raises(InvalidConfig) as caught:
        run(trainers, environment, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_seeds(trainers: Trainers) -> None:
    resolved = run(trainers)
    expected = {
        "trainer": "ultralytics",
        "model": "yolo11n",
        "pretrained": True,
        "imgsz": 640,
        "epochs": 100,
        "batch": 16,
        "lr0": 0.01,
        "optimizer": "SGD",
        "augment": True,
        "seed": 0,
        "primary_metric": "mAP50-95",
        "primary_metric_mode": "max",
        "device": None,
    }
    assert {name: resolved.values[name] for name in expected} == expected
    assert set(resolved.sources.values()) == {"default"}
    assert resolved.sources.keys() == resolved.values.keys() == settings_of(trainers["ultralytics"], "detection").keys()
    assert resolved.trainer == "ultralytics"


def test_each_level_hides_the_next(trainers: Trainers, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"basic": {"epochs": 5, "seed": 5}, "advanced": {"mosaic": 0.5}}))
    levels: list[tuple[str, Any, dict[str, str], dict[str, object]]] = [
        ("CONFIG_PATH basic", 5, {"CONFIG_PATH": str(file)}, {}),
        ("CONFIG_EPOCHS", 4, {"CONFIG_EPOCHS": "4"}, {}),
        ("CONFIG", 3, {"CONFIG": '{"epochs": 3}'}, {}),
        ("EPOCHS", 2, {"EPOCHS": "2"}, {}),
        ("argument", 1, {}, {"epochs": 1}),
    ]
    environment: dict[str, str] = {}
    arguments: dict[str, object] = {}
    for source, value, variables, more in levels:
        environment |= variables
        arguments |= more
        resolved = run(trainers, environment, **arguments)
        assert (resolved.values["epochs"], resolved.sources["epochs"]) == (value, source)
        assert (resolved.values["seed"], resolved.sources["seed"]) == (5, "CONFIG_PATH basic")
        assert (resolved.values["mosaic"], resolved.sources["mosaic"]) == (0.5, "CONFIG_PATH advanced")


def test_each_level_s_advanced_object(trainers: Trainers) -> None:
    environment = {"ADVANCED_CONFIG": '{"mosaic": 0.1, "fliplr": 0.1, "iou": 0.1}'}
    assert run(trainers, environment).sources["iou"] == "ADVANCED_CONFIG"
    environment["CONFIG"] = '{"advanced_config": {"mosaic": 0.2, "fliplr": 0.2}}'
    resolved = run(trainers, environment, advanced_config={"mosaic": 0.3})
    assert [resolved.values[name] for name in ("mosaic", "fliplr", "iou")] == [0.3, 0.2, 0.1]
    assert [resolved.sources[name] for name in ("mosaic", "fliplr", "iou")] == [
        "argument advanced_config",
        "CONFIG.advanced_config",
        "ADVANCED_CONFIG",
    ]


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("EPOCHS", "7", "epochs", 7),
        ("BATCH_SIZE", "8", "batch", 8),
        ("LEARNING_RATE", "0.002", "lr0", 0.002),
        ("IMGSZ", "160", "imgsz", 160),
        ("DEVICE", "0", "device", "0"),
        ("DEVICE", "cpu", "device", "cpu"),
        ("DEVICE", "", "device", None),
        ("MODEL_NAME", "yolo11s", "model", "yolo11s"),
        ("FRAMEWORK", "Ultralytics", "trainer", "ultralytics"),
        ("CONFIG_IMGSZ", "320", "imgsz", 320),
        ("CONFIG_BATCH", "4", "batch", 4),
        ("CONFIG_LR0", "1e-3", "lr0", 0.001),
        ("CONFIG_OPTIMIZER", "adamw", "optimizer", "AdamW"),
        ("CONFIG_AUGMENT", "True", "augment", True),
        ("CONFIG_AUGMENT", "true", "augment", True),
        ("CONFIG_AUGMENT", "1", "augment", True),
        ("CONFIG_AUGMENT", "False", "augment", False),
        ("CONFIG_AUGMENT", "0", "augment", False),
    ],
)
def test_variables(trainers: Trainers, variable: str, text: str, name: str, value: object) -> None:
    resolved = run(trainers, {variable: text})
    assert resolved.values[name] == value
    assert type(resolved.values[name]) is type(value)
    assert resolved.sources[name] == variable


def test_a_seed_style_config(trainers: Trainers) -> None:
    config = {
        "batch_size": 8,
        "learning_rate": 0.02,
        "model_name": "yolo11s",
        "framework": "ultralytics",
        "primary_metric": None,
        "primary_metric_mode": "max",
        "advanced_config": {"mosaic": 1, "nms": 0.6},
        "augmentation": {"fliplr": 0},
        "early_stopping": {"enabled": True, "patience": 10},
        "custom_prompts": None,
        "split_strategy": {"train": 0.8, "val": 0.1, "test": 0.1},
        "name": "night run",
        "save_period": -1,
    }
    resolved = run(trainers, {"CONFIG": json.dumps(config)})
    expected = {"batch": 8, "lr0": 0.02, "model": "yolo11s", "mosaic": 1.0, "fliplr": 0.0, "patience": 10, "iou": 0.6}
    assert {name: resolved.values[name] for name in expected} == expected
    assert resolved.sources["primary_metric"] == "default"
    assert resolved.sources["fliplr"] == "CONFIG.augmentation"
    assert resolved.sources["patience"] == "CONFIG.early_stopping"
    assert resolved.sources["iou"] == "CONFIG.advanced_config, mapped from nms"
    assert "nms" not in resolved.values


def test_a_value_that_follows_from_another_says_so(trainers: Trainers) -> None:
    resolved = run(trainers, {"CONFIG_AUGMENT": "false"}, mosaic=0.25)
    assert (resolved.values["mosaic"], resolved.sources["mosaic"]) == (0.25, "argument")
    assert (resolved.values["fliplr"], resolved.sources["fliplr"]) == (0.0, "CONFIG_AUGMENT, mapped from augment")
    resolved = run(trainers, {"CONFIG": '{"advanced_config": {"nms": 0.6}}'}, augment=False)
    assert resolved.sources["iou"] == "CONFIG.advanced_config, mapped from nms"
    assert resolved.sources["fliplr"] == "argument, mapped from augment"
    resolved = run(trainers, {"CONFIG": '{"advanced_config": {"mosaic": true}}'})
    assert (resolved.values["mosaic"], resolved.sources["mosaic"]) == (1.0, "CONFIG.advanced_config, mapped by toy")


def test_the_argument_names_the_mapped_value_too(trainers: Trainers) -> None:
    assert run(trainers, nms="0.6").values["iou"] == 0.6
    assert sentence(trainers, nms="true").startswith("nms is a truth value")


def test_a_sentence_has_the_words_that_the_person_wrote(trainers: Trainers) -> None:
    """On the command line that is --set, wherever `run` puts it; in a pod of an engine it is the run's form."""
    pod = {"VISIONLOOP_POD_GPUS": "0"}
    assert sentence(trainers, None, mosaic=2).startswith("mosaic in --set is 2")
    assert sentence(trainers, None, advanced_config={"mosaic": 2}).startswith("mosaic in --set is 2")
    assert sentence(trainers, pod, mosaic=2).startswith("mosaic in the run's form is 2")
    nested = sentence(trainers, pod, advanced_config={"mosaic": 2})
    assert nested.startswith("mosaic in advanced_config of the run's form is 2")
    both = sentence(trainers, pod, epochs=5, advanced_config={"epochs": 5})
    assert "in the run's form and in advanced_config of the run's form" in both


@pytest.mark.parametrize("off", ["0", 0, None, "", "none", 0.0])
def test_early_stopping_off_has_one_spelling(trainers: Trainers, off: object) -> None:
    assert run(trainers, patience=off).values["patience"] == 0
    assert run(trainers, {"CONFIG": '{"early_stopping": {"enabled": false, "patience": 5}}'}).values["patience"] == 0
    assert run(trainers).values["patience"] == 100


def test_equal_configurations_have_equal_key_values(trainers: Trainers) -> None:
    engine = run(trainers, imgsz=160.0, epochs=16.0, lr0="0.002", optimizer="adamw", advanced_config='{"mosaic": 0}')
    laptop = run(
        trainers,
        {"CONFIG_IMGSZ": "160", "ADVANCED_CONFIG": '{"mosaic": "0.0"}', "DEVICE": "cpu"},
        epochs="16",
        lr0=2e-3,
        optimizer="AdamW",
        workers="8",
        cache="no",
        threads=4,
    )
    assert json.dumps(engine.key_values(), sort_keys=True) == json.dumps(laptop.key_values(), sort_keys=True)
    assert laptop.values["workers"] == 8
    assert {"device", "workers", "cache", "threads"}.isdisjoint(laptop.key_values())
    assert engine.key_values() != run(trainers, imgsz=160, epochs=17).key_values()


def test_what_changes_the_weights_is_in_the_key_unless_it_is_the_default(trainers: Trainers) -> None:
    plain = run(trainers).key_values()
    for arguments, keyed in (
        ({"workers": 8}, {}),
        ({"workers": "0"}, {"workers": 0}),
        ({"cache": "false"}, {}),
        ({"cache": False}, {}),
        ({"cache": True}, {"cache": "ram"}),
        ({"cache": "True"}, {"cache": "ram"}),
        ({"cache": "RAM"}, {"cache": "ram"}),
        ({"cache": "disk"}, {"cache": "disk"}),
        ({"resize": 0}, {}),
        ({"resize": "640"}, {"resize": 640}),
        ({"device": "cpu"}, {}),
        ({"device": 1}, {}),
        ({"device": "0,"}, {}),
        ({"device": "0,1"}, {"devices": 2}),
        ({"device": "2,3"}, {"devices": 2}),
    ):
        assert run(trainers, None, **arguments).key_values() == plain | keyed, arguments
    assert run(trainers, {"DEVICE": "0,1"}).source("devices") == "DEVICE"
    assert run(trainers, {"CONFIG": '{"cache": true}'}).source("cache") == "CONFIG"
    assert sentence(trainers, None, cache="fast") == "cache in --set is 'fast': give false, ram or disk."


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("0,0", "device in --set is 0,0, which names a GPU twice: give each GPU once."),
        ("0, cuda:0", "device in --set is 0, cuda:0, which names a GPU twice: give each GPU once."),
        (
            "cpu,cpu",
            "device in --set is cpu,cpu, but several devices are GPUs by their numbers: give numbers such as 0,1, or one device.",
        ),
        (
            "0,mps",
            "device in --set is 0,mps, but several devices are GPUs by their numbers: give numbers such as 0,1, or one device.",
        ),
    ],
)
def test_several_devices_are_gpus_each_once(trainers: Trainers, device: str, text: str) -> None:
    assert sentence(trainers, None, device=device) == text


def test_a_trainer_that_knows_one_device_is_given_one(trainers: Trainers) -> None:
    assert sentence(trainers, {"DEVICE": "0,1"}, trainer="other") == (
        "device in DEVICE is 0,1, but the trainer other trains on one device: give cpu, or the number of one GPU such as 0."
    )
    assert run(trainers, None, trainer="other", device="cuda:1").values["device"] == "cuda:1"


def test_a_metric_that_is_good_enough_is_in_the_key_where_it_is_set(trainers: Trainers) -> None:
    assert "stop_metric" not in run(trainers, stop_metric=None).key_values()
    assert run(trainers, stop_metric="0.6").key_values()["stop_metric"] == 0.6
    assert run(trainers, stop_metric=0.5, primary_metric="box_loss").key_values()["stop_metric"] == 0.5
    for value, metric, sentence in (
        (60, "mAP50-95", r"stop_metric in --set is 60, which mAP50-95 can't be: give a number between 0 and 1"),
        (0, "mAP50", r"stop_metric in --set is 0, which each epoch reaches: give a number between 0 and 1"),
        (-1, "box_loss", r"stop_metric in --set is -1, which box_loss can't be: give a number above 0"),
        ("mAP50>=0.6", "mAP50", r"stop_metric in --set is 'mAP50>=0.6': give a number"),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            run(trainers, stop_metric=value, primary_metric=metric)


def test_checkpoints_within_an_epoch_are_for_trainings_that_go_on_from_them(
    trainers: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(trainers, checkpoint_minutes=0).key_values() == run(trainers).key_values()
    with pytest.raises(
        InvalidConfig, match="checkpoint_minutes in --set is 10, but the trainer toy can't resume inside"
    ):
        run(trainers, checkpoint_minutes=10)
    monkeypatch.setattr(trainers["ultralytics"], "resumes_within_epoch", True, raising=False)
    resolved = run(trainers, checkpoint_minutes="10")
    assert resolved.values["checkpoint_minutes"] == 10
    assert resolved.key_values() == run(trainers).key_values()
    with pytest.raises(InvalidConfig, match="a training on several devices can't resume inside an epoch"):
        run(trainers, checkpoint_minutes=10, device="0,1")


def test_a_patience_that_was_asked_for_and_can_not_act_is_told(trainers: Trainers) -> None:
    assert run(trainers, epochs=5).notices == ()
    assert run(trainers, epochs=5, patience=3).notices == ()
    assert run(trainers, epochs=5, patience=0).notices == ()
    assert run(trainers, epochs=1, patience=3).notices == ()
    for patience in (4, 50):
        (told,) = run(trainers, epochs=5, patience=patience).notices
        assert told == f"patience is {patience} and epochs 5: no training ends early by it; give less than 4."


def test_images_are_reduced_to_imgsz_at_least_and_as_the_trainer_would(trainers: Trainers) -> None:
    assert sentence(trainers, None, resize=320) == (
        "resize in --set is 320, less than imgsz 640, so that images would be enlarged again: give at least 640, or leave it out."
    )
    assert run(trainers, None, resize=320, imgsz=320).values["resize"] == 320
    assert sentence(trainers, None, resize=640, trainer="other") == (
        "resize in --set is 640, but the trainer other does not say how it shrinks the images of detection: leave resize out."
    )
    assert "a whole number from 0 to 65536" in sentence(trainers, None, resize=-1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"epochs": 100.5}, ["epochs in --set is 100.5", "a whole number from 1 to 100000"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"epochs": True}, ["epochs", "True"]),
        ({"epochs": "ten"}, ["epochs", "'ten'"]),
        ({"epochs": 10**400}, ["epochs"]),
        ({"epochs": 10**5000}, ["epochs", "too large"]),
        ({"epochs": "1_0"}, ["epochs"]),
        ({"batch": -1}, ["batch", "from 1"]),
        ({"lr0": 0}, ["lr0"]),
        ({"lr0": math.nan}, ["lr0", "nan"]),
        ({"lr0": math.inf}, ["lr0", "inf"]),
        ({"lr0": "nan"}, ["lr0"]),
        ({"lr0": "1e999"}, ["lr0"]),
        ({"augment": "maybe"}, ["augment", "true or false"]),
        ({"imgsz": 100}, ["imgsz must be multiple of 32", "96 or 128"]),
        ({"imgsz": 16}, ["imgsz in --set is 16", "from 32 to 8192"]),
        ({"imgsz": [640, 640]}, ["'imgsz' in --set", "a list"]),
        ({"mosaic": {"probability": 1}}, ["mosaic", "an object"]),
        ({"mosaic": 1.5}, ["mosaic in --set is 1.5", "from 0 to 1"]),
        ({"optimizer": "adamax"}, ["optimizer in --set is 'adamax'", "SGD or AdamW"]),
        ({"model": "yolo\n11n"}, ["model in --set is 'yolo\\n11n'"]),
        ({"model": "\ud800"}, ["model in --set is '\\ud800'"]),
        ({"primary_metric": "mAP95"}, ["primary_metric", "mAP50-95, mAP50 or box_loss"]),
        ({"primary_metric_mode": "best"}, ["primary_metric_mode", "max or min"]),
        ({"trainer": "timmy"}, ["trainer in --set is 'timmy'", "other, ultralytics"]),
        ({"trainer": 5}, ["trainer", "5"]),
        ({"trainer": ""}, ["Missing required basic config: ['trainer']"]),
        ({"mosiac": 1}, ["'mosiac' in --set is not a setting", "nearest is mosaic"]),
        ({"batchsize": 1}, ["'batchsize' in --set is not a setting", "nearest is batch_size,"]),
        ({"learning-rate": 1}, ["nearest is learning_rate,"]),
        ({"qwertz": 1}, ["'qwertz' in --set is not a setting: remove it (docs/configuration.md lists all)."]),
        ({"model_name": "digits"}, ["'model_name' in --set is not a setting", "nearest is model"]),
        ({"advanced_config": 5}, ["advanced_config in --set is 5", "JSON object"]),
        ({"advanced_config": "[1"}, ["advanced_config in --set is not JSON", "line 1, column 3"]),
        ({"epochs": None}, ["Missing required basic config: ['epochs']", "--set"]),
        ({"epochs": ""}, ["Missing required basic config: ['epochs']"]),
        ({"imgsz": None, "batch": ""}, ["Missing required basic config: ['imgsz', 'batch'], as", "are empty"]),
        ({"optimizer": " "}, ["Missing required basic config: ['optimizer']"]),
        ({"mosaic": None}, ["'mosaic' in --set is empty"]),
        (
            {"epochs": 5, "advanced_config": {"epochs": 5}},
            ["'epochs' is given twice in --set"],
        ),
        ({"batch": 5, "batch_size": 5}, ["'batch', written 'batch_size', is given twice in --set"]),
        ({"model": "s3://bucket/best.pt", "pretrained": False}, ["pretrained", "model in --set"]),
        ({"model": "best.pt", "pretrained": "false"}, ["pretrained"]),
    ],
)
def test_what_is_refused(trainers: Trainers, arguments: dict[str, object], expected: list[str]) -> None:
    message = sentence(trainers, None, **arguments)
    for part in expected:
        assert part in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CONFIG": ""}, ["CONFIG is not JSON", "line 1, column 1"]),
        ({"CONFIG": '{"epochs": 5,\n "lr0"}'}, ["CONFIG is not JSON", "line 2, column 7"]),
        ({"CONFIG": "[]"}, ["CONFIG is []", "JSON object"]),
        ({"CONFIG": '{"epochs": NaN}'}, ["CONFIG holds NaN"]),
        ({"CONFIG": '{"epochs": 1e999}'}, ["epochs in CONFIG is inf"]),
        ({"CONFIG": '{"epochs": %s}' % ("9" * 5000)}, ["CONFIG holds a number that is too large"]),
        ({"CONFIG": "[" * 100_000}, ["CONFIG"]),
        ({"CONFIG": '{"epochs": 5, "epochs": 6}'}, ["'epochs' stands twice", "CONFIG"]),
        ({"CONFIG": '{"epochs": null}'}, ["Missing required basic config: ['epochs']", "CONFIG"]),
        ({"CONFIG": '{"epocs": 5}'}, ["'epocs' in CONFIG", "epochs"]),
        ({"CONFIG": '{"": 5}'}, ["'' in CONFIG is not a setting"]),
        ({"CONFIG": '{"advanced_config": "x"}'}, ["CONFIG.advanced_config is not JSON"]),
        ({"CONFIG": '{"imgsz": 32, "advanced_config": {"imgsz": 64}}'}, ["CONFIG and in CONFIG.advanced_config"]),
        (
            {"CONFIG": '{"augmentation": {"mosaic": 1}, "advanced_config": {"mosaic": 1}}'},
            ["CONFIG.advanced_config and in CONFIG.augmentation"],
        ),
        ({"CONFIG": '{"early_stopping": {"patient": 5}}'}, ["'patient' in CONFIG.early_stopping"]),
        ({"CONFIG": '{"early_stopping": {"enabled": "no"}}'}, ["enabled in CONFIG.early_stopping is 'no'"]),
        ({"CONFIG": '{"early_stopping": 5}'}, ["CONFIG.early_stopping is 5"]),
        ({"CONFIG_IMGSZ": "32", "ADVANCED_CONFIG": '{"imgsz": 32}'}, ["CONFIG_IMGSZ and in ADVANCED_CONFIG"]),
        ({"ADVANCED_CONFIG": "{'mosaic': 1}"}, ["ADVANCED_CONFIG is not JSON", "column 2"]),
        ({"EPOCHS": ""}, ["Missing required basic config: ['epochs']", "EPOCHS"]),
        ({"EPOCHS": "many"}, ["epochs in EPOCHS is 'many'"]),
        ({"FRAMEWORK": "tensorflow"}, ["trainer in FRAMEWORK is 'tensorflow'"]),
        ({"MODEL_NAME": ""}, ["['model']"]),
    ],
)
def test_what_is_refused_in_variables(trainers: Trainers, environment: dict[str, str], expected: list[str]) -> None:
    message = sentence(trainers, environment)
    for part in expected:
        assert part in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ["No such file"]),
        (b"\xff", ["UnicodeDecodeError"]),
        (b"{", ["is not JSON"]),
        (b"5", ["is 5"]),
        (b'{"advanced_config": {}}', ["'advanced_config'", '"basic" and "advanced"']),
        (b'{"basic": []}', ["basic in the file"]),
        (
            b'{"basic": {"imgsz": 32}, "advanced": {"imgsz": 32}}',
            ["basic of the file that CONFIG_PATH names and in advanced of the file"],
        ),
    ],
)
def test_the_file_that_config_path_names(
    trainers: Trainers, tmp_path: Path, content: bytes | None, expected: list[str]
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    message = sentence(trainers, {"CONFIG_PATH": str(file)})
    for part in expected:
        assert part in message


def test_config_path_may_not_hold_a_nul(trainers: Trainers) -> None:
    assert "can't be read" in sentence(trainers, {"CONFIG_PATH": "/tmp/\0"})


def test_a_weaker_level_s_wrong_value_does_not_matter(trainers: Trainers) -> None:
    assert run(trainers, {"EPOCHS": "many"}, epochs=5).values["epochs"] == 5


def test_unknown_variables_are_not_ours(trainers: Trainers) -> None:
    assert run(trainers, {"CONFIG_SITE": "x", "PATH": "/bin"}).values == run(trainers).values


def test_from_scratch_is_one_configuration_however_it_is_said(trainers: Trainers) -> None:
    by_flag = run(trainers, pretrained="false")
    by_name = run(trainers, model="yolo11n.yaml")
    assert by_flag.values["model"] == "yolo11n.yaml"
    assert by_flag.key_values() == by_name.key_values()
    assert by_flag.sources["model"] == "default, from scratch by pretrained in argument"
    assert by_name.sources["pretrained"] == "argument, by model"
    assert run(trainers).key_values() != by_flag.key_values()
    # A name that no trainer brings is refused by whoever looks for the weights, under the name that was meant.
    unknown = run(trainers, model="own", pretrained=False).values
    assert unknown["model"] == "own.yaml"
    assert run(trainers, None, **unknown).values == unknown


def test_a_loss_is_minimised_unless_told_otherwise(trainers: Trainers) -> None:
    assert run(trainers, primary_metric="box_loss").values["primary_metric_mode"] == "min"
    assert run(trainers, primary_metric="box_loss", primary_metric_mode="max").values["primary_metric_mode"] == "max"
    assert run(trainers, primary_metric="mAP50").values["primary_metric_mode"] == "max"


def test_a_trainer_may_bring_its_own_defaults(trainers: Trainers) -> None:
    resolved = run(trainers, trainer="other")
    assert resolved.values["model"] == "resnet18"
    assert resolved.values["primary_metric"] == "recall"
    assert resolved.trainer == "other"


def test_a_task_that_the_trainer_does_not_know_resolves_all_the_same(trainers: Trainers) -> None:
    assert resolve({}, trainers, {}, "pose").values["primary_metric"] == "mAP50-95"
    assert resolve({}, trainers, {}, "classification").values["primary_metric"] == "accuracy_top1"


def test_split_strategy() -> None:
    rule = {"train": 0.8, "val": 0.1, "test": 0.1}
    assert split_strategy({"CONFIG": json.dumps({"split_strategy": rule})}) == rule
    assert split_strategy({"CONFIG": '{"split_strategy": null}'}) is None
    assert split_strategy({"CONFIG": "{}"}) is None
    assert split_strategy({}) is None
    with pytest.raises(InvalidConfig, match="split_strategy in CONFIG is 'stratified'"):
        split_strategy({"CONFIG": '{"split_strategy": "stratified"}'})


def test_model_for_another_task(toy: Trainer) -> None:
    check_model_task("yolo11n", "detection", toy)
    check_model_task("s3://bucket/best.pt", "detection", toy)
    with pytest.raises(InvalidConfig, match="is for segmentation, but the dataset's task is detection"):
        check_model_task("yolo11n-seg", "detection", toy)


def test_describe_names_each_setting(toy: Trainer) -> None:
    listed = settings_of(toy, "detection")
    rows = {row.name: row for row in describe(listed)}
    assert list(rows) == list(listed)
    assert (rows["lr0"].kind, rows["lr0"].default, rows["lr0"].allowed) == (
        "float",
        "0.01",
        "a number from 1e-09 to 10",
    )
    assert rows["close_mosaic"].allowed == "a whole number of at least 0"
    assert rows["augment"].default == "true"
    assert rows["device"].default == "empty"
    assert rows["primary_metric"].allowed == "mAP50-95, mAP50 or box_loss"
    assert [rows[name].in_key for name in ("device", "workers", "cache", "seed")] == [
        "no",
        "unless 8",
        "unless false",
        "yes",
    ]
    assert rows["cache"].allowed == "false, ram or disk"
    assert all(row.meaning for row in rows.values())


def test_the_defaults_satisfy_their_own_rules(toy: Trainer, trainers: Trainers) -> None:
    listed = settings_of(toy, "detection")
    stated = {name: setting.default for name, setting in listed.items() if name != "trainer"}
    assert run(trainers, None, **stated).values == run(trainers).values


# Arbitrary input: a configuration, or one sentence with exit code 78.

texts = st.text(max_size=12)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.integers(10**300, 10**310))
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
OBJECTS = ("advanced_config", "augmentation", "early_stopping")
names = st.sampled_from(
    [
        *BASIC,
        *("mosaic", "fliplr", "iou", "nms", "freeze", "cos_lr", "close_mosaic", "batch_size", "learning_rate"),
        *("model_name", "framework", "split_strategy", "name", "enabled", *OBJECTS),
    ]
)
likely = st.sampled_from([0, 1, 1.0, 0.5, 32, 64, 640.0, "SGD", "yolo11n", "mAP50", "max", "true", "0.5", False, "{}"])
fields = st.dictionaries(names | texts, likely | json_values, max_size=2)
nested = st.fixed_dictionaries({}, optional=dict.fromkeys(OBJECTS, fields))
objects = st.builds(lambda flat, deep: {**flat, **deep}, fields, nested)
files = st.fixed_dictionaries({}, optional={"basic": fields, "advanced": fields})
# Each place alone, so that one place's error does not hide the others'.
inputs: st.SearchStrategy[tuple[dict[str, object], dict[str, str]]] = st.one_of(
    fields.map(lambda values: (values, {})),
    fields.map(lambda values: ({"advanced_config": values}, {})),
    st.dictionaries(st.sampled_from([*SINGLE_VARIABLES, *OLD_VARIABLES]), texts | likely.map(str), max_size=3).map(
        lambda variables: ({}, variables)
    ),
    (objects | json_values).map(lambda value: ({}, {"CONFIG": json.dumps(value)})),
    (fields | json_values).map(lambda value: ({}, {"ADVANCED_CONFIG": json.dumps(value)})),
    (files | json_values).map(lambda value: ({}, {"CONFIG_PATH": json.dumps(value)})),
    st.tuples(st.sampled_from(["CONFIG", "ADVANCED_CONFIG", "CONFIG_PATH"]), texts).map(
        lambda pair: ({}, dict([pair]))
    ),
)


@settings(max_examples=500, deadline=None)
@given(several=st.lists(inputs, min_size=1, max_size=2))
def test_any_input_resolves_or_is_refused(
    trainers: Trainers, several: list[tuple[dict[str, object], dict[str, str]]]
) -> None:
    arguments: dict[str, object] = {}
    environment: dict[str, str] = {}
    for more, variables in several:
        arguments |= more
        environment |= variables
    contents = environment.get("CONFIG_PATH", "")
    if "CONFIG_PATH" in environment:
        environment["CONFIG_PATH"] = "/config.json"
    try:
        resolved = resolve(arguments, trainers, environment, "detection", read_file=lambda _: contents)
    except InvalidConfig as refused:
        message = str(refused)
    else:
        check_resolved(resolved, trainers)
        return
    assert message.isprintable()
    assert len(message) < 600


def check_resolved(resolved: Resolved, trainers: Trainers) -> None:
    rfc8785.dumps(resolved.key_values())
    known_settings = settings_of(trainers[resolved.trainer], "detection")
    for name, value in resolved.values.items():
        setting = known_settings[name]
        assert (
            type(value) is setting.kind
            or (value is None and setting.optional)
            or (value is False and setting.true_means is not None)
        )
    # What was resolved, given as arguments, resolves to itself.
    again = resolve(resolved.values, trainers, {}, "detection")
    assert again.values == resolved.values


# Valid input: five levels, each value spelled in one of its ways; the strongest level's counts.

LEVELS = ("argument", "variable", "CONFIG", "old variable", "file")
VARIABLES = {name: variable for variable, name in SINGLE_VARIABLES.items()}
VARIABLES_OLD = {name: variable for variable, name in OLD_VARIABLES.items()}
numbers = {
    "epochs": st.integers(1, 1000),
    "batch": st.integers(1, 512),
    "imgsz": st.integers(1, 40).map(lambda n: 32 * n),
    "lr0": st.floats(1e-6, 1.0),
    "seed": st.integers(0, 1000),
    "mosaic": st.floats(0, 1),
}
spellings: list[Callable[[int | float], object]] = [lambda n: n, float, str, repr, lambda n: f" {float(n)!r} "]
placed = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(st.sampled_from(LEVELS), st.tuples(value, st.sampled_from(spellings)), min_size=1)
        for name, value in numbers.items()
    },
)


@settings(deadline=None)
@given(placed=placed)
def test_the_strongest_level_counts(trainers: Trainers, placed: dict[str, dict[str, tuple[float, Any]]]) -> None:
    arguments: dict[str, object] = {}
    environment: dict[str, str] = {}
    config: dict[str, object] = {}
    older: dict[str, object] = {}
    file: dict[str, dict[str, object]] = {"basic": {}, "advanced": {}}
    expected: dict[str, tuple[object, str]] = {}
    for name, by_level in placed.items():
        sources: dict[str, str] = {}
        for level, (value, spell) in by_level.items():
            written = spell(value)
            match level:
                case "argument":
                    arguments[name] = written
                    sources[level] = "argument"
                case "variable" if name in VARIABLES:
                    environment[VARIABLES[name]] = str(written)
                    sources[level] = VARIABLES[name]
                case "CONFIG":
                    config[name] = written
                    sources[level] = "CONFIG"
                case "old variable" if name in VARIABLES_OLD:
                    environment[VARIABLES_OLD[name]] = str(written)
                    sources[level] = VARIABLES_OLD[name]
                case "old variable":
                    older[name] = written
                    sources[level] = "ADVANCED_CONFIG"
                case "file":
                    part = "basic" if name in BASIC else "advanced"
                    file[part][name] = written
                    sources[level] = f"CONFIG_PATH {part}"
        strongest = next((level for level in LEVELS if level in sources), None)
        if strongest is not None:
            expected[name] = (by_level[strongest][0], sources[strongest])
    environment |= {"CONFIG": json.dumps(config), "ADVANCED_CONFIG": json.dumps(older), "CONFIG_PATH": "/config.json"}
    resolved = resolve(arguments, trainers, environment, "detection", read_file=lambda _: json.dumps(file))
    results = {name: (resolved.values[name], resolved.sources[name]) for name in expected}
    assert results == expected
    assert all(resolved.sources[name] == "default" for name in resolved.values.keys() - expected.keys())
