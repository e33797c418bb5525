"""Keys and digests: equal exactly for what decides a result, and in the one canonical form."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.canonical import canonical, result_digest, sha256, stage_key
from visionloop.core.errors import InvalidConfig

#: Numbers of RFC 8785, appendix B: IEEE 754 bits and their form.
RFC_NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
]

#: No half of a surrogate pair: UTF-8 has none.
CHARACTERS = st.characters(exclude_categories=["Cs"])

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(CHARACTERS, min_size=1, max_size=8)
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


@pytest.mark.parametrize(("bits", "text"), RFC_NUMBERS)
def test_numbers_of_the_rfc(bits, text):
    import struct

    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()


def test_the_objects_of_the_rfc():
    value = json.loads(
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        ' "string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/", "literals": [null, true, false]}'
    )
    assert canonical(value).hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e333333333333"
        "332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c"
        "222f227d"
    )
    # Property names sort by UTF-16 code units, not by code points.
    names = {"€": 5, "\r": 1, "\ufb33": 7, "1": 2, "😀": 6, "\x80": 3, "ö": 4}
    assert list(json.loads(canonical(names)).values()) == [1, 2, 3, 4, 5, 6, 7]


@settings(max_examples=60)
@given(JSON)
def test_the_canonical_form_says_the_same_and_is_stable(value):
    data = canonical(value)
    again = json.loads(data, parse_int=float)
    assert canonical(again) == data
    assert again == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**53, {1: "a"}, object(), "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_a_wrong_configuration(value):
    with pytest.raises(InvalidConfig, match="canonical JSON form"):
        canonical({"value": value})


ARGUMENTS = st.tuples(
    NAMES, st.integers(1, 99), st.dictionaries(NAMES, DIGESTS, max_size=3), st.dictionaries(NAMES, JSON, max_size=3)
)


@settings(max_examples=40)
@given(ARGUMENTS, ARGUMENTS)
def test_keys_are_equal_exactly_when_all_that_decides_is(first, other):
    same = canonical(list(first)) == canonical(list(other))
    assert (stage_key(*first) == stage_key(*other)) == same


@settings(max_examples=40)
@given(ARGUMENTS, NAMES, JSON, DIGESTS)
def test_a_key_changes_with_each_part(arguments, name, value, digest):
    stage, version, inputs, parameters = arguments
    key = stage_key(*arguments)
    assert len(key) == 64
    assert stage_key(stage + "x", version, inputs, parameters) != key
    assert stage_key(stage, version + 1, inputs, parameters) != key
    changed = inputs | {name: digest}
    assert (stage_key(stage, version, changed, parameters) != key) == (changed != inputs)
    changed = parameters | {name: value}
    assert (stage_key(stage, version, inputs, changed) != key) == (canonical(changed) != canonical(parameters))
    assert stage_key(stage, version, dict(reversed(inputs.items())), dict(reversed(parameters.items()))) == key


def test_an_integer_that_became_a_float_on_the_way_is_the_same_but_a_boolean_is_not():
    assert stage_key("train", 1, {}, {"epochs": 100}) == stage_key("train", 1, {}, {"epochs": 100.0})
    assert stage_key("train", 1, {}, {"augment": True}) != stage_key("train", 1, {}, {"augment": 1})


def test_a_key_is_pinned():
    # What keys are made of is a promise to every workspace there is.
    assert stage_key("train", 1, {"converted": "ab"}, {"epochs": 3, "lr0": 0.01}) == sha256(
        b'{"inputs":{"converted":"ab"},"logic_version":1,"parameters":{"epochs":3,"lr0":0.01},"stage":"train"}'
    )
    assert result_digest({"b": "2", "a": "1"}) == sha256(b'{"a":"1","b":"2"}')
