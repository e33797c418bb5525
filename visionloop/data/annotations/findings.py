"""What a finding is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import rfc8785

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


def digest_of(findings: Sequence[Finding]) -> str:
    """SHA-256 of findings in their order, 64 hex digits."""
    return hashlib.sha256(rfc8785.dumps([list(astuple(finding)) for finding in findings])).hexdigest()
