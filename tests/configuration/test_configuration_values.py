from __future__ import annotations

import pytest

from visionloop.core.errors import InvalidConfig
from visionloop.training.configuration import canonical_value
from visionloop.training.trainers import Setting

WHOLE = Setting(int, 0, "a whole number")
NUMBER = Setting(float, 0.0, "a number")
TEXT = Setting(str, "", "a text")
FLAG = Setting(bool, False, "a truth value")
MAYBE = Setting(int, None, "a whole number or none", optional=True)


@pytest.mark.parametrize(
    ("value", "setting", "expected"),
    [
        (100.0, WHOLE, "100"),
        ("100.0", WHOLE, "100"),
        (" 1e2 ", WHOLE, "100"),
        ("+7", WHOLE, "7"),
        (2**53 - 1, WHOLE, "9007199254740991"),
        (1, NUMBER, "1.0"),
        ("0.01", NUMBER, "0.01"),
        (".5", NUMBER, "0.5"),
        (-0.0, NUMBER, "0.0"),
        (" yolo11n ", TEXT, "'yolo11n'"),
        ("모델.pt", TEXT, "'모델.pt'"),
        (0.0, TEXT, "'0'"),
        ("yes", FLAG, "True"),
        ("OFF", FLAG, "False"),
        (1.0, FLAG, "True"),
        (None, MAYBE, "None"),
        ("Null", MAYBE, "None"),
        ("", MAYBE, "None"),
        ("3", MAYBE, "3"),
    ],
)
def test_values_in_their_declared_type(value: object, setting: Setting, expected: str) -> None:
    assert repr(canonical_value("field", value, setting, "CONFIG")) == expected


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        (2**53, WHOLE),
        (-(2**53), WHOLE),
        ("9007199254740993", WHOLE),
        (1e300, WHOLE),
        ("٣", WHOLE),
        ("0x10", WHOLE),
        (False, WHOLE),
        (False, NUMBER),
        (10**400, NUMBER),
        ("9" * 500, NUMBER),
        (True, TEXT),
        (0.5, TEXT),
        ("a\0b", TEXT),
        ("truly", FLAG),
        (2, FLAG),
        (None, WHOLE),
        ([], MAYBE),
        ({}, TEXT),
    ],
)
def test_what_has_no_value_of_the_type(value: object, setting: Setting) -> None:
    with pytest.raises(InvalidConfig, match=r"^field in CONFIG is .*: give (a|true)"):
        canonical_value("field", value, setting, "CONFIG")
