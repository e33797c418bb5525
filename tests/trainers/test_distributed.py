"""Trainings on several devices: two processes on the CPU do what two GPUs would."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import distributed_training as small
import psutil
import pytest
import rank_programs
import torch
import ultralytics_ranks
import ultralytics_training as tiny
from distributed_training import Learner, job
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig, InvalidDataset, Killed, OutOfMemory
from visionloop.training.configuration.settings import settings_of
from visionloop.training.devices import Device
from visionloop.training.pytorch import checkpoint, distributed, training
from visionloop.training.pytorch.loading import BatchOrder
from visionloop.training.pytorch.ranks import Member
from visionloop.training.pytorch.training import finalise, train, train_on
from visionloop.training.trainers import Trainer, TrainingJob, TrainingResult

TWO = ("cpu", "cpu")

#: What stands for two GPUs where a trainer is asked.
CPUS = "cpu, cpu"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks find what they run by its module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(small.__file__).parent))


def trained(folder: Path, listener: tiny.Keeping, **changes: Any) -> TrainingResult:
    """A training in two processes."""
    wanted = job(folder / "work", **changes)
    return finalise(train_on(TWO, wanted, listener, Learner), wanted)


BEFORE: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def processes_before() -> None:
    """Notes what runs already: servers of other tests are none of a training's processes."""
    BEFORE.clear()
    BEFORE.update(psutil.Process().children(recursive=True))


def children() -> list[str]:
    return [" ".join(process.cmdline()) for process in set(psutil.Process().children(recursive=True)) - BEFORE]


# How processes are started, heard and ended


def test_ranks_know_their_numbers_and_the_first_alone_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener, wanted = tiny.Keeping(tmp_path / "store"), job(tmp_path / "work")
    assert distributed.run(rank_programs.variables, wanted, listener, 3) == wanted.work / "0.txt"
    assert sorted(path.name for path in wanted.work.iterdir() if path.is_dir()) == ["rank_1", "rank_2"]
    assert [(wanted.work / f"{rank}.txt").read_text() for rank in range(3)] == ["0 0 3", "1 1 3", "2 2 3"]
    assert listener.used == {"val": ["0.png"]}
    assert [record.getMessage() for record in caplog.records] == ["rank 0 speaks"]
    assert children() == []


def test_the_listener_stops_all_ranks(tmp_path: Path) -> None:
    listener, wanted = tiny.Keeping(tmp_path / "store", stop_after=3), job(tmp_path / "work")
    assert distributed.run(rank_programs.until_stopped, wanted, listener, 2) == wanted.work / "3.pt"
    assert [report.epoch for report in listener.reports] == [1, 2, 3]
    assert listener.batches == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("killed", Killed, r"The training process was killed \(SIGKILL\)"),
        ("told", Killed, r"The training process was killed \(SIGKILL\)"),
        ("data", InvalidDataset, "The picture 3.png is torn; replace it."),
        ("defect", KeyError, "unknown"),
        ("strange", RuntimeError, "Strange: "),
    ],
)
def test_the_rank_that_is_the_cause_ends_all(tmp_path: Path, how: str, kind: type[Exception], text: str) -> None:
    wanted = job(tmp_path / "work")
    with pytest.raises(kind, match=text) as raised:
        distributed.run(functools.partial(rank_programs.one_ends, how), wanted, tiny.Keeping(tmp_path / "store"), 2)
    if kind in (KeyError, RuntimeError):
        assert "rank_programs.py" in str(raised.value.__cause__)
    rank, child = (int(pid) for pid in (wanted.work / "pids").read_text().split())
    assert not _lives(rank)
    if how == "told":  # this rank ended by itself and left its child behind
        psutil.Process(child).kill()
    while _lives(child):
        time.sleep(0.01)


def test_an_error_of_the_listener_ends_all_ranks(tmp_path: Path) -> None:
    class Broken(tiny.Keeping):
        def batch(self, epoch: int, batch: int, batches: int) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        distributed.run(rank_programs.until_stopped, job(tmp_path / "work"), Broken(tmp_path / "store"), 2)
    assert children() == []


def test_no_rank_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    start = "import sys, rank_programs; rank_programs.main(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", start, str(tmp_path)])
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None
        time.sleep(0.01)
    pids = [int(file.read_text()) for file in files]
    process.kill()
    process.wait()
    while any(_lives(pid) for pid in pids):
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# The loop


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 40), st.integers(1, 5))
def test_the_ranks_share_each_batch_and_no_image_comes_twice(
    images: int, effective: int, batch: int, world: int
) -> None:
    whole = BatchOrder(images, effective, batch, 0)
    ranks = [BatchOrder(images, effective, batch, 0, Member(rank, world)) for rank in range(world)]
    given_out = [iter(rank) for rank in ranks]
    sizes = chain(*whole.steps)
    for indices, size in zip(whole, sizes, strict=True):
        shares = [next(order) if rank.share(size) else [] for rank, order in zip(ranks, given_out, strict=True)]
        assert list(chain(*shares)) == indices
        assert [len(share) for share in shares] == [rank.share(size) for rank in ranks]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [next(order, None) for order in given_out] == [None] * world
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks]


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.read(path)["model"]
    return state


def test_each_process_has_the_first_ones_weights_and_the_sum_of_all_gradients(tmp_path: Path) -> None:
    wanted = job(tmp_path / "work")
    assert distributed.run(small.one_step, wanted, tiny.Keeping(tmp_path / "store"), 2) == wanted.work / "0.pt"
    torch.manual_seed(0)
    alone = small.Model(normalised=False, dropout=0.0)
    for points in small.SHARES:
        small.add_gradients(alone, points)
    for rank in range(2):
        begun, summed = torch.load(wanted.work / f"{rank}.pt")
        for name, value in alone.state_dict().items():
            assert torch.equal(begun[name], value)
        for name, parameter in alone.named_parameters():
            # One process alone has asked for the part `rare`; nobody for `unused`, which stays without a gradient.
            assert (summed[name] is None) == (parameter.grad is None) == name.startswith("unused")
            torch.testing.assert_close(summed[name], parameter.grad)
    assert children() == []


@pytest.mark.slow
def test_two_processes_train_as_smaller_batches_on_one_device_do(tmp_path: Path) -> None:
    single, double = tiny.Keeping(tmp_path / "one"), tiny.Keeping(tmp_path / "two")
    alone = train(job(tmp_path / "alone", batch=4), single, Learner)
    together = trained(tmp_path / "together", double)
    for epoch in (1, 2):
        expected, result = (weights(heard.store / f"epoch_{epoch}.pt") for heard in (single, double))
        assert expected.keys() == result.keys()
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value)
    for report, other in zip(single.reports, double.reports, strict=True):
        assert report.train_metrics == pytest.approx(other.train_metrics)
        assert report.val_metrics == pytest.approx(other.val_metrics)
    assert (together.epochs, together.best_epoch, together.batch) == (2, alone.best_epoch, 8)
    assert double.used == single.used
    # 21 images are three steps, and a batch of the validation.
    assert double.batches == [(epoch, batch, 4) for epoch in (1, 2) for batch in (1, 2, 3, 4)]
    assert [report.train_batches for report in double.reports] == [3, 3]  # the fourth is validation's
    assert children() == []


@pytest.mark.matrix
def test_a_batch_smaller_than_the_devices_trains_as_on_one(tmp_path: Path) -> None:
    single, double = tiny.Keeping(tmp_path / "one"), tiny.Keeping(tmp_path / "two")
    few: dict[str, Any] = {"batch": 1, "images": 3, "dropout": 0.0}
    train(job(tmp_path / "alone", **few), single, Learner)
    trained(tmp_path / "together", double, **few)
    for name, value in weights(single.store / "epoch_2.pt").items():
        torch.testing.assert_close(weights(double.store / "epoch_2.pt")[name], value)


@pytest.mark.matrix
def test_a_training_that_was_killed_ends_in_equal_bytes(tmp_path: Path) -> None:
    """With normalisations, whose statistics differ between the processes, and a moving average."""
    wanted: dict[str, Any] = {"epochs": 3, "normalised": True, "model_ema": True}
    whole = trained(tmp_path / "whole", tiny.Keeping(tmp_path / "1"), **wanted)
    stopped = trained(tmp_path / "stopped", tiny.Keeping(tmp_path / "2", stop_after=1), **wanted)
    assert stopped.epochs == 1
    with pytest.raises(Killed):
        trained(tmp_path / "killed", tiny.Keeping(tmp_path / "3"), fails="killed", **wanted)
    listener = tiny.Keeping(tmp_path / "4")
    resumed = trained(tmp_path / "resumed", listener, checkpoint=tmp_path / "2" / "epoch_1.pt", **wanted)
    assert [report.epoch for report in listener.reports] == [2, 3]
    assert resumed.best.read_bytes() == whole.best.read_bytes()
    assert resumed.last.read_bytes() == whole.last.read_bytes()
    assert list(resumed.history) == list(whole.history)
    assert children() == []


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("killed", Killed, "was killed"),
        ("data", InvalidDataset, "The picture 3.png is torn"),
        ("memory", OutOfMemory, "CUDA out of memory. Try reducing batch size: batch is 8"),
        ("defect", KeyError, "unknown"),
    ],
)
def test_a_rank_that_fails_ends_the_training_with_its_own_error(
    tmp_path: Path, how: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        trained(tmp_path, tiny.Keeping(tmp_path / "store"), fails=how, workers=1)
    assert children() == []


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("cpu,cpu", "device is cpu,cpu, but several devices are GPUs by their numbers"),
        ("0,99", "device is 0,99, but .* can be used on this machine"),
    ],
)
def test_devices_that_are_not_there_start_no_process(
    tmp_path: Path, device: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "run", None)
    with pytest.raises(InvalidConfig, match=text):
        train(job(tmp_path / "work", device=device), tiny.Keeping(tmp_path / "store"), Learner)
    with pytest.raises(InvalidConfig, match=text):
        by_trainer("ultralytics", tmp_path, tiny.Keeping(tmp_path / "kept"), device)


# The trainers


#: A small model of each trainer, and its task.
SMALL = {
    "ultralytics": ("detection", "yolo11n.yaml"),
    "timm": ("classification", "test_resnet.yaml"),
    "torchvision": ("detection", "fcos_tiny.yaml"),
    "transformers": ("detection", "rtdetr_tiny.yaml"),
}


def by_trainer(name: str, dataset: Path, listener: tiny.Keeping, devices: str, **changes: Any) -> TrainingResult:
    """A training by a trainer's own method; `CPUS` stands for two GPUs."""
    trainer: Trainer = import_module(f"visionloop.training.trainers.{name}").TRAINER
    task, model = SMALL[name]
    usual = {setting: value.default for setting, value in settings_of(trainer, task).items()}
    own = {"model": model, "imgsz": 64, "epochs": 2, "batch": 4, "workers": 1, "device": devices, "lr0": 0.001}
    files = {part: changes.pop(part, None) for part in ("checkpoint", "fits")}
    work = listener.store / "work"
    work.mkdir()
    wanted = TrainingJob(
        task, dataset, tiny.CLASSES, usual | own | changes, None, work, files["checkpoint"], files["fits"] or 4
    )
    with pytest.MonkeyPatch.context() as patch:
        if devices == CPUS:
            patch.setattr(training, "resolve_device", lambda device: Device(device, "the CPU, twice"))
        return trainer.train(wanted, listener)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name in SMALL if name != "ultralytics"])
def test_each_trainer_trains_on_two_devices_and_resumes_to_equal_bytes(tmp_path: Path, name: str) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 8, "val": 3}, task=SMALL[name][0])
    # A batch of four is what two of two are on one device, but for the statistics of normalisations, which no training reads.
    single, double = tiny.Keeping(tmp_path / "one"), tiny.Keeping(tmp_path / "two")
    by_trainer(name, dataset, single, "cpu", fits=2)
    whole = by_trainer(name, dataset, double, CPUS)
    expected, result = (weights(heard.store / "epoch_1.pt") for heard in (single, double))
    for part, value in expected.items():
        if "running_" not in part and value.is_floating_point():
            torch.testing.assert_close(result[part], value, msg=part)
    assert whole.batch == 4
    stopped = by_trainer(name, dataset, tiny.Keeping(tmp_path / "three", stop_after=1), CPUS)
    assert stopped.epochs == 1
    resumed = by_trainer(
        name, dataset, tiny.Keeping(tmp_path / "four"), CPUS, checkpoint=tmp_path / "three" / "epoch_1.pt"
    )
    assert list(resumed.history) == list(whole.history)
    assert resumed.best.read_bytes() == whole.best.read_bytes()
    assert resumed.last.read_bytes() == whole.last.read_bytes()
    assert children() == []


# Ultralytics


def ultralytics(folder: Path, dataset: Path, store: Path, stop_after: int = 0, **changes: Any) -> TrainingResult:
    """A training of the library's own distributed kind, in two processes."""
    from visionloop.training.trainers.ultralytics.training import finalise as finalised

    listener, wanted = tiny.Keeping(store, stop_after=stop_after), tiny.job(dataset, folder, **changes)
    result = finalised(distributed.run(ultralytics_ranks.rank, wanted, listener, 2), wanted)
    assert {path.name for path in folder.rglob("*.pt")} == {
        result.last.name,
        result.best.name,
        f"epoch_{result.epochs}.pt",
    }
    return result


@pytest.mark.matrix
@pytest.mark.parametrize("task", ["detection", "classification"])
def test_ultralytics_trains_in_two_processes_and_resumes_to_equal_bytes(tmp_path: Path, task: str) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 9, "val": 3}, task=task)
    # A step is two batches of each rank, so that gradients are carried over an epoch's end.
    wanted: dict[str, Any] = {"task": task, "epochs": 3, "nbs": 8, "batch": 4, "warmup_epochs": 0.0}
    whole = ultralytics(tmp_path / "whole", dataset, tmp_path / "1", **wanted)
    stopped = ultralytics(tmp_path / "stopped", dataset, tmp_path / "2", stop_after=1, **wanted)
    assert stopped.epochs == 1
    assert checkpoint.read(tmp_path / "2" / "epoch_1.pt")["gradients"]
    resumed = ultralytics(
        tmp_path / "resumed", dataset, tmp_path / "3", checkpoint=tmp_path / "2" / "epoch_1.pt", **wanted
    )
    assert (whole.epochs, resumed.epochs, whole.batch) == (3, 3, 4)
    assert list(resumed.history) == list(whole.history)
    assert resumed.best.read_bytes() == whole.best.read_bytes()
    assert resumed.last.read_bytes() == whole.last.read_bytes()
    assert children() == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", SMALL)
def test_two_gpus_train_stop_and_resume(tmp_path: Path, name: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices here; make gpu-test runs it on a machine that has them")
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 9, "val": 3}, task=SMALL[name][0])
    listener = tiny.Keeping(tmp_path / "stopped", stop_after=1)
    assert by_trainer(name, dataset, listener, "0,1").epochs == 1
    assert all(report.peak_gpu_bytes for report in listener.reports)
    listener = tiny.Keeping(tmp_path / "resumed")
    resumed = by_trainer(name, dataset, listener, "0,1", checkpoint=tmp_path / "stopped" / "epoch_1.pt")
    assert [report.epoch for report in listener.reports] == [2]
    assert (resumed.epochs, len(resumed.history), resumed.batch) == (2, 2, 4)
    assert children() == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in SMALL if name != "ultralytics"])
def test_a_gpus_checkpoint_resumes_there_and_on_the_processor(tmp_path: Path, name: str) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 9, "val": 3}, task=SMALL[name][0])
    listener = tiny.Keeping(tmp_path / "stopped", stop_after=1)
    assert by_trainer(name, dataset, listener, "0", amp=True).epochs == 1
    assert all(report.peak_gpu_bytes for report in listener.reports)
    for device in ("0", "cpu"):
        listener = tiny.Keeping(tmp_path / f"on {device}")
        resumed = by_trainer(name, dataset, listener, device, amp=True, checkpoint=tmp_path / "stopped" / "epoch_1.pt")
        assert ([report.epoch for report in listener.reports], resumed.epochs) == ([2], 2)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in SMALL if name != "ultralytics"])
def test_a_gpus_memory_runs_out(tmp_path: Path, name: str) -> None:
    dataset = tiny.write_dataset(tmp_path / "dataset", {"train": 600, "val": 2}, task=SMALL[name][0])
    with pytest.raises(OutOfMemory, match="batch is 600, imgsz 4096"):
        by_trainer(name, dataset, tiny.Keeping(tmp_path / "store"), "0", batch=600, fits=600, imgsz=4096)
