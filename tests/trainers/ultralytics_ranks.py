"""A rank of the Ultralytics trainer on the CPU, for which the library itself has no several devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visionloop.training.devices import Device
from visionloop.training.pytorch.distributed import Seat
from visionloop.training.trainers import Listener, TrainingJob
from visionloop.training.trainers.ultralytics import session, training


def rank(job: TrainingJob, listener: Listener, seat: Seat) -> Path:
    """The trainer's own program, with what the library asks of CUDA done by gloo on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "resolve_device", lambda device: Device("cpu", "the CPU, twice"))
        training.library()

        import torch
        import torch.distributed as dist

        from visionloop.training.trainers.ultralytics import loop

        begin, reduce = loop.Loop.__init__, dist.reduce

        def on_several(self: Any, *arguments: Any) -> None:
            begin(self, *arguments)
            self.world_size = seat.world

        def mean(tensor: torch.Tensor, dst: int, op: Any) -> None:
            assert op == dist.ReduceOp.AVG
            reduce(tensor, dst)
            tensor /= seat.world

        patch.setattr(loop.Loop, "__init__", on_several)
        patch.setattr(dist, "reduce", mean)

        class OnTheCPU(torch.nn.parallel.DistributedDataParallel):
            def __init__(self, module: torch.nn.Module, device_ids: list[None], **more: Any) -> None:
                assert device_ids == [None]
                super().__init__(module, **more)

        patch.setattr(torch.nn.parallel, "DistributedDataParallel", OnTheCPU)
        return training.rank(job, listener, seat)
