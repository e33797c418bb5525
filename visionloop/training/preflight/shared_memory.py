"""Whether the processes that load images find shared memory for their batches."""

from __future__ import annotations

from visionloop.core.errors import InvalidConfig
from visionloop.training.preflight.planned import Planned
from visionloop.training.pytorch.workers import SHARED_MEMORY, bytes_a_worker, free_shared_memory


def check(planned: Planned) -> str | None:
    """Says how much is free; None for a training that loads its images itself, or does not use torch.

    With room for some of the processes fewer are started, which the training tells.

    Raises:
        InvalidConfig: If there is no room for a single one: the GPU would wait for images that are loaded one after the other.
    """
    if not planned.torch or not planned.workers:
        return None
    free, needed = free_shared_memory(), bytes_a_worker(planned.batch, planned.imgsz)
    if free < needed:
        raise InvalidConfig(
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, and a process that loads images in batches of {planned.batch} at imgsz "
            f"{planned.imgsz} needs {needed / 2**20:.0f} MiB: give it more (shared_memory in the policy, --shm-size of a container), lower "
            "batch, or set workers=0."
        )
    return f"{SHARED_MEMORY} {free / 2**20:.0f} MiB"
