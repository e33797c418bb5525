"""What the GPUs' driver says of them, by its own program: for people, before and without a training library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

from visionloop.training.devices import CPU, device_name, first_device

#: The driver's program, and the seconds that it may take.
PROGRAM = "nvidia-smi"
SECONDS = 5


def first_gpu(device: object, environment: Mapping[str, str]) -> tuple[str, float] | None:
    """The name, and the memory in units of 2**30 bytes, of the first GPU that a training is given.

    Args:
        device: The setting ``device``.
        environment: The process's variables; CUDA_VISIBLE_DEVICES says which GPU is the first.

    Returns:
        None where there is none, or where the driver says nothing in time.
    """
    program = shutil.which(PROGRAM)
    if device_name(device) == CPU or program is None:
        return None
    number = first_device(device) or "0"
    visible = [entry.strip() for entry in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    if number.isdecimal() and int(number) < len(visible):
        number = visible[int(number)]
    command = [program, f"--id={number}", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        name, _, mebibytes = done.stdout.strip().splitlines()[0].rpartition(",")
        return name.strip(), round(float(mebibytes) / 1024, 1)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
