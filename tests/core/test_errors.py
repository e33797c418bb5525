"""The errors: one class per cause, one exit code per remedy, all in the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core import errors
from visionloop.core.errors import RETRYABLE, RETRYABLE_IN_PLACE, Defect, VisionloopError, all_errors, by_code

#: The table of the exit codes: whether an engine retries, by code.
TABLE = {65: 0, 70: 0, 71: 1, 75: 1, 76: 1, 77: 0, 78: 0, 79: 0, 124: 1, 130: 0, 137: 1, 143: 1}

OURS = [error for error in all_errors() if error.__module__ == errors.__name__]


def test_the_exit_codes_are_those_of_the_table():
    assert {error.exit_code for error in OURS} == set(TABLE)
    assert set(RETRYABLE) == {code for code, retried in TABLE.items() if retried}
    assert set(RETRYABLE_IN_PLACE) < set(RETRYABLE)
    # A sick machine is the one that is retried elsewhere and never in place.
    assert set(RETRYABLE) - set(RETRYABLE_IN_PLACE) == {71}


@pytest.mark.parametrize("error", OURS[1:])
def test_every_class_is_one_cause_or_refines_its_parents(error):
    same = [other for other in OURS[1:] if (other.exit_code, other.error_code) == (error.exit_code, error.error_code)]
    assert same == [error]
    parent = error.__mro__[1]
    if parent is not VisionloopError:
        assert error.exit_code == parent.exit_code
    assert error.error_code == error.error_code.upper()
    assert error.__doc__
    assert by_code(error.exit_code, error.error_code) is error


@pytest.mark.parametrize("code", TABLE)
def test_a_code_alone_gives_its_family(code):
    error = by_code(code)
    assert error.exit_code == code
    assert error.__mro__[1] is VisionloopError
    assert by_code(code, "NEVER_HEARD_OF") is error


@pytest.mark.parametrize("code", [0, 1, 2, -9, 255])
def test_an_unknown_code_is_a_defect(code):
    assert by_code(code) is Defect


@given(st.text())
def test_a_sentence_is_one_line_whatever_came_in(text):
    assert len(VisionloopError(text).sentence.splitlines()) <= 1


def test_the_seeds_codes_are_there():
    codes = {error.error_code for error in OURS}
    assert {
        *("OOM", "DATASET_NOT_FOUND", "INVALID_CONFIG", "CHECKPOINT_UPLOAD_FAILED", "TIMEOUT", "USER_STOPPED"),
    } <= codes


@pytest.mark.parametrize(
    ("text", "longest", "short"),
    [
        ("no room for it", 14, "no room for it"),
        ("no room for it", 13, "no room for…"),
        ("no room for it", 12, "no room for…"),
        ("no room for it", 11, "no room…"),
        ("a list (of it)", 9, "a list…"),
        ("abcdefgh", 4, "abc…"),
    ],
)
def test_a_librarys_text_ends_behind_a_whole_word(text: str, longest: int, short: str):
    assert errors.shortened(text, longest) == short
    assert len(short) <= longest
