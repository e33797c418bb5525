"""The one naming function."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig
from visionloop.core.names import LONGEST, sanitise

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("digits", "digits"),
        ("Digits Detector", "digits-detector"),
        ("  Bolts & nuts, v2.1 ", "bolts-nuts-v2-1"),
        ("snake_case__name", "snake-case-name"),
        ("Größe", "gro-e"),
        ("café", "cafe"),
        ("7", "7"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_examples(given_name: str, expected: str) -> None:
    assert sanitise(given_name) == expected


@pytest.mark.parametrize("nothing", ["", "   ", "---", "결함", "日本", "!?"])
def test_a_name_of_which_nothing_is_left_is_refused(nothing: str) -> None:
    with pytest.raises(InvalidConfig, match=r"--model-name .*nothing is left"):
        sanitise(nothing)


@given(st.text(max_size=200), st.integers(10, LONGEST))
def test_the_result_fits_everywhere_and_stays_as_it_is(name: str, longest: int) -> None:
    try:
        result = sanitise(name, longest=longest)
    except InvalidConfig:
        return
    assert LABEL.fullmatch(result)
    assert "--" not in result
    assert len(result) <= longest
    assert sanitise(result, longest=longest) == result
    assert sanitise(name.upper().lower(), longest=longest)


@given(st.text("abc", min_size=64, max_size=80), st.text("abc", min_size=64, max_size=80))
def test_long_names_stay_apart(first: str, second: str) -> None:
    assert (sanitise(first) == sanitise(second)) == (first == second)


@pytest.mark.parametrize("longest", [63, 40])
def test_a_long_name_is_cut_and_ends_with_a_digest_over_all_of_its_clean_form(longest: int) -> None:
    begins = "a" * (longest - 10)
    clean = f"{begins}-{'b' * 30}"
    digest = hashlib.sha256(clean.encode()).hexdigest()[:8]
    # The cut falls behind the hyphen, which is dropped: two in a row would be another name the next time.
    assert sanitise(f"{begins.upper()} {'b' * 30}", longest=longest) == f"{begins}-{digest}"


@given(st.text("ab ", min_size=64, max_size=80).filter(str.strip), st.integers(10, 63))
def test_a_cut_name_is_left_as_it_is(name: str, longest: int) -> None:
    cut = sanitise(name, longest=longest)
    assert len(cut) <= longest
    assert sanitise(cut, longest=longest) == cut


@given(st.text("ab", min_size=12, max_size=70), st.text("ab", min_size=12, max_size=70))
def test_names_that_differ_behind_the_cut_stay_apart(first: str, second: str) -> None:
    begins = "c" * 54
    assert (sanitise(begins + first) == sanitise(begins + second)) == (first == second)


def test_the_longest_name_keeps_its_length() -> None:
    assert sanitise("a" * LONGEST) == "a" * LONGEST
    assert len(sanitise("a" * (LONGEST + 1))) == LONGEST
