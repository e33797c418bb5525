"""Whether the memory of the GPUs is sound, by what their driver has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from visionloop.core.errors import SickMachine
from visionloop.training.driver import ask, gpu_ids
from visionloop.training.preflight.planned import Planned

#: What to do where the driver has to set the GPU up anew.
_RESET = "reset it (nvidia-smi --gpu-reset) or restart the machine, and use another one until then"


@dataclass(frozen=True)
class Counted:
    """What the driver counts of a GPU's memory, and what it means where it is not 0.

    Attributes:
        query: What the driver is asked for.
        field: The field's name.
        fault: What is wrong, with ``{value}`` for the number.
        remedy: What to do.
    """

    query: str
    field: str
    fault: str
    remedy: str


#: Each is asked alone, for a driver refuses the whole question for one field that it does not know: retired pages are of GPUs
#: before Ampere, remapped rows of those since. Errors that were corrected or dealt with by an earlier reset do not count.
COUNTED = (
    Counted(
        "gpu",
        "ecc.errors.uncorrected.volatile.total",
        "has met {value} errors of its memory that could not be corrected (ECC) since its driver was loaded",
        _RESET,
    ),
    Counted("gpu", "retired_pages.pending", "has pages of its memory that wait to be retired", _RESET),
    Counted("remapped-rows", "remapped_rows.pending", "has rows of its memory that wait to be remapped", _RESET),
    Counted(
        "remapped-rows",
        "remapped_rows.failure",
        "could not remap a row of its memory that is broken",
        "have it replaced, and use another machine until then",
    ),
)


def check(planned: Planned, environment: Mapping[str, str]) -> str | None:
    """Says that the GPUs' memory is sound; None where the driver tells nothing of it.

    Raises:
        SickMachine: If the driver counts errors of one that the training would use.
    """
    told = False
    for gpu in gpu_ids(planned.device, environment) if planned.gpu else ():
        for counted in COUNTED:
            try:
                (text,) = ask(gpu, counted.query, (counted.field,))
            except LookupError:
                continue
            value = number(text)
            told = told or value is not None
            if value:
                fault = counted.fault.format(value=value)
                raise SickMachine(f"GPU {gpu} {fault} ({counted.field}): {counted.remedy}.")
    return "memory of the GPUs sound" if told else None


def number(text: str) -> int | None:
    """A count as the driver writes it (``0``, ``No``, ``Yes``); None for ``[N/A]``, ``[Not Supported]`` and other words."""
    words = {"no": 0, "yes": 1}
    text = text.strip().lower()
    return int(text) if text.isascii() and text.isdecimal() else words.get(text)
