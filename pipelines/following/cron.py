"""Cron expressions of five fields, restricted to what both engines read alike, and their times."""

# Not cronsim: it reads more than the engines do (7, L, #), so the parser would stay, and it moves a time that the clocks skip.
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from visionloop.core.errors import InvalidConfig

#: Short forms of five fields.
SHORT_FORMS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}

#: Days that are searched for the next time: 29 February comes after eight years at most.
LONGEST_SEARCH = 9 * 366

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


@dataclass(frozen=True)
class _Field:
    """A field of the expression: its name, its bounds, and names for its numbers, from the lowest on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """A cron expression.

    If day of the month or day of the week is ``*``, a day must match both; if both are restricted, it must match one of
    them (https://pkg.go.dev/github.com/robfig/cron/v3#hdr-CRON_Expression_Format).

    Attributes:
        text: The five fields.
        minutes: 0 to 59.
        hours: 0 to 23.
        days: Of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 (Sunday) to 6.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Reads an expression.

        Raises:
            InvalidConfig: If an engine would refuse it, if the engines would read it differently, or if no time ever matches.
        """
        plain = " ".join(SHORT_FORMS.get(text.strip().lower(), text).split())
        words = plain.split(" ")
        if len(words) != len(_FIELDS):
            raise InvalidConfig(
                f"--cron '{text}': give five fields (minute, hour, day of the month, month, day of the week) or one of {', '.join(SHORT_FORMS)}."
            )
        parsed = [_parse(word, field, text) for word, field in zip(words, _FIELDS, strict=True)]
        days, weekdays = words[2], words[4]
        if "*" not in (days, weekdays) and "*" in days + weekdays:
            raise InvalidConfig(
                f"--cron '{text}': the engines read a step of * in one day field beside the other differently; name the days."
            )
        expression = cls(plain, *parsed)
        if expression.next(datetime.now(UTC)) is None:
            raise InvalidConfig(f"--cron '{text}': there is no such day; correct the day of the month or the month.")
        return expression

    def next(self, after: datetime) -> datetime | None:
        """The first time after ``after``, in its time zone; None if there is none in eight years.

        A time that a change of clocks leaves out is skipped; a repeated one counts once.
        """
        zone = after.tzinfo or UTC
        for day in self._days_from(after.date()):
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    candidate = _moment(day, time(hour, minute), zone)
                    if candidate is not None and candidate.astimezone(UTC) > after.astimezone(UTC):
                        return candidate
        return None

    def _days_from(self, first: date) -> Iterator[date]:
        either = len(self.days) < 31 and len(self.weekdays) < 7
        for number in range(LONGEST_SEARCH):
            day = first + timedelta(days=number)
            of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
            if day.month in self.months and (of_month or of_week if either else of_month and of_week):
                yield day


def zone_named(name: str) -> tzinfo:
    """A time zone of the IANA database.

    Raises:
        InvalidConfig: If there is no such time zone.
    """
    if name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidConfig(
            f"--timezone {name}: there is no such time zone here; give one of the IANA database, such as Asia/Seoul."
        ) from None


def _parse(word: str, field: _Field, text: str) -> frozenset[int]:
    values: set[int] = set()
    for part in word.split(","):
        matched = _PART.fullmatch(part)
        if matched is None:
            raise InvalidConfig(
                f"--cron '{text}': the {field.name} '{word}' is not one of *, 5, 1-5, */5 and a list of these."
            )
        step = int(matched["step"] or 1)
        if matched["all"]:
            first, last = field.low, field.high
        else:
            first = _number(matched["first"], field, text)
            # 5/10 means every tenth from 5 on.
            open_ended = field.high if matched["step"] else first
            last = _number(matched["last"], field, text) if matched["last"] else open_ended
        if step < 1 or first > last:
            raise InvalidConfig(
                f"--cron '{text}': the {field.name} '{part}' means nothing; count upwards, by 1 or more."
            )
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(word: str, field: _Field, text: str) -> int:
    if word.lower() in field.names:
        return field.low + field.names.index(word.lower())
    number = int(word) if word.isdigit() else -1
    if not field.low <= number <= field.high:
        names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
        raise InvalidConfig(
            f"--cron '{text}': the {field.name} '{word}' is out of range; give {field.low} to {field.high}{names}."
        )
    return number


def _moment(day: date, at: time, zone: tzinfo) -> datetime | None:
    """A local time; None if a change of clocks leaves it out."""
    moment = datetime.combine(day, at, zone)
    round_trip = moment.astimezone(UTC).astimezone(zone)
    return moment if round_trip.replace(tzinfo=None) == moment.replace(tzinfo=None) else None
