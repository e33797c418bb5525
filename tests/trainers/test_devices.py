"""Which device is chosen: by the setting, by what the library finds, and by what the pod was given."""

from __future__ import annotations

import sys

import pytest

from visionloop.core.errors import InvalidConfig, SickMachine
from visionloop.training.devices import (
    choose_device,
    device_count,
    device_name,
    first_device,
    idle_gpus,
    meeting_variables,
)

H200 = ["NVIDIA H200"]


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (None, ""),
        ("", ""),
        ("auto", ""),
        ("cpu", "cpu"),
        (" CPU ", "cpu"),
        (0, "0"),
        ("cuda", "0"),
        ("GPU", "0"),
        ("cuda:1", "1"),
        ("0,1", "0,1"),
        ("cuda:0, cuda:1", "0,1"),
        ("0,", "0"),
        ("mps", "mps"),
    ],
)
def test_devices_have_one_spelling(device: object, name: str) -> None:
    assert device_name(device) == name


@pytest.mark.parametrize(
    ("device", "gpus", "pod_gpus", "name", "words"),
    [
        (None, [], None, "cpu", "the CPU: no GPU was found"),
        (None, [], "0", "cpu", "the CPU: no GPU was found"),
        (None, H200, None, "0", "GPU 0 (NVIDIA H200)"),
        (None, H200, "1", "0", "GPU 0 (NVIDIA H200)"),
        (None, H200, "", "0", "GPU 0 (NVIDIA H200)"),
        ("0", H200, "1", "0", "GPU 0 (NVIDIA H200)"),
        ("cpu", [], "1", "cpu", "the CPU, as device says"),
        ("cpu", H200, None, "cpu", "the CPU, as device says"),
        ("0,1", H200 * 2, "2", "0,1", "GPU 0 (NVIDIA H200) and GPU 1 (NVIDIA H200)"),
        ("mps", [], None, "mps", "mps"),
    ],
)
def test_the_device_that_is_chosen(
    device: str | None, gpus: list[str], pod_gpus: str | None, name: str, words: str
) -> None:
    environment = {} if pod_gpus is None else {"VISIONLOOP_POD_GPUS": pod_gpus}
    chosen = choose_device(device, gpus, environment, others=["mps"])
    assert (chosen.name, chosen.words) == (name, words)


@pytest.mark.parametrize(
    ("device", "gpus", "pod_gpus", "kind", "text"),
    [
        (None, [], "1", SickMachine, "This pod was given 1 GPU, and no GPU can be used (no driver): look at"),
        ("0", [], "1", SickMachine, "This pod was given 1 GPU, and no GPU can be used (no driver)"),
        ("0,1", H200, "2", SickMachine, "This pod was given 2 GPUs, and 1 GPU can be used"),
        ("0", [], "0", InvalidConfig, "device is 0, but this pod was given no GPU: raise the run's gpus"),
        ("cuda", H200, "0", InvalidConfig, "device is cuda, but this pod was given no GPU"),
        ("1", H200, "1", InvalidConfig, "device is 1, but this pod was given 1 GPU"),
        ("mps", [], "0", InvalidConfig, "device is mps, but this pod was given no GPU"),
        ("0", [], None, InvalidConfig, "device is 0, but no GPU can be used on this machine"),
        ("1", H200, None, InvalidConfig, "device is 1, but 1 GPU can be used on this machine"),
        ("quantum", H200, None, InvalidConfig, "device is quantum, but"),
        ("0,1", H200, None, InvalidConfig, "device is 0,1, but 1 GPU can be used on this machine"),
        ("0,1", H200, "1", InvalidConfig, "device is 0,1, but this pod was given 1 GPU: raise the run's gpus"),
        ("1,1", H200 * 2, None, InvalidConfig, "device is 1,1, which names a GPU twice"),
        ("cpu,0", H200 * 2, None, InvalidConfig, "device is cpu,0, but several devices are GPUs by their numbers"),
        ("auto,auto", H200 * 2, None, InvalidConfig, "device is auto,auto, but several devices are GPUs"),
    ],
)
def test_a_device_that_is_not_there(
    device: str | None, gpus: list[str], pod_gpus: str | None, kind: type[Exception], text: str
) -> None:
    environment = {} if pod_gpus is None else {"VISIONLOOP_POD_GPUS": pod_gpus}
    with pytest.raises(kind) as raised:
        choose_device(device, gpus, environment, reason="no driver")
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("device", "count", "first"),
    [
        (None, 1, None),
        ("", 1, None),
        ("cpu", 1, "cpu"),
        (2, 1, "2"),
        ("0,", 1, "0"),
        ("cuda:2, 1", 2, "2"),
        ("0,1,2", 3, "0"),
    ],
)
def test_devices_are_counted_and_what_computes_on_one_takes_the_first(
    device: object, count: int, first: str | None
) -> None:
    assert (device_count(device), first_device(device)) == (count, first)


@pytest.mark.parametrize(
    ("device", "pod_gpus", "notice"),
    [
        (
            None,
            "2",
            "this pod was given 2 GPUs, and the training computes on 1 GPU: give device=0,1 to use all of them.",
        ),
        (
            "0,2",
            "4",
            "this pod was given 4 GPUs, and the training computes on 2 GPUs: give device=0,1,2,3 to use all of them.",
        ),
        ("cpu", "2", None),
        ("0,1", "2", None),
        (None, "1", None),
        ("cpu", "1", None),
        (None, "0", None),
        (None, "", None),
        (None, None, None),
    ],
)
def test_gpus_of_a_pod_that_stay_idle_are_told(device: str | None, pod_gpus: str | None, notice: str | None) -> None:
    assert idle_gpus(device, {} if pod_gpus is None else {"VISIONLOOP_POD_GPUS": pod_gpus}) == notice


def test_several_devices_meet_on_this_machine_unless_it_is_set_otherwise() -> None:
    both = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    assert meeting_variables({"HOME": "/"}) == both
    if both:
        assert meeting_variables({"NCCL_SOCKET_IFNAME": "eth0"}) == both | {"NCCL_SOCKET_IFNAME": "eth0"}
