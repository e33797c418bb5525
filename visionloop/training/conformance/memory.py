"""A child in which the memory runs out while it trains: the trainer's report of its first batch raises what the library would."""

from __future__ import annotations

import sys

from visionloop.training.supervision import child

#: What torch says (https://github.com/pytorch/pytorch/blob/main/c10/cuda/CUDACachingAllocator.cpp).
MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.00 GiB is free."
)


class Starved(child.ChannelListener):
    """Raises in place of the first report."""

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Raises torch's error where the trainer has imported torch, else MemoryError."""
        torch = sys.modules.get("torch")
        raise torch.OutOfMemoryError(MESSAGE) if torch else MemoryError


def main(job_file: str, descriptor: int) -> int:
    """Trains; returns the process's exit code."""
    return child.main(job_file, descriptor, Starved)
