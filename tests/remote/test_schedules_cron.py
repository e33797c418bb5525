"""Cron expressions: what the engines take, and the times they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.following.cron import SHORT_FORMS, Cron, zone_named

SEOUL, BERLIN = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-11-21T10:00", "2026-11-21T10:01"),
        ("* * * * *", "2026-11-21T10:00:30", "2026-11-21T10:01"),
        ("0 3 * * *", "2026-11-21T03:00", "2026-11-22T03:00"),
        ("*/15 9-17 * * mon-fri", "2026-11-20T17:50", "2026-11-23T09:00"),
        ("5/20 0 * * *", "2026-11-21T00:06", "2026-11-21T00:25"),
        ("0 0 29 2 *", "2026-11-21T00:00", "2028-02-29T00:00"),
        ("0 0 29 feb *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 12 1 * 1", "2026-11-21T00:00", "2026-11-23T12:00"),
        ("0 12 24 * 1", "2026-11-23T13:00", "2026-11-24T12:00"),
        ("0,30 8 * 1,7 *", "2026-11-21T00:00", "2027-01-01T08:00"),
        ("@weekly", "2026-11-21T00:00", "2026-11-22T00:00"),
    ],
)
def test_the_next_time(cron: str, after: str, expected: str) -> None:
    result = Cron.parse(cron).next(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert result == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_the_next_time_is_that_of_the_zone() -> None:
    result = Cron.parse("0 3 * * *").next(datetime(2026, 11, 21, 10, tzinfo=UTC).astimezone(SEOUL))
    assert result is not None
    assert result.isoformat() == "2026-11-22T03:00:00+09:00"


def test_a_time_that_the_clocks_leave_out_is_skipped() -> None:
    # On 28 March 2027 two o'clock becomes three in Berlin.
    result = Cron.parse("30 2 * * *").next(datetime(2027, 3, 27, 12, tzinfo=BERLIN))
    assert result == datetime(2027, 3, 29, 2, 30, tzinfo=BERLIN)


def test_a_time_that_the_clocks_repeat_counts_once() -> None:
    # On 31 October 2027 three o'clock becomes two again.
    first = Cron.parse("30 2 * * *").next(datetime(2027, 10, 30, 12, tzinfo=BERLIN))
    assert first == datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)
    assert first is not None
    assert Cron.parse("30 2 * * *").next(first) == datetime(2027, 11, 1, 2, 30, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("", "give five fields"),
        ("* * * *", "give five fields"),
        ("0 0 3 * * *", "give five fields"),
        ("@reboot", "give five fields"),
        ("60 * * * *", "the minute '60' is out of range; give 0 to 59."),
        ("* 24 * * *", "the hour '24' is out of range"),
        ("* * 0 * *", "the day of the month '0' is out of range"),
        ("* * * 13 *", "the month '13' is out of range; give 1 to 12, or jan to dec."),
        ("* * * * 7", "the day of the week '7' is out of range; give 0 to 6, or sun to sat."),
        ("* * * * monday", "the day of the week 'monday' is out of range"),
        ("5-1 * * * *", "'5-1' means nothing"),
        ("*/0 * * * *", "'*/0' means nothing"),
        ("1,,2 * * * *", "the minute '1,,2' is not one of"),
        ("? * * * *", "the minute '?' is not one of"),
        ("-1 * * * *", "the minute '-1' is not one of"),
        ("1-2-3 * * * *", "the minute '1-2-3' is not one of"),
        ("L * * * *", "the minute 'L' is out of range"),
        ("٣ * * * *", "the minute '٣' is not one of"),
        ("0 0 30 2 *", "there is no such day"),
        ("0 0 */2 * 1", "the engines read a step of * in one day field beside the other differently"),
    ],
)
def test_what_an_engine_would_not_take_is_told(cron: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        Cron.parse(cron)
    assert sentence in refused.value.sentence
    assert refused.value.sentence.startswith(f"--cron '{cron}'")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        cron = Cron.parse(text)
    except InvalidConfig:
        return
    assert Cron.parse(cron.text) == cron


def fields(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A field's text, and the numbers that it means."""
    number = st.integers(low, high)
    steps = st.integers(1, high)
    part = st.one_of(
        st.just(("*", range(low, high + 1))),
        number.map(lambda value: (str(value), range(value, value + 1))),
        steps.map(lambda step: (f"*/{step}", range(low, high + 1, step))),
        st.tuples(number, steps).map(lambda drawn: (f"{drawn[0]}/{drawn[1]}", range(drawn[0], high + 1, drawn[1]))),
        st.tuples(number, number, steps).map(
            lambda drawn: (
                f"{min(drawn[:2])}-{max(drawn[:2])}/{drawn[2]}",
                range(min(drawn[:2]), max(drawn[:2]) + 1, drawn[2]),
            )
        ),
    )
    return st.lists(part, min_size=1, max_size=3).map(
        lambda parts: (",".join(text for text, _ in parts), frozenset().union(*(entry for _, entry in parts)))
    )


@given(
    minute=fields(0, 59),
    hour=fields(0, 23),
    weekday=fields(0, 6),
    after=st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)),
)
def test_the_next_time_is_the_first_that_fits(
    minute: tuple[str, frozenset[int]],
    hour: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]],
    after: datetime,
) -> None:
    cron = Cron.parse(f"{minute[0]} {hour[0]} * * {weekday[0]}")
    assert (cron.minutes, cron.hours, cron.weekdays) == (minute[1], hour[1], weekday[1])
    moment = after.replace(tzinfo=UTC)
    result = cron.next(moment)
    expected = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    # Hour by hour where nothing fits, so that a week takes few steps.
    while not (expected.hour in hour[1] and expected.isoweekday() % 7 in weekday[1] and expected.minute in minute[1]):
        fits = expected.hour in hour[1] and expected.isoweekday() % 7 in weekday[1]
        expected += timedelta(minutes=1) if fits else timedelta(minutes=60 - expected.minute)
    assert result == expected


@pytest.mark.parametrize("text", SHORT_FORMS)
def test_short_forms_stand_for_five_fields(text: str) -> None:
    assert Cron.parse(text).text == SHORT_FORMS[text]


@pytest.mark.parametrize("name", ["Mars/Base", "", "../UTC", "/etc/passwd", "a\0b"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfig, match="there is no such time zone here"):
        zone_named(name)
