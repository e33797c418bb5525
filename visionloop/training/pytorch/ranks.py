"""The processes of a training, one for each device: which of them this is, and how they exchange values.

A training on one device has one process, and nothing is exchanged. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from visionloop.training.pytorch.distributed import Seat

T = TypeVar("T")

#: How long a process waits for another one. No training ends by it: the death of a rank ends all of them, and the stage ends a
#: training that reports no batch.
WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Member:
    """Which process of a training this is: ``rank``, from 0, of ``world``."""

    rank: int = 0
    world: int = 1


#: The process of a training on one device.
ALONE = Member()


def this_process() -> Member:
    """This process among those of its training; `ALONE` if it has not joined others."""
    return Member(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def join(seat: Seat, device: torch.device) -> None:
    """Joins the other processes of a training.

    Args:
        seat: Which process this is; its file ``meeting`` does not exist yet.
        device: What this process computes on: GPUs use NCCL; gloo serves the CPU and values in the machine's memory.
    """
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        init_method=seat.meeting.absolute().as_uri(),
        rank=seat.rank,
        world_size=seat.world,
        timeout=WAIT,
    )


def leave() -> None:
    """Leaves the others once each of them is done."""
    if dist.is_initialized():
        gathered(None)
        dist.destroy_process_group()


def broadcast(value: T) -> T:
    """The first process's value, in each process."""
    if this_process().world == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    first: T = values[0]
    return first


def gathered(value: T) -> list[T]:
    """The values of all processes in the order of their ranks, in each process."""
    if this_process().world == 1:
        return [value]
    values: list[Any] = [None] * this_process().world
    dist.all_gather_object(values, value)
    return values


def broadcast_model(model: nn.Module) -> None:
    """Gives each process the first one's weights and statistics, which are those that a checkpoint holds."""
    if this_process().world == 1:
        return
    for value in model.state_dict().values():
        if isinstance(value, Tensor):
            # No backend of torch knows truth values.
            dist.broadcast(value.view(torch.uint8) if value.dtype == torch.bool else value, src=0)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gives each process the sum of all gradients; a parameter without one in any process stays without."""
    if this_process().world == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [value.grad if value.grad is not None else torch.zeros_like(value) for value in trained]
    present = torch.tensor([value.grad is not None for value in trained]).to(gradients[0])
    summed = torch.cat([*(value.detach().reshape(-1) for value in gradients), present])
    dist.all_reduce(summed)
    *sums, counts = torch.split(summed, [*(value.numel() for value in gradients), len(trained)])
    for parameter, gradient, total, count in zip(trained, gradients, sums, counts.tolist(), strict=True):
        if count:
            parameter.grad = gradient.copy_(total.view_as(gradient))
