"""Batch, shared memory, disk and the GPU's memory against what a training needs."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from machines import planned

from visionloop.core.errors import InvalidConfig, SickMachine, VisionloopError
from visionloop.data.images import ImageCache, ImageRow
from visionloop.training.preflight import batch, memory, shared_memory
from visionloop.training.preflight.memory import Least
from visionloop.training.preflight.planned import computes_with_torch
from visionloop.training.pytorch.memory import check_memory

GIB = 2**30
CONFIG = {"model": "vit_giant.yaml", "optimizer": "AdamW", "momentum": 0.9, "imgsz": 640, "batch": 16}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 301}, "batch is 301, but train has 100 images, and 3 epochs see 300: not one step would be as asked; give batch=100"),
        ({"batch": 3, "device": "0,1,2,3"}, "batch is 3, and 4 devices share it: give batch=4 at least"),
    ],
)  # fmt: skip
def test_a_batch_that_can_not_be_filled_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        batch.check(planned(**changes))
    assert said in refused.value.sentence


def test_a_batch_of_all_images_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert batch.check(planned(batch=100)) == "batch 100 of 100 images"
    assert caplog.text == ""
    assert batch.check(planned(batch=101)) == "batch 101 of 100 images"
    assert "batch is 101 and train has 100 images, so each epoch is one step of 100; batch=50 or less" in caplog.text
    assert batch.check(planned(images=None, batch=10**6)) is None
    assert batch.check(planned(images=4, epochs=1, batch_asked=False)) == "batch 16 of 4 images"


def test_loading_processes_without_shared_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "free_shared_memory", lambda: 64 * 2**20)
    with pytest.raises(InvalidConfig) as refused:
        shared_memory.check(planned())
    assert refused.value.sentence.startswith(
        "/dev/shm has 64 MiB free, and a process that loads images in batches of 16 at imgsz 640 needs 225 MiB: give it more"
    )
    assert shared_memory.check(planned(batch=4)) == "/dev/shm 64 MiB"
    assert shared_memory.check(planned(workers=0)) is None
    assert shared_memory.check(planned(torch=False)) is None


@pytest.mark.parametrize(
    ("free", "total", "kind", "said"),
    [
        (80, 80, None, ""),
        (20, 24, InvalidConfig, "model vit_giant.yaml takes at least 40.0 GiB in training, and the GPU has 24.0 GiB: give a smaller model"),
        (40, 40, InvalidConfig, "model vit_giant.yaml with the images of a batch takes at least 40.1 GiB, and the GPU has 40.0 GiB: lower batch (16)"),
        (30, 80, SickMachine, "model vit_giant.yaml takes at least 40.1 GiB in training, and other processes have left 30.0 GiB of the GPU's 80.0 GiB"),
    ],
)  # fmt: skip
def test_a_model_that_can_not_fit_is_refused(
    free: int, total: int, kind: type[VisionloopError] | None, said: str
) -> None:
    least = Least.of(CONFIG, weights=8 * GIB, trained=8 * GIB, averaged=True, batch=16)
    if kind is None:
        memory.check(least, free * GIB, total * GIB, CONFIG)
        return
    with pytest.raises(kind) as refused:
        memory.check(least, free * GIB, total * GIB, CONFIG)
    assert refused.value.sentence.startswith(said)


@pytest.mark.parametrize(
    ("optimizer", "momentum", "model"),
    [("SGD", 0.0, 2), ("SGD", 0.9, 3), ("AdamW", 0.9, 4), ("auto", 0.9, 3), ("RMSProp", 0.9, 3)],
)
def test_what_a_training_takes_at_the_least(optimizer: str, momentum: float, model: int) -> None:
    config = {**CONFIG, "optimizer": optimizer, "momentum": momentum}
    assert Least.of(config, weights=10, trained=10, averaged=False, batch=2) == Least(model * 10, 2 * 640 * 640 * 12)
    assert Least.of(config, weights=10, trained=10, averaged=True, batch=2).model == (model + 1) * 10


def test_what_is_frozen_has_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Least] = []
    monkeypatch.setattr(memory, "check", lambda least, *_: asked.append(least))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, 2))
    model = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.BatchNorm1d(10, affine=False))
    rest = {"config": {**CONFIG, "optimizer": "SGD"}, "averaged": False, "batch": 1}
    gpu = torch.device("cuda:0")
    check_memory(model, gpu, trained=True, **rest)  # type: ignore[arg-type]
    model[0].requires_grad_(False)
    check_memory(model, gpu, trained=True, **rest)  # type: ignore[arg-type]
    buffers = 10 * 4 * 2 + 8
    assert [least.model for least in asked] == [3 * 400 + buffers, 400 + buffers]
    check_memory(model, torch.device("cpu"), trained=True, **rest)  # type: ignore[arg-type]
    assert len(asked) == 2


def test_images_that_are_copied_have_to_fit_on_the_disk_of_the_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, view = ImageCache(tmp_path / "cache"), tmp_path / "view"
    view.mkdir()
    rows = [ImageRow("a.png", "images/a.png", 4_000_000, "etag", None, "train", 64, 48)] * 3
    space = shutil.disk_usage(view)._replace(free=11_000_000, total=20_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: space)
    cache.check_copies(view, rows)  # on one disk they are linked
    status = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **more: SimpleNamespace(st_dev=1) if path == view else status(path, **more)
    )
    with pytest.raises(SickMachine, match=r"12\.0 MB of images are copied, and has 11\.0 MB left"):
        cache.check_copies(view, rows)
    with pytest.raises(InvalidConfig, match=r"24\.0 MB of images are copied, and has 20\.0 MB in all"):
        cache.check_copies(view, rows * 2)
    cache.check_copies(view, rows[:2])


def test_a_trainer_computes_with_torch_if_its_models_need_it() -> None:
    assert computes_with_torch(SimpleNamespace(requirements=lambda: ["timm==1", "torch==2.15.0"]))  # type: ignore[arg-type]
    assert not computes_with_torch(SimpleNamespace(requirements=lambda: ["torchvision==1"]))  # type: ignore[arg-type]
