"""What torch says of a machine's GPUs: drivers, architectures, and the exchange of several, without a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from machines import driver, planned

from visionloop.core.errors import InvalidConfig, SickMachine, VisionloopError
from visionloop.training.preflight import gpus
from visionloop.training.preflight.gpus import Exchange, Gpu, TorchFacts
from visionloop.training.pytorch import probe

H200, V100 = Gpu("NVIDIA H200", (9, 0)), Gpu("Tesla V100-SXM2-16GB", (7, 0))

#: What torch 2.15 says on a machine with two H200.
FACTS = TorchFacts(
    torch="2.15.0+cu132",
    cuda="13.2",
    driver=13020,
    architectures=["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    gpus=[H200, H200],
    others=[],
    reason="",
)

#: The same with a driver of the time of CUDA 12.4.
OLD_DRIVER = msgspec.structs.replace(
    FACTS, driver=12040, gpus=[], reason="The NVIDIA driver on your system is too old (found version 12040)"
)

POD = {"VISIONLOOP_POD_GPUS": "1"}


@pytest.mark.parametrize(
    ("device", "driver", "said"),
    [
        (None, 13020, "GPU 0 (NVIDIA H200)"),
        ("1", 13000, "GPU 1 (NVIDIA H200)"),  # within a major version each driver serves
        ("0,1", 13020, "GPU 0 (NVIDIA H200) and GPU 1 (NVIDIA H200), NCCL"),
        ("cpu", 13020, None),
    ],
)
def test_gpus_that_can_be_used_are_named(device: str | None, driver: int, said: str | None) -> None:
    facts = msgspec.structs.replace(FACTS, driver=driver)
    assert gpus.judged(device, facts, Exchange(""), {}) == said


@pytest.mark.parametrize(
    ("device", "facts", "environment", "kind", "said"),
    [
        (None, OLD_DRIVER, POD, SickMachine, "the driver knows CUDA 12.4 and torch 2.15.0+cu132 needs 13.2: install a newer driver"),
        ("0", OLD_DRIVER, {}, InvalidConfig, "the driver knows CUDA 12.4 and torch 2.15.0+cu132 needs 13.2"),
        ("2", FACTS, {}, InvalidConfig, "device is 2, but 2 GPUs can be used on this machine"),
        (None, msgspec.structs.replace(FACTS, gpus=[], reason="CUDA unknown error"), POD, SickMachine, "This pod was given 1 GPU, and no GPU can be used (CUDA unknown error)"),
        (None, msgspec.structs.replace(FACTS, gpus=[V100]), {}, SickMachine, "GPU 0 (Tesla V100-SXM2-16GB) has compute capability 7.0, and torch 2.15.0+cu132 is compiled for sm_75"),
        ("0", msgspec.structs.replace(FACTS, cuda=None, architectures=[], gpus=[], reason="Torch not compiled with CUDA enabled"), {}, InvalidConfig, "Torch not compiled with CUDA enabled"),
    ],
)  # fmt: skip
def test_gpus_that_torch_can_not_use_are_refused(
    device: str | None, facts: TorchFacts, environment: dict[str, str], kind: type[VisionloopError], said: str
) -> None:
    with pytest.raises(kind) as refused:
        gpus.judged(device, facts, None, environment)
    assert said in refused.value.sentence


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (None, "no answer in 60 s"),
        (Exchange("NCCL Error 2: unhandled system error"), "NCCL Error 2: unhandled system error"),
    ],
)
def test_gpus_that_can_not_exchange_values_are_refused(exchange: Exchange | None, said: str) -> None:
    with pytest.raises(SickMachine) as refused:
        gpus.judged("0,1", FACTS, exchange, {})
    assert refused.value.sentence.startswith(f"GPUs 0 and 1 of this machine can't exchange values by NCCL ({said})")
    assert gpus.judged("0", FACTS, exchange, {})  # one has nobody to exchange with


def test_a_gpu_that_torch_can_not_use_is_told_where_nobody_asked_for_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert gpus.judged(None, OLD_DRIVER, None, {}) is None
    assert "torch can't use it (the driver knows CUDA 12.4" in caplog.text


@pytest.mark.parametrize(
    ("capability", "architectures", "compiled"),
    [
        ((8, 9), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((7, 0), ["compute_75"], False),
        ((7, 0), [], True),
    ],
)
def test_which_gpus_code_runs_on(capability: tuple[int, int], architectures: list[str], compiled: bool) -> None:
    assert gpus.is_compiled_for(capability, architectures) == compiled


def test_torch_is_not_asked_where_nothing_speaks_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(device: str, _: object) -> tuple[TorchFacts, Exchange]:
        asked.append(device)
        return FACTS, Exchange("")

    monkeypatch.setattr(gpus, "asked", ask)
    monkeypatch.setenv("PATH", str(tmp_path))
    for training in (planned(), planned(device="cpu"), planned(device="0", torch=False)):
        assert gpus.check(training, {}) is None
    assert asked == []
    assert gpus.check(planned(device="1"), {}) == "GPU 1 (NVIDIA H200)"
    assert gpus.check(planned(), POD) == "GPU 0 (NVIDIA H200)"
    driver(tmp_path, {}, monkeypatch)
    assert gpus.check(planned(), {}) == "GPU 0 (NVIDIA H200)"
    assert asked == ["1", "", ""]


def test_torch_itself_is_asked_in_a_process_of_its_own() -> None:
    facts, exchange = gpus.asked("0,1", {**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert facts is not None
    assert (facts.gpus, exchange) == ([], None)
    assert facts.reason
    assert facts.torch.startswith("2.")


def test_what_was_said_before_it_hung_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"a library's chatter\n" + msgspec.json.encode(FACTS) + b"\n"

    def hangs(command: list[str], **_: object) -> Any:
        raise subprocess.TimeoutExpired(command, gpus.SECONDS, output=said)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert gpus.asked("0,1", {}) == (FACTS, None)


def test_both_that_torch_says_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"chatter\n".join(msgspec.json.encode(value) + b"\n" for value in (FACTS, Exchange("broken")))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    assert gpus.asked("0,1", {}) == (FACTS, Exchange("broken"))


def stand_in(reduce: Callable[[list[list[float]]], None], available: bool = True) -> Any:
    """As much of torch as an exchange needs; a tensor is a list."""

    class Value(list[float]):
        def __float__(self) -> float:
            return self[0]

    nccl = SimpleNamespace(is_available=lambda _: available, all_reduce=reduce)
    return SimpleNamespace(ones=lambda _, device: Value([1.0]), cuda=SimpleNamespace(nccl=nccl))


def test_an_exchange_is_a_sum_over_all_gpus() -> None:
    def summed(values: list[list[float]]) -> None:
        for value in values:
            value[0] = float(len(values))

    def fails(_: object) -> None:
        raise RuntimeError("NCCL Error 2: unhandled system error\nlast error: …")

    assert probe.exchange(stand_in(summed), [0, 1]) == Exchange("")
    assert probe.exchange(stand_in(lambda _: None), [0, 1]) == Exchange("the sum of 2 ones is 1")
    assert probe.exchange(stand_in(fails), [0, 1]) == Exchange("NCCL Error 2: unhandled system error")
    assert probe.exchange(stand_in(summed, available=False), [0, 1]) == Exchange("torch is built without it")
