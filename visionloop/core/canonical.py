"""Canonical JSON (RFC 8785), keys and digests: the one place that hashes what decides a result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from visionloop.core.errors import InvalidConfig


def canonical(value: Any) -> bytes:
    """RFC 8785 JSON of a value whose parts already have their declared types.

    Raises:
        InvalidConfig: If the value has no canonical form (NaN, an integer beyond 2^53).
    """
    try:
        return bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InvalidConfig(
            f"A value has no canonical JSON form ({error}); use finite numbers within ±2^53 and valid text."
        ) from error


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def stage_key(stage: str, logic_version: int, inputs: Mapping[str, str], parameters: Mapping[str, Any]) -> str:
    """A stage's key: SHA-256 of its name, logic version, the digests of its inputs and its resolved parameters."""
    return sha256(
        canonical(
            {"stage": stage, "logic_version": logic_version, "inputs": dict(inputs), "parameters": dict(parameters)}
        )
    )


def result_digest(outputs: Mapping[str, str]) -> str:
    """A result's digest: SHA-256 of ``{output name: sha256}`` over the outputs that are results."""
    return sha256(canonical(dict(outputs)))
