"""Which device a training or an evaluation computes on: by the setting, by what the library finds, and by what its pod was given.

Pure functions: a trainer says which GPUs its library can use.
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InvalidConfig, SickMachine
from visionloop.core.policy import POD_GPUS_VARIABLE

CPU = "cpu"

#: Where Linux names the processor.
CPU_NAMES = Path("/proc/cpuinfo")

#: Words that name a device as a library's users write it, and what they mean here; empty is the first GPU, else the CPU.
_WORDS = {"auto": "", "cuda": "0", "gpu": "0"}


def device_name(device: object) -> str:
    """A device's canonical name: empty, ``cpu``, a GPU's number (``0``), several of them (``0,1``), or the word as it is."""
    words = [word.strip().removeprefix("cuda:") for word in str("" if device is None else device).lower().split(",")]
    return ",".join(_WORDS.get(word, word) for word in words if word)


def device_count(device: object) -> int:
    """How many devices the setting ``device`` names, separated by commas; 1 where it is empty."""
    return len([word for word in device_name(device).split(",") if word]) or 1


def check_devices(device: object, setting: str = "device") -> None:
    """Refuses several devices that are not GPUs by their numbers, each once.

    Args:
        device: The setting.
        setting: The setting and where it came from, in words.

    Raises:
        InvalidConfig: If they are not.
    """
    words = device_name(device).split(",")
    if len(words) == 1:
        return
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise InvalidConfig(
            f"{setting} is {device}, but several devices are GPUs by their numbers: give numbers such as 0,1, or one device."
        )
    if len({int(word) for word in words}) < len(words):
        raise InvalidConfig(f"{setting} is {device}, which names a GPU twice: give each GPU once.")


def first_device(device: object) -> str | None:
    """The first of the named devices, for what computes on one alone; None if none is named."""
    return device_name(device).split(",")[0] or None


def idle_gpus(device: object, environment: Mapping[str, str]) -> str | None:
    """The sentence about GPUs that this pod has and a training does not use; None if there are none."""
    gpus, used = pod_gpus(environment) or 0, device_count(device)
    if device_name(device) == CPU or gpus <= used:
        return None
    every = ",".join(map(str, range(gpus)))
    return f"this pod was given {_count(gpus)}, and the training computes on {_count(used)}: give device={every} to use all of them."


def peak_gpu_bytes() -> int | None:
    """The most memory that tensors of this process took on a GPU so far; None where it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return max(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count())) or None


def computing_device() -> str:
    """The name of what this process has computed on: a GPU that torch has used, else the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    with contextlib.suppress(OSError):
        names = [line.partition(":")[2] for line in CPU_NAMES.read_text().splitlines() if line.startswith("model name")]
        if names and names[0].strip():
            return names[0].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Device:
    """A chosen device: its name (``cpu``, ``0``, ``0,1``), and where that is in words."""

    name: str
    words: str


def choose_device(
    device: object,
    gpus: Sequence[str],
    environment: Mapping[str, str],
    *,
    others: Collection[str] = (),
    reason: str = "",
) -> Device:
    """Chooses the device to compute on.

    Args:
        device: The setting ``device``.
        gpus: The names of the GPUs that the library can use, by number.
        environment: The process's variables; the pod's engine sets ``VISIONLOOP_POD_GPUS``.
        others: Other devices that can be used here, such as ``mps``.
        reason: Why the library can use no GPU, where it says so.

    Raises:
        SickMachine: If the pod was given GPUs, and the library can't use one that it needs.
        InvalidConfig: If a device is named that this process was not given, or that is not there.
    """
    check_devices(device)
    name, given = device_name(device), pod_gpus(environment)
    if name == CPU:
        return Device(CPU, "the CPU, as device says")
    words = [word for word in name.split(",") if word]
    numbers = [int(word) for word in words if word.isdecimal()]
    unusable = [int(word) >= len(gpus) if word.isdecimal() else word not in others for word in words]
    if given is not None and any(not word.isdecimal() or int(word) >= given for word in words):
        raise InvalidConfig(
            f"device is {device}, but this pod was given {_count(given)}: raise the run's gpus, or leave device out."
        )
    because = f" ({reason})" if reason else ""
    if given and (any(unusable) or not gpus):
        raise SickMachine(
            f"This pod was given {_count(given)}, and {_count(len(gpus))} can be used{because}: look at the node's GPU and driver."
        )
    if any(unusable):
        raise InvalidConfig(
            f"device is {device}, but {_count(len(gpus))} can be used on this machine{because}: give another device, or cpu."
        )
    if not words and not gpus:
        return Device(CPU, "the CPU: no GPU was found")
    chosen = numbers or ([] if words else [0])
    return Device(name or "0", " and ".join(f"GPU {number} ({gpus[number]})" for number in chosen) or name)


def meeting_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which several devices meet on this machine alone, whatever its name means in the network; those that are set stay."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if sys.platform == "linux" else ()
    return {name: environment.get(name, "lo") for name in names}


def pod_gpus(environment: Mapping[str, str]) -> int | None:
    """How many GPUs this pod was given; None outside a pod of an engine."""
    value = environment.get(POD_GPUS_VARIABLE, "").strip()
    return int(value) if value.isascii() and value.isdecimal() else None


def _count(number: int) -> str:
    return {0: "no GPU", 1: "1 GPU"}.get(number, f"{number} GPUs")
