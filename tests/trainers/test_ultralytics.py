"""The Ultralytics trainer without training: names, settings, mapping, limits, failures."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import (
    InvalidConfig,
    InvalidDataset,
    InvalidReceipt,
    OutOfMemory,
    SickMachine,
    Transient,
    VisionloopError,
)
from visionloop.core.policy import row_of_trainer
from visionloop.training.configuration import check_model_task, resolve
from visionloop.training.configuration.settings import BASIC, PRIMARY_METRICS, settings_of
from visionloop.training.pytorch.best import Best
from visionloop.training.pytorch.failures import classify
from visionloop.training.pytorch.workers import available_cpus, usable_workers
from visionloop.training.trainers import Trainer, Value
from visionloop.training.trainers.ultralytics import TRAINER, words
from visionloop.training.trainers.ultralytics import settings as configuration
from visionloop.training.trainers.ultralytics.dataset import Description, data_argument
from visionloop.training.trainers.ultralytics.failures import recognised, translated
from visionloop.training.trainers.ultralytics.names import TASK_SUFFIXES
from visionloop.training.trainers.ultralytics.progress import train_metrics, val_metrics

TASKS = ("detection", "segmentation", "pose", "classification")


def test_importing_it_imports_no_library() -> None:
    code = (
        "import sys, visionloop.training.trainers.ultralytics as it; "
        "it.TRAINER.settings('detection'); it.TRAINER.model_task('yolo11n'); it.TRAINER.is_architecture('yolo11n.yaml'); "
        "it.TRAINER.requirements(); it.TRAINER.normalise({'nms': 0.7}, 'detection'); "
        "print([name for name in ('torch', 'ultralytics', 'cv2', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_it_is_a_trainer_with_the_train_row() -> None:
    trainer: Trainer = TRAINER
    assert trainer.policy == row_of_trainer("ultralytics")
    assert trainer.name == "ultralytics"
    assert trainer.tasks == {"detection", "segmentation", "pose", "classification"}
    assert trainer.metrics["detection"][0] == "mAP50-95"


def test_requirements_are_the_installed_versions() -> None:
    import importlib.metadata

    assert f"ultralytics=={importlib.metadata.version('ultralytics')}" in TRAINER.requirements()
    assert {line.split("==")[0] for line in TRAINER.requirements()} == {
        "ultralytics",
        "torch",
        "torchvision",
        "opencv-python-headless",
    }


# Names


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("yolo11n", "detection"),
        ("yolo11n.pt", "detection"),
        ("yolo11n.yaml", "detection"),
        ("yolov8n.yaml", "detection"),
        ("yolov5nu", "detection"),
        ("yolov3-tiny", "detection"),
        ("yolo26x-p2.yaml", "detection"),
        ("yolo11n-seg", "segmentation"),
        ("yolov8x-seg-p6.yaml", "segmentation"),
        ("yolo11n-cls", "classification"),
        ("yolo11n-pose.yaml", "pose"),
        ("yolo11n-obb", "oriented detection"),
        ("s3://bucket/weights.pt", None),
        ("weights/yolo11n.pt", None),
        ("models:/digits@champion", None),
        ("yolov8s-world", None),
        ("rtdetr-l", None),
        ("my-model", None),
    ],
)
def test_model_task(model: str, task: str | None) -> None:
    assert TRAINER.model_task(model) == task


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("yolo11n", ("yolo11n.pt",)),
        ("yolo11n.pt", ("yolo11n.pt",)),
        ("yolo11n-seg", ("yolo11n-seg.pt",)),
        ("yolov5n", ("yolov5nu.pt",)),
        ("yolov5n6", ("yolov5n6u.pt",)),
        ("yolov3-tiny", ("yolov3-tinyu.pt",)),
        ("yolo11n.yaml", ()),
        ("models/x.pt", ()),
    ],
)
def test_weights_names(model: str, names: tuple[str, ...]) -> None:
    assert TRAINER.weights_names(model) == names


@pytest.mark.parametrize(
    ("model", "shipped"),
    [
        ("yolo11n.yaml", True),
        ("yolo11.yaml", True),
        ("yolo11x-seg.yaml", True),
        ("yolov8n.yml", True),
        ("yolov9c.yaml", True),
        ("yolov10b.yaml", True),
        ("yolo26n.yaml", True),
        ("yolo11n", False),
        ("yolo11n.pt", False),
        ("yolo99n.yaml", False),
        ("yolo11q.yaml", False),
        ("yolov8s-world.yaml", False),
        ("rtdetr-l.yaml", False),
        ("folder/yolo11n.yaml", False),
        ("data.yaml", False),
    ],
)
def test_is_architecture(model: str, shipped: bool) -> None:
    assert TRAINER.is_architecture(model) is shipped


@given(st.text(max_size=40))
def test_any_name_is_answered(name: str) -> None:
    assert TRAINER.model_task(name) in (None, "detection", *TASK_SUFFIXES.values())
    assert TRAINER.is_architecture(name) in (True, False)
    assert all(file.endswith(".pt") for file in TRAINER.weights_names(name))


# Settings


def test_defaults_of_the_seeds() -> None:
    settings = TRAINER.settings("detection")
    defaults = {
        "mosaic": 1.0,
        "mixup": 0.0,
        "copy_paste": 0.0,
        "degrees": 0.0,
        "translate": 0.1,
        "scale": 0.5,
        "shear": 0.0,
        "perspective": 0.0,
        "flipud": 0.0,
        "fliplr": 0.5,
        "cos_lr": False,
        "multi_scale": 0.0,
        "conf": 0.001,
        "iou": 0.7,
    }
    assert {name: settings[name].default for name in defaults} == defaults


@pytest.mark.parametrize("task", TASKS)
def test_the_library_takes_every_default_and_bound(task: str) -> None:
    from visionloop.training.trainers.ultralytics.environment import library

    cfg = library().cfg
    defaults = library().utils.DEFAULT_CFG_DICT
    for name, setting in settings_of(TRAINER, task).items():
        if name in BASIC and name != "lr0":
            continue
        assert isinstance(setting.default, setting.kind) or (setting.optional and setting.default is None)
        if name not in ("conf", "optimizer"):  # the library's None means 0.001 in validation, and its optimizer is auto
            assert setting.default == defaults[name], name
        for value in (setting.default, setting.minimum, setting.maximum):
            if value is not None and not isinstance(value, str):
                cfg.get_cfg(overrides={name: setting.kind(value)})


def test_the_library_takes_every_basic_bound_too() -> None:
    from visionloop.training.trainers.ultralytics.environment import library

    for name, setting in settings_of(TRAINER, "detection").items():
        ours = ("stop_metric", "primary_metric", "primary_metric_mode", "checkpoint_minutes", "resize")
        if name in ("trainer", "model", "pretrained", *ours):
            continue
        values = [setting.minimum, setting.maximum] if setting.kind in (int, float) else [setting.default]
        for value in values:
            if value is not None:
                library().cfg.get_cfg(overrides={name: setting.kind(value) if setting.kind is not str else value})


@pytest.mark.parametrize("optimizer", configuration.ADAMS)
def test_momentum_is_below_one_for_adam(optimizer: str) -> None:
    import torch

    weights = [torch.nn.Parameter(torch.zeros(1))]
    getattr(torch.optim, optimizer)(weights, betas=(0.9999, 0.999))
    with pytest.raises(ValueError, match="beta"):
        getattr(torch.optim, optimizer)(weights, betas=(1.0, 0.999))
    with pytest.raises(InvalidConfig, match="momentum is 1"):
        normalise(optimizer=optimizer.lower(), momentum=1.0)
    assert normalise(momentum=1.0) == {"momentum": 1.0}


def test_every_word_of_the_library_is_a_setting_or_has_a_sentence() -> None:
    """Read from the library's file, without importing it."""
    from importlib.util import find_spec

    import yaml

    spec = find_spec("ultralytics")
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0], "cfg", "default.yaml")
    listed = {name for task in TASKS for name in settings_of(TRAINER, task)}
    theirs = set(yaml.safe_load(file.read_text(encoding="utf-8")))
    assert theirs - listed - set(words.WORDS) == {"nms"}  # which is iou
    assert not set(words.WORDS) & listed


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("resume", True, "'resume' in --set is not a setting: a training resumes by itself"),
        ("save-period", 5, "'save-period' in --set is not a setting: the checkpoint of each epoch is kept"),
        ("classes", [0, 2], "'classes' in --set is not a setting: choose classes by name with --classes"),
        ("name", "run1", "'name' in --set is not a setting: name the run by --run-name."),
        ("batch", -1, "'batch' in --set is -1: the batch that fits is not searched for: give a whole number"),
        ("batch", "-1", "'batch' in --set is '-1': the batch that fits"),
        ("batch", 0.8, "'batch' in --set is 0.8: the batch that fits"),
        ("imgsz", "640,480", "'imgsz' in --set is '640,480': the input is a square"),
        ("imgsz", [640, 480], "'imgsz' in --set is [640, 480]: the input is a square"),
        ("device", "[0,1]", "'device' in --set is '[0,1]': give the numbers of the GPUs with commas and without"),
        ("device", [0, 1], "'device' in --set is [0, 1]: give the numbers of the GPUs with commas"),
        ("device", "0,npu", "'device' in --set is '0,npu': give cpu, or the number of a GPU"),
        ("device", "-1", "'device' in --set is '-1': give cpu, or the number of a GPU such as 0"),
        ("device", "npu:0", "'device' in --set is 'npu:0': give cpu"),
        ("freeze", "[0,1]", "'freeze' in --set is '[0,1]': give how many layers"),
        ("pretrained", "best.pt", "'pretrained' in --set is 'best.pt': give the starting weights as model."),
        ("amp", "bf16", "'amp' in --set is 'bf16': give true for mixed precision, or false."),
        ("lr0", 10, "lr0 in --set is 10: give a number from 1e-09 to 1."),
        ("momentum", 3, "momentum in --set is 3: give a number from 0 to 1."),
    ],
)
def test_what_people_bring_from_the_library_has_a_sentence_of_its_own(setting: str, value: object, text: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        resolve({setting: value}, {"ultralytics": TRAINER}, {}, "detection")
    assert str(refused.value).startswith(text)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("row", words.VALUES, ids=lambda row: row.examples[0])
def test_every_example_of_a_value_is_refused_with_its_sentence(row: words.ForeignValue) -> None:
    for example in row.examples:
        name, _, value = example.partition("=")
        assert words.advice(name, value) == row.advice


@pytest.mark.parametrize("device", ["", None, "cpu", 0, "0", "1", "cuda", "cuda:0", "mps", "GPU", "auto", "0,"])
def test_a_device_that_the_trainer_takes(device: object) -> None:
    assert words.advice("device", device) is None


def test_settings_are_checked_without_the_library() -> None:
    code = (
        "import sys; from visionloop.training import catalog, configuration;"
        " configuration.resolve({'lr0': 0.5, 'device': '0'}, catalog.trainers(), {}, 'detection');"
        " print([name for name in ('torch', 'ultralytics', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_models_and_image_size_are_the_tasks_own() -> None:
    defaults = {task: settings_of(TRAINER, task) for task in TASKS}
    assert {task: values["model"].default for task, values in defaults.items()} == {
        "detection": "yolo11n",
        "segmentation": "yolo11n-seg",
        "pose": "yolo11n-pose",
        "classification": "yolo11n-cls",
    }
    assert {task: values["imgsz"].default for task, values in defaults.items()} == {
        **dict.fromkeys(("detection", "segmentation", "pose"), 640),
        "classification": 224,
    }
    assert {task: values["primary_metric"].default for task, values in defaults.items()} == PRIMARY_METRICS
    for task, values in defaults.items():
        check_model_task(str(values["model"].default), task, TRAINER)
    whole_images = {"mosaic", "mixup", "cutmix", "degrees", "shear", "single_cls", "rect", "multi_scale"}
    assert not whole_images & set(defaults["classification"])


@pytest.mark.parametrize(
    "basic",
    [
        "epochs",
        "batch",
        "augment",
        "device",
        "workers",
        "cache",
        "seed",
        "patience",
        "nms",
    ],
)
def test_basic_settings_are_not_its_own(basic: str) -> None:
    for task in TASKS:
        assert basic not in TRAINER.settings(task)


@pytest.mark.parametrize("task", TASKS)
def test_a_form_can_name_the_optimizers(task: str) -> None:
    optimizer = settings_of(TRAINER, task)["optimizer"]
    assert optimizer.choices == configuration.OPTIMIZERS
    assert optimizer.default == BASIC["optimizer"].default


def normalise(task: str = "detection", **values: Any) -> dict[str, Any]:
    return TRAINER.normalise(dict(values), task)


def test_nms_is_the_iou_threshold() -> None:
    assert normalise(nms=0.6) == {"iou": 0.6}
    assert normalise(nms=0.6, iou=0.6) == {"iou": 0.6}
    for values in ({"nms": True}, {"nms": "yes"}, {"nms": 7}, {"nms": 0.6, "iou": 0.5}):
        with pytest.raises(InvalidConfig, match="nms"):
            normalise(**values)
    with pytest.raises(InvalidConfig, match="classification"):
        normalise("classification", nms=0.7)


def test_multi_scale_is_a_fraction() -> None:
    assert normalise(multi_scale=False) == {"multi_scale": 0.0}
    assert normalise(multi_scale="false") == {"multi_scale": 0.0}
    assert normalise(multi_scale=0.25) == {"multi_scale": 0.25}
    for value in (True, "True"):
        with pytest.raises(InvalidConfig, match=r"fraction from 0\.0 to 1\.0"):
            normalise(multi_scale=value)


def test_augment_false_switches_every_augmentation_off() -> None:
    values = normalise(augment=False, fliplr=0.0)
    assert values.pop("augment") is False
    assert values == dict.fromkeys(configuration.AUGMENTATIONS, 0.0)
    assert set(values) <= set(TRAINER.settings("detection"))
    whole = normalise("classification", augment=False)
    assert (whole["erasing"], whole["auto_augment"]) == (0.0, "none")
    assert normalise(augment=True, mosaic=0.5) == {"augment": True, "mosaic": 0.5}


@pytest.mark.parametrize("name", ["mosaic", "hsv_v", "fliplr", "multi_scale"])
def test_an_augmentation_beside_augment_false_is_a_contradiction(name: str) -> None:
    with pytest.raises(InvalidConfig, match=f"augment is false, but {name} is 0.3"):
        TRAINER.normalise({"augment": False, name: 0.3}, "detection")


def test_optimizer_auto_ignores_lr0() -> None:
    assert normalise(optimizer="adamw", lr0=0.002) == {"optimizer": "AdamW", "lr0": 0.002}
    assert normalise(optimizer="Auto") == {"optimizer": "auto"}
    with pytest.raises(InvalidConfig, match=r"lr0 0\.002"):
        normalise(optimizer="auto", lr0=0.002)
    with pytest.raises(InvalidConfig, match="one of SGD"):
        normalise(optimizer="Lion")


@given(
    st.dictionaries(
        st.sampled_from(["nms", "multi_scale", "augment", "optimizer", "lr0", "mosaic", "iou", "fliplr", "anything"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    )
)
def test_any_values_are_mapped_or_refused(values: dict[str, Any]) -> None:
    before = dict(values)
    with contextlib.suppress(InvalidConfig):
        mapped = TRAINER.normalise(values, "detection")
        assert "nms" not in mapped
        assert set(before) - {"nms"} <= set(mapped)
    assert list(values) == list(before)


# Workers


def test_workers_follow_processors_and_shared_memory() -> None:
    batch_bytes = 16 * 640 * 640 * 3
    assert usable_workers(8, 16, 640, cpus=16, shared_memory=100 * 12 * batch_bytes) == (8, None)
    workers, reason = usable_workers(8, 16, 640, cpus=2, shared_memory=100 * 12 * batch_bytes)
    assert workers == 2
    assert "2 CPUs" in str(reason)
    workers, reason = usable_workers(8, 16, 640, cpus=16, shared_memory=64 * 2**20)
    assert workers == 0
    assert "/dev/shm has 64 MiB" in str(reason)
    assert usable_workers(0, 16, 640, cpus=1, shared_memory=0) == (0, None)


def test_the_quota_of_the_control_group_counts(tmp_path: Path) -> None:
    unlimited = available_cpus(tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path) == unlimited
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == unlimited
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert available_cpus(tmp_path) == 1


# Failures


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), SickMachine),
        (RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be …"), SickMachine),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."), SickMachine),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), SickMachine),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), Transient),
        (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), Transient),
        (RuntimeError("DataLoader worker (pid 9) is killed by signal: Bus error. It is possible …"), Transient),
        (ValueError("'momentum=3' is an invalid value. Valid 'momentum' values are …"), InvalidConfig),
        (ValueError("Invalid CUDA 'device=7' requested."), InvalidConfig),
        (ValueError("anything else"), None),
        (ValueError("Caught ValueError in DataLoader worker process 0.\nOriginal Traceback …"), None),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), None),
    ],
)
def test_what_the_libraries_raise_is_told(error: Exception, expected: type[VisionloopError] | None) -> None:
    existing = classify(error, 16, 640) or recognised(error)
    assert type(existing) is (expected or type(None))
    with pytest.raises(expected or type(error)) as raised, translated(16, 640):
        raise error
    if expected:
        assert raised.value.__cause__ is error
        assert "\n" not in str(raised.value)


def test_memory_that_is_really_used_up() -> None:
    import torch

    with (
        pytest.raises(OutOfMemory, match=r"CPU out of memory\. Try reducing batch size: batch is 8"),
        translated(8, 64),
    ):
        torch.empty(2**58, dtype=torch.uint8)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_disk_that_is_really_full() -> None:
    import torch

    with pytest.raises(SickMachine, match="written whole"), translated(8, 64):
        torch.serialization.save({"weights": torch.zeros(1_000_000)}, "/dev/full")
    with pytest.raises(SickMachine, match="No space is left"), translated(8, 64):
        Path("/dev/full").write_bytes(b"0" * 100_000)


class Killed:
    """A dataset whose reader dies, as the kernel ends a process that takes too much memory."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_really_dies() -> None:
    from torch.utils.data import DataLoader

    with pytest.raises(Transient, match="process that loads images died"), translated(8, 64):
        next(iter(DataLoader(Killed(), num_workers=1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["yolov8n-p6.yaml", "yolov5n6u.pt", "yolov5n6u"])
def test_a_model_with_a_larger_stride_is_not_trained_at_another_size_than_was_asked_for(model: str) -> None:
    with pytest.raises(InvalidConfig, match="imgsz is 96, but this model takes multiples of 64: give 64 or 128"):
        TRAINER.normalise({"model": model, "imgsz": "96"}, "detection")
    assert TRAINER.normalise({"model": model, "imgsz": 128}, "detection")["imgsz"] == 128
    assert TRAINER.normalise({"model": "yolo11n", "imgsz": 96}, "detection")["imgsz"] == 96


def test_a_training_without_an_epoch_that_has_mosaic_is_told() -> None:
    def told(task: str = "detection", **changes: Value) -> list[str]:
        return TRAINER.remarks(
            {name: setting.default for name, setting in settings_of(TRAINER, task).items()} | changes
        )

    assert told() == told(epochs=11) == told(epochs=5, close_mosaic=4) == told(epochs=5, close_mosaic=0) == []
    assert told(epochs=5, mosaic=0.0) == told("classification", epochs=5) == []
    for epochs in (5, 10):
        expected = (
            f"close_mosaic is 10 and epochs {epochs}: no epoch has mosaic; give less than {epochs}, or 0 to keep it."
        )
        assert told(epochs=epochs) == [expected]


# Best epoch


def test_the_best_epoch_follows_the_mode() -> None:
    largest, smallest = Best("max", 0), Best("min", 0)
    for epoch, value in enumerate([0.2, 0.5, 0.5, 0.4], start=1):
        assert not largest(epoch, value)
        assert not smallest(epoch, value)
    assert (largest.epoch, largest.value) == (2, 0.5)
    assert (smallest.epoch, smallest.value) == (1, 0.2)


def test_patience_counts_epochs_without_improvement() -> None:
    best = Best("max", 2)
    assert [best(epoch, value) for epoch, value in enumerate([0.1, 0.3, 0.2, 0.3], start=1)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_metric_that_is_still_zero_is_no_verdict() -> None:
    best = Best("max", 2)
    assert not any(best(epoch, 0.0) for epoch in range(1, 8))
    assert best.epoch == 7


@pytest.mark.parametrize("mode", ["max", "min"])
def test_where_nothing_is_measured_the_best_epoch_is_the_last(mode: str) -> None:
    best = Best(mode, 2)
    assert not any(best(epoch, None) for epoch in range(1, 8))
    assert best.epoch == 7


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from(["max", "min"]))
def test_the_best_is_the_extreme(values: list[float], mode: str) -> None:
    best = Best(mode, 0)
    for epoch, value in enumerate(values, start=1):
        best(epoch, value)
    assert best.value == (max if mode == "max" else min)(values)
    assert values[best.epoch - 1] == best.value


def test_metric_names_of_the_seeds() -> None:
    assert val_metrics(
        {
            "metrics/precision(B)": 0.1,
            "metrics/mAP50(B)": 0.2,
            "metrics/mAP50-95(B)": 0.3,
            "metrics/mAP50-95(M)": 0.4,
            "metrics/accuracy_top1": 0.5,
            "val/box_loss": 1.0,
            "val/cls_loss": 2.0,
            "fitness": 9.0,
        }
    ) == {
        "precision": 0.1,
        "mAP50": 0.2,
        "mAP50-95": 0.3,
        "mask_mAP50-95": 0.4,
        "accuracy_top1": 0.5,
        "val_loss": 3.0,
        "val_box_loss": 1.0,
        "val_cls_loss": 2.0,
    }
    assert train_metrics({"box_loss": 1.0, "cls_loss": 0.5}, 0.01) == {
        "loss": 1.5,
        "box_loss": 1.0,
        "cls_loss": 0.5,
        "lr": 0.01,
    }


# The dataset folder


def test_the_data_file_takes_any_path_and_holds_no_name(tmp_path: Path) -> None:
    import yaml

    dataset = tmp_path / 'a: "b" # 데이터 🌱'
    for split in ("train", "val"):
        (dataset / "images" / split).mkdir(parents=True)
        (dataset / "images" / split / "0.png").touch()
    path = data_argument(dataset, Description("detection", ("yes", "n01440764")), ("train", "val"), tmp_path)
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
        "nc": 2,
        "train": str(dataset / "images" / "train"),
        "val": str(dataset / "images" / "val"),
        "test": str(dataset / "images" / "train"),
    }


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(InvalidDataset, match="train has no image"):
        data_argument(tmp_path, Description("detection", ("a",)), ("train",), tmp_path)
    with pytest.raises(InvalidDataset, match="test has no image"):
        data_argument(tmp_path, Description("detection", ("a",)), ("test",), tmp_path)


def test_a_folder_that_hides_labels_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "images" / "train" / "camera" / "images" / "0.png"
    image.parent.mkdir(parents=True)
    image.touch()
    with pytest.raises(InvalidDataset, match="rename"):
        data_argument(tmp_path, Description("detection", ("a",)), ("train",), tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"\0" * 40])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, content: bytes) -> None:
    from visionloop.training.pytorch import checkpoint

    path = tmp_path / "epoch_1.pt"
    path.write_bytes(content)
    with pytest.raises(InvalidReceipt, match=r"epoch_1\.pt"):
        checkpoint.read(path)
    with pytest.raises(InvalidReceipt, match=r"epoch_1\.pt"):
        TRAINER.predictor(path)
