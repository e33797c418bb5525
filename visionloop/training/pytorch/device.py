"""Which device a training or an evaluation computes on, by what torch finds."""

from __future__ import annotations

import os

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

    others = ["mps"] if torch.backends.mps.is_available() else []
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        gpus, reason = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())], ""
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        gpus, reason = [], first_line(error)
    return choose_device(device, gpus, os.environ, others=others, reason=reason)
