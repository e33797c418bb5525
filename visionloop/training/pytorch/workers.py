"""How many processes may load images: limited by this process's share of the machine, not by the host's cores."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

#: Batches that wait in shared memory per worker: 4 in training, and in validation 2 of double size for each of 2 workers.
BATCHES_PER_WORKER = 12

#: Where processes hand batches to each other.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (the kernel's own, nothing is created)

#: Bytes of one pixel: three channels of one byte.
PIXEL_BYTES = 3


def available_cpus(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: the smaller of its affinity and its control group's quota, at least 1.

    Args:
        control_groups: Mount point of the control groups (version 2's ``cpu.max``, version 1's ``cpu.cfs_*_us``).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(control_groups)
    return max(1, min(affinity, math.ceil(quota))) if quota else affinity


def _quota(control_groups: Path) -> float | None:
    try:
        quota, period = (control_groups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (control_groups / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (control_groups / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None  # "max": no quota


def free_shared_memory() -> int:
    """Free bytes of /dev/shm; 0 if there is none."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def bytes_a_worker(batch: int, imgsz: int) -> int:
    """Bytes of shared memory that a process needs for the batches that wait for the training.

    Args:
        batch: Images in a batch.
        imgsz: Side of the square input in pixels.
    """
    return BATCHES_PER_WORKER * batch * imgsz * imgsz * PIXEL_BYTES


def usable_workers(requested: int, batch: int, imgsz: int, cpus: int, shared_memory: int) -> tuple[int, str | None]:
    """Returns the number of workers to start, and the reason if it is lower than requested.

    Args:
        requested: The setting ``workers``.
        batch: Images in a batch.
        imgsz: Side of the square input in pixels.
        cpus: CPUs that may be used.
        shared_memory: Free bytes of /dev/shm.
    """
    room = shared_memory // bytes_a_worker(batch, imgsz)
    workers = min(requested, cpus, room)
    if workers == requested:
        return requested, None
    if room < cpus:
        reason = f"{SHARED_MEMORY} has {shared_memory / 2**20:.0f} MiB free: give it more (shared_memory in the policy)"
    else:
        reason = f"{cpus} CPUs may be used: give more, or set workers"
    return workers, f"workers lowered from {requested} to {workers}, because {reason}."
