"""Stand-ins for what a machine with GPUs says, and a training to check for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from visionloop.training.preflight import Planned

ECC, RETIRED = "ecc.errors.uncorrected.volatile.total", "retired_pages.pending"
PENDING, FAILURE = "remapped_rows.pending", "remapped_rows.failure"

PLANNED = Planned(
    device=None, batch=16, batch_asked=True, imgsz=640, epochs=3, workers=8, images=100, torch=True, gpu=True
)


def planned(**changes: object) -> Planned:
    """A training, but for some values."""
    return replace(PLANNED, **changes)  # type: ignore[arg-type]


def driver(folder: Path, answers: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi with the driver's answer to each field, whatever GPU is asked; returns the file of its calls.

    A field without an answer is one that the driver does not know, and so is the whole question without any of its fields.
    """
    calls, program = folder / "calls", folder / "nvidia-smi"
    cases = "\n".join(f"  *={field}) echo '{answer}' ;;" for field, answer in answers.items())
    remapped = PENDING in answers
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {calls}
case "$2" in
  --query-remapped-rows=*) {":" if remapped else "echo 'Invalid combination of input arguments. Please run nvidia-smi -h for help.'; exit 1"} ;;
esac
case "$2" in
{cases}
  *) echo 'Field "'"${{2#*=}}"'" is not a valid field to query.'; exit 2 ;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return calls
