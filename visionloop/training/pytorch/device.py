"""Which device a training or an evaluation computes on, by what torch finds."""

from __future__ import annotations

import os
from typing import Any

from visionloop.training.devices import CPU, Device, choose_device, device_name
from visionloop.training.pytorch.failures import first_line


def resolve_device(device: object) -> Device:
    """The device to compute on: the first GPU if there is one and no other device is named.

    Raises:
        InvalidConfig: If a device is named that this process was not given, or that is not there.
        SickMachine: If this pod was given GPUs, and torch can't use them.
    """
    if device_name(device) == CPU:
        return choose_device(device, [], os.environ)  # a GPU is not even initialised
    import torch

    gpus, reason = usable_gpus(torch)
    return choose_device(device, gpus, os.environ, others=other_devices(torch), reason=reason)


def usable_gpus(torch: Any) -> tuple[list[str], str]:
    """The names of the GPUs that torch can use by number, and why it can use none."""
    try:
        torch.cuda.init()
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())], ""
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        return [], first_line(error)


def other_devices(torch: Any) -> list[str]:
    """Devices besides the CPU and GPUs by number."""
    return ["mps"] if torch.backends.mps.is_available() else []
