"""What trainers on PyTorch share: order and size of batches, the learning rate, the moving average, model files, starting weights."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import (
    InvalidConfig,
    InvalidDataset,
    InvalidReceipt,
    SickMachine,
    Transient,
    VisionloopError,
)
from visionloop.training.pytorch import models, settings
from visionloop.training.pytorch.failures import translated
from visionloop.training.pytorch.optimizers import Rates, optimizer_of
from visionloop.training.pytorch.starting import Head, Starting, described, fill, read


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers"])
def test_importing_a_trainer_imports_no_library(name: str) -> None:
    code = (
        f"import sys; from visionloop.training.trainers.{name} import TRAINER; (task,) = list(TRAINER.tasks)[:1]; "
        "TRAINER.settings(task); TRAINER.is_architecture('x.yaml'); TRAINER.normalise({}, task); "
        "sys.exit(bool({'torch', 'timm', 'torchvision', 'transformers', 'cv2', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.integers(1, 500), st.integers(1, 70), st.integers(1, 70), st.integers(0, 3))
def test_each_image_comes_once_an_epoch_in_batches_of_nearly_one_size(
    images: int, effective: int, batch: int, seed: int
) -> None:
    from visionloop.training.pytorch.loading import BatchOrder

    order = BatchOrder(images, effective, batch, seed)
    first = [list(indices) for indices in order]
    assert sorted(chain(*first)) == list(range(images))
    assert [len(indices) for indices in first] == [size for step in order.steps for size in step]
    steps = [sum(sizes) for sizes in order.steps]
    assert max(steps) <= effective
    assert max(steps) - min(steps) <= 1
    assert all(max(sizes) <= batch for sizes in order.steps)
    assert len(order) == len(first)
    assert [list(indices) for indices in order] == first
    # Whatever fits into memory at once, the images of a step are the same.
    whole = BatchOrder(images, effective, images, seed)
    assert [sorted(indices) for indices in whole] == [sorted(chain(*step)) for step in _by_step(first, order.steps)]


def _by_step(batches: list[list[int]], steps: list[list[int]]) -> list[list[list[int]]]:
    rest = iter(batches)
    return [[next(rest) for _ in sizes] for sizes in steps]


def test_the_order_changes_with_the_epoch_and_the_seed() -> None:
    from visionloop.training.pytorch.loading import BatchOrder

    orders = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1)):
        order = BatchOrder(50, 8, 8, seed)
        order.epoch = epoch
        orders.append(list(chain(*order)))
    assert len({tuple(order) for order in orders}) == 3


class Unpicklable(ValueError):
    """An error that no other process can make again."""

    def __init__(self, more: object, text: str) -> None:
        super().__init__(text)


class Broken:
    """A dataset in which reading the third image raises an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise self.error
        return index


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ValueError("a defect"), ValueError),
        (InvalidDataset("2.png is broken."), InvalidDataset),
        (Unpicklable(None, "a defect"), (Unpicklable, RuntimeError)),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), SickMachine),
        (RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)"), Transient),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_error_in_a_process_that_loads_images_is_the_error_itself(
    error: Exception, raised: type[Exception], workers: int
) -> None:
    from visionloop.training.pytorch.loading import Loader

    loader = Loader(Broken(error), 2, workers=workers)
    assert len(loader) == 2
    with pytest.raises(raised) as caught, translated(4, 64):
        list(loader)
    assert len(str(caught.value)) < 250
    if not isinstance(caught.value, VisionloopError):
        assert str(error) in str(caught.value)


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d(4), torch.nn.GroupNorm(4, 4), torch.nn.InstanceNorm2d(4)])
def test_a_normalisation_with_one_value_is_told(norm: torch.nn.Module) -> None:
    with pytest.raises(InvalidConfig, match=r"batch is 1, imgsz 32.*larger batch or imgsz"), translated(1, 32):
        norm(torch.zeros(1, 4, 1, 1))


def test_the_learning_rate_rises_then_falls() -> None:
    config = {"lr0": 1.0, "lrf": 0.1, "warmup_epochs": 2.0, "cos_lr": False}
    rates = Rates.of(config, steps=5, epochs=10)
    values = [rates.at(step) for step in range(50)]
    assert values[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(values) == values[9] == values[10] == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[-1] == pytest.approx(0.1)
    assert values[10] - values[11] == pytest.approx(values[-2] - values[-1])
    cosine = Rates.of(config | {"cos_lr": True}, steps=5, epochs=10)
    assert cosine.at(10) - cosine.at(11) < cosine.at(29) - cosine.at(30)
    assert Rates.of(config, steps=5, epochs=2).warmup == 5
    assert Rates.of(config, steps=1, epochs=1).at(0) == 1.0


@pytest.mark.parametrize("name", settings.OPTIMIZATION["optimizer"].choices)
def test_normalisations_and_biases_do_not_decay(name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    config = {"optimizer": name, "lr0": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    decayed, other = optimizer_of(model, config).param_groups
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 3)]
    assert (decayed["weight_decay"], other["weight_decay"], len(other["params"])) == (0.5, 0.0, 3)
    for parameter in model.parameters():
        parameter.requires_grad = parameter.ndim > 1
    assert len(optimizer_of(model, config).param_groups) == 1


def test_the_average_follows_the_model_and_starts_again_where_it_was() -> None:
    from visionloop.training.pytorch.loop import Averaged

    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    average = Averaged(model, 0.5)
    states = []
    for step in range(4):
        state = model.state_dict()
        state["0.weight"].fill_(step)
        state["1.num_batches_tracked"].fill_(step)
        average.update()
        if step == 1:
            kept = {**average.state(), "model": {k: v.clone() for k, v in average.state()["model"].items()}}
            resumed = Averaged(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1)), 0.5)
            resumed.restore(kept)
        states.append(_weight(average.model))
    # The first step is taken as it is; then the average keeps 3/12, 4/13 and 5/14, and half of it at most.
    assert states == pytest.approx([0, 3 / 4, 1.61538, 1.61538 * 5 / 14 + 3 * 9 / 14], abs=1e-4)
    assert int(average.model[1].num_batches_tracked) == 3  # type: ignore[index,arg-type]
    for step in (2, 3):
        with torch.no_grad():
            resumed._model[0].weight.fill_(step)  # type: ignore[index]
        resumed.update()
    assert _weight(resumed.model) == states[3]
    assert Averaged(model, None).model is model
    assert Averaged(model, None).state() == {}


def _weight(model: torch.nn.Module) -> float:
    return float(model.state_dict()["0.weight"])


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    weights = {name: torch.arange(6.0).reshape(2, 3) for name in ("b", "a")}
    description = {"classes": ["one", "zwei", "셋"], "architecture": "x", "imgsz": 64}
    files = {models.write(weights, description, tmp_path / f"{number}.safetensors").read_bytes() for number in range(5)}
    assert len(files) == 1
    about, tensors = models.read(tmp_path / "0.safetensors")
    assert about == description
    assert torch.equal(tensors["a"], weights["a"])


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(InvalidReceipt, match="can't be loaded: train it again"):
        models.read(tmp_path / "best.safetensors")


def _model(classes: int) -> torch.nn.Module:
    return torch.nn.ModuleDict({"body": torch.nn.Linear(3, 2), "head": torch.nn.Linear(2, classes + 1)})


HEADS = [Head("head.weight", 1, 1), Head("head.bias", 1, 1)]


def test_a_class_keeps_its_rows_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    old, new = _model(3), _model(3)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    fill(
        new, Starting("models:/x@champion", old.state_dict(), ("Car", "bus", "van"), {}), HEADS, ("bus", "tram", "car")
    )
    assert torch.equal(new.state_dict()["body.weight"], old.state_dict()["body.weight"])
    for name in ("head.weight", "head.bias"):
        was, now = old.state_dict()[name], new.state_dict()[name]
        assert torch.equal(now[0], was[0])  # the background
        assert torch.equal(now[1], was[2])
        assert torch.equal(now[2], fresh[name][2])
        assert torch.equal(now[3], was[1])
    assert "2 go on by their names; tram is new, van is dropped" in caplog.text


def test_weights_without_class_names_tell_that_classes_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    old, new = _model(2), _model(2)
    fresh = new.state_dict()["head.weight"].clone()
    fill(new, Starting("x.pth", old.state_dict()), HEADS, ("a", "b"))
    assert torch.equal(new.state_dict()["head.weight"], fresh)
    assert "name no classes, so what tells classes apart begins anew" in caplog.text


def test_weights_of_another_architecture_are_refused() -> None:
    other = torch.nn.Linear(7, 7).state_dict()
    with pytest.raises(InvalidConfig, match=r"of the 2 tensors of this model the starting weights x\.pth have 0"):
        fill(_model(2), Starting("x.pth", other), HEADS, ("a", "b"))


MODEL_FILES = {
    "timm": ("classification", {"architecture": "x", "mean": [], "std": [], "interpolation": "x", "crop_pct": 1}),
    "torchvision": ("pose", {"task": "pose", "max_det": 9, "architecture": "x", "keypoints": [], "iou": 0.7}),
    "transformers": ("detection", {"task": "detection", "max_det": 9, "family": "x", "configuration": {}}),
}


@pytest.mark.parametrize("of", MODEL_FILES)
@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_model_file_is_one_trainers(name: str, of: str) -> None:
    about = import_module(f"visionloop.training.trainers.{name}.model").Description
    task, values = MODEL_FILES[of]
    weights = Starting("models:/x@champion", {}, (), {"classes": ["a"], "imgsz": 64, **values})
    if name != of:
        with pytest.raises(
            InvalidConfig, match=rf"^the starting weights \S+ are of another trainer than {name}: choose"
        ):
            described(weights, about, name, task)
        return
    assert described(weights, about, name, task) == weights.description
    if "task" in values:
        with pytest.raises(InvalidConfig, match=f"are for {task}, not for segmentation: choose others"):
            described(weights, about, name, "segmentation")


def test_tensors_that_are_missing_and_those_of_another_shape_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for missing, other, entry in (
        (["body.0.bias"], [], "of the model's 6 tensors the starting weights x lack 1: it begins anew"),
        ([], ["body.0.bias"], "of the model's 6 tensors the starting weights x have 1 in another shape (body.0.bias)"),
        (["body.0.bias"], ["body.1.bias"], "lack 1, and have 1 in another shape (body.1.bias): they begin anew"),
    ):
        model = torch.nn.ModuleDict({"body": torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))})
        tensors = {name: value for name, value in model.state_dict().items() if name not in missing}
        fill(model, Starting("x", tensors | {name: torch.zeros(9) for name in other}), [], ())
        assert entry in caplog.text
        caplog.clear()


def test_weights_come_in_the_forms_of_training_scripts(tmp_path: Path) -> None:
    state = _model(2).state_dict()
    forms = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "averaged": {"model": {"other": torch.zeros(1)}, "model_ema": state},
        "wrapped": {"model": {f"module.{name}": value for name, value in state.items()}, "optimizer": {"lr": 1}},
    }
    for name, content in forms.items():
        torch.save(content, tmp_path / f"{name}.pth")
        assert set(read(tmp_path / f"{name}.pth", name).tensors) == set(state), name
    from safetensors.torch import save_file

    save_file(state, tmp_path / "x.safetensors")
    assert set(read(tmp_path / "x.safetensors", "x").tensors) == set(state)
    own = models.write(state, {"classes": ["a", "b"]}, tmp_path / "own.pt")
    assert read(own, "own").classes == ("a", "b")


def test_weights_that_are_objects_are_never_executed(tmp_path: Path) -> None:
    torch.save(SimpleNamespace(weights=1), tmp_path / "object.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("object.pt", "text.pt", "text.safetensors"):
        with pytest.raises(InvalidConfig, match="can't be read as tensors by name"):
            read(tmp_path / name, name)
    with pytest.raises(InvalidConfig, match="hold no tensors by name"):
        read(tmp_path / "list.pt", "list.pt")


def test_what_the_loop_does_not_do_is_refused() -> None:
    assert settings.normalise({"optimizer": " adamw ", "cache": False, "device": "0,1"})["optimizer"] == "AdamW"
    with pytest.raises(InvalidConfig, match="keeps no decoded images: leave cache out"):
        settings.normalise({"cache": "ram"})


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    path = models.write({"a": torch.zeros(1)}, {"classes": ["x"]}, tmp_path / "m")
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"] == {"visionloop": '{"classes": ["x"]}'}
