"""What the GPUs' driver says of them, by its own program: before and without a training library."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from visionloop.training.devices import CPU, device_name

#: The driver's program, and the seconds that it may take.
PROGRAM = "nvidia-smi"
SECONDS = 5


def gpu_ids(device: object, environment: Mapping[str, str]) -> list[str]:
    """The GPUs that a training is given, as the driver's program takes them; empty where there is no such program, or the CPU is named.

    Args:
        device: The setting ``device``; without one it is the first GPU.
        environment: The process's variables; CUDA_VISIBLE_DEVICES says which GPU has which number.
    """
    if device_name(device) == CPU or shutil.which(PROGRAM) is None:
        return []
    visible = [entry.strip() for entry in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    numbers = device_name(device).split(",") if device_name(device) else ["0"]
    return [visible[int(number)] if number.isdecimal() and int(number) < len(visible) else number for number in numbers]


def ask(gpu: str, query: str, fields: Sequence[str]) -> list[str]:
    """The driver's values of fields of one GPU, without their units; a value that it can't give is a word such as ``[N/A]``.

    Args:
        gpu: One of `gpu_ids`.
        query: What is asked for, such as ``gpu`` or ``remapped-rows``.
        fields: Their names (``nvidia-smi --help-query-gpu``). A driver that does not know one answers none of them.

    Raises:
        LookupError: If it says nothing in time, or something else.
    """
    command = [PROGRAM, f"--id={gpu}", f"--query-{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise LookupError(f"{PROGRAM} does not say {', '.join(fields)}") from error
    rows = list(csv.reader(done.stdout.splitlines(), skipinitialspace=True))
    # A name may hold a comma; the driver does not quote it.
    if len(rows) != 1 or len(rows[0]) < len(fields):
        raise LookupError(f"{PROGRAM} does not say {', '.join(fields)}")
    surplus = len(rows[0]) - len(fields) + 1
    return [", ".join(rows[0][:surplus]), *rows[0][surplus:]]


def first_gpu(device: object, environment: Mapping[str, str]) -> tuple[str, float] | None:
    """The name, and the memory in units of 2**30 bytes, of the first GPU that a training is given.

    Args:
        device: The setting ``device``.
        environment: The process's variables.

    Returns:
        None where there is none, or where the driver says nothing in time.
    """
    try:
        name, mebibytes = ask(gpu_ids(device, environment)[0], "gpu", ("name", "memory.total"))
        return name, round(float(mebibytes) / 1024, 1)
    except (LookupError, ValueError):  # IndexError is a LookupError
        return None
