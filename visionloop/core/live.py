"""Live events for whoever follows a run on the same machine: JSON lines appended to the file in VISIONLOOP_EVENTS.

The engines swallow or reshape a stage's own output; this channel does not pass through them.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from visionloop.core import secrets

VARIABLE = "VISIONLOOP_EVENTS"


def emit(kind: str, **fields: Any) -> None:
    """Appends one event if VISIONLOOP_EVENTS is set. Never fails the stage."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    try:
        line = msgspec.json.encode({"kind": kind, **secrets.redact_fields(fields)}) + b"\n"
        # A single write in append mode, so that lines of several processes never mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except (OSError, TypeError, ValueError):
        return
    try:
        os.write(descriptor, line)
    except OSError:
        return
    finally:
        os.close(descriptor)


def progress(stage: str, done: int, total: int, unit: str = "images", size: int = 0, whole: int = 0) -> None:
    """Reports how much of its work a stage has done: ``done`` of ``total``, ``size`` of ``whole`` bytes where it has any."""
    in_bytes = {"bytes": min(size, whole), "total_bytes": whole} if whole else {}
    emit("progress", stage=stage, done=min(done, total), total=total, unit=unit, **in_bytes)
    argo_progress(done, total)


def listed(stage: str, number: int, size: int, before: int) -> None:
    """Reports how many objects of a dataset are listed so far, their bytes, and how many there were the last time; 0 if unknown."""
    emit("listing", stage=stage, done=number, bytes=size, before=before)


def argo_progress(done: int, total: int) -> None:
    """Reports the step's progress to Argo if Argo asks for it (ARGO_PROGRESS_FILE)."""
    path = os.environ.get("ARGO_PROGRESS_FILE")
    if path and total > 0:
        try:
            with open(path, "w") as file:
                file.write(f"{min(done, total)}/{total}\n")
        except OSError:
            return
