"""What a finding is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (``error``: the image or dataset can't be trained on) or suspicious (``warning``).

    ``code`` is a stable short name, ``file_name`` the image it is about (None for the whole file), ``field`` the path in
    the annotation file, ``sentence`` what a person reads.
    """

    severity: Severity
    code: str
    file_name: str | None
    field: str
    sentence: str
