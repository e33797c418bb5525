"""The explicit settings: ``KEY=VALUE`` pairs, and an object of them."""

from __future__ import annotations

from visionloop.core.errors import InvalidConfig
from visionloop.core.pairs import parse_pairs
from visionloop.training.configuration.sources import parse_object


def parse_settings(pairs: list[str] | tuple[str, ...]) -> dict[str, object]:
    """The values of the ``--set`` pairs by setting. Raises InvalidConfig for a malformed or repeated pair."""
    return {**parse_pairs("--set", pairs)}


def merge_settings(pairs: list[str] | tuple[str, ...], settings: str | None) -> dict[str, object]:
    """The explicit settings by name.

    Args:
        pairs: ``KEY=VALUE`` pairs.
        settings: A JSON object; None or "" is an empty one.

    Raises:
        InvalidConfig: If either can't be read, or a setting appears in both.
    """
    merged = parse_settings(pairs)
    for name, value in parse_object(settings or "{}", "--settings").items():
        if name in merged:
            raise InvalidConfig(f"{name} is given in --set and in --settings; give it in one of them.")
        merged[name] = value
    return merged
