"""Converts values to the type that their setting declares, so that 100, 100.0 and "100" give the same key."""

from __future__ import annotations

import math
import re

from visionloop.core.errors import Defect, InvalidConfig
from visionloop.training.configuration.settings import allowed_values
from visionloop.training.trainers import Setting, Value

#: The largest whole number that canonical JSON (RFC 8785) represents exactly.
LARGEST_INTEGER = 2**53 - 1

TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})
EMPTY_WORDS = frozenset({"", "none", "null"})

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def is_empty(value: object) -> bool:
    """Whether a value is empty: null, or blank text."""
    return value is None or (isinstance(value, str) and not value.strip())


def canonical_value(name: str, value: object, setting: Setting, where: str) -> Value:
    """Converts a value to the type that its setting declares and checks range and choices.

    Whole floats are whole numbers (KFP turns 100 into 100.0), texts are parsed as the setting's type ("0.01", "True"), and
    choices are matched case-insensitively. ``where`` names the value's source in the error.

    Raises:
        InvalidConfig: If the value is of another type, not finite, or outside the range or choices.
    """
    if setting.optional and (value is None or (isinstance(value, str) and value.strip().lower() in EMPTY_WORDS)):
        return None
    if setting.true_means and (switch := _boolean(value)) is not None:
        return setting.true_means if switch else False
    converted = _convert(value, setting.kind)
    if converted is None or not _is_allowed(converted, setting):
        raise InvalidConfig(f"{name} in {where} is {shown(value)}: give {allowed_values(setting)}.")
    if setting.choices:
        return next(choice for choice in setting.choices if choice.lower() == str(converted).lower())
    return converted


def shown(value: object) -> str:
    """A value for a sentence: shortened, without line breaks and other unprintable characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else _representation(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _representation(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits
        return "a number too large to print"


def _convert(value: object, kind: type) -> Value:
    """The value as ``kind``, or None if it can't be converted."""
    if kind is bool:
        return _boolean(value)
    if kind is str:
        return _text(value)
    number = _number(value)
    if number is None:
        return None
    if kind is int:
        return int(number) if number == int(number) and abs(number) <= LARGEST_INTEGER else None
    if kind is float:
        return float(number) + 0.0  # -0.0 becomes 0.0
    raise Defect(f"a setting's kind is {kind.__name__}: bool, int, float and str are the ones that there are.")


def _boolean(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str) else None
    if word in TRUE_WORDS or (isinstance(value, int | float) and value == 1):
        return True
    if word in FALSE_WORDS or (isinstance(value, int | float) and value == 0):
        return False
    return None


def _number(value: object) -> int | float | None:
    """A finite number, from a number or its text; None for anything else, truth values included."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or len(text) > 400:
            return None
        value = float(text) if any(letter in text for letter in ".eE") else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond the largest float
        return None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        text = value.strip()
        # Surrogates and control characters don't belong in a name, and surrogates have no canonical JSON.
        return text if text and text.isprintable() else None
    number = _number(value)  # a device is 0 in JSON and 0.0 through KFP
    return str(int(number)) if number is not None and number == int(number) else None


def _is_allowed(value: Value, setting: Setting) -> bool:
    if setting.choices:
        return str(value).lower() in {choice.lower() for choice in setting.choices}
    if isinstance(value, str | bool) or value is None:
        return True
    low, high = setting.minimum, setting.maximum
    return (low is None or value >= low) and (high is None or value <= high)
