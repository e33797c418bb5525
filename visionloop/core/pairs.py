"""``KEY=VALUE`` pairs: the values of options that may be given many times."""

from __future__ import annotations

from collections.abc import Iterable

from visionloop.core.errors import InvalidConfig


def parse_pair(option: str, pair: str, form: str) -> tuple[str, str]:
    """Key and value; whitespace around the key is stripped.

    Args:
        option: The option that the pair was given to, for the message (``--set``).
        pair: The pair; its value may be empty and may hold further ``=``.
        form: The form with an example, for the message.

    Raises:
        InvalidConfig: If the pair has another form.
    """
    key, equals, value = pair.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InvalidConfig(f"{option} {pair}: give {form}.")
    return key, value


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """The values by key; keys are stripped of surrounding whitespace.

    Args:
        option: The option that the pairs were given to, for the messages (``--set``).
        pairs: The pairs; a value may be empty and may hold further ``=``.

    Raises:
        InvalidConfig: If a pair has another form, or a key is given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, value = parse_pair(option, pair, "KEY=VALUE, such as epochs=20")
        if key in values:
            raise InvalidConfig(f"{option} {key} is given twice; give it once.")
        values[key] = value
    return values
