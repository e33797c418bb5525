"""What torch says of this machine's GPUs, told as JSON lines by a process of its own (`visionloop.training.preflight.gpus`)."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from visionloop.training.preflight.gpus import Exchange, Gpu, TorchFacts
from visionloop.training.pytorch.device import other_devices, usable_gpus
from visionloop.training.pytorch.failures import first_line


def main(device: str) -> None:
    """Tells what torch says, then, of several devices, how they exchanged values.

    Args:
        device: The device's canonical name (`visionloop.training.devices.device_name`).
    """
    import torch

    facts = facts_of(torch)
    _tell(facts)
    numbers = [int(word) for word in device.split(",") if word.isdecimal()]
    if len(numbers) > 1 and max(numbers) < len(facts.gpus):
        _tell(exchange(torch, numbers))


def facts_of(torch: Any) -> TorchFacts:
    """What torch says of the GPUs, without computing on one."""
    gpus, reason = usable_gpus(torch)
    driver = getattr(torch._C, "_cuda_getDriverVersion", None)
    return TorchFacts(
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        driver=int(driver()) if driver else 0,
        architectures=list(torch.cuda.get_arch_list()) if torch.version.cuda else [],
        gpus=[Gpu(name, tuple(torch.cuda.get_device_capability(number))) for number, name in enumerate(gpus)],
        others=other_devices(torch),
        reason=reason,
    )


def exchange(torch: Any, numbers: list[int]) -> Exchange:
    """Sums a number over GPUs by NCCL."""
    try:
        values = [torch.ones(1, device=f"cuda:{number}") for number in numbers]
        if not torch.cuda.nccl.is_available(values):
            return Exchange("torch is built without it")
        torch.cuda.nccl.all_reduce(values)
        sums = [float(value) for value in values]
    except RuntimeError as error:
        return Exchange(first_line(error))
    wrong = [f"{value:g}" for value in sums if value != len(numbers)]
    return Exchange(f"the sum of {len(numbers)} ones is {wrong[0]}" if wrong else "")


def _tell(value: TorchFacts | Exchange) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
