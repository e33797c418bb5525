"""Who is told: the addresses, tokens and intervals that the variables name, and the sentences about those that can't be used."""

from __future__ import annotations

import jwt
import pytest

from visionloop.core import secrets, variables
from visionloop.core.errors import InvalidConfig
from visionloop.training.events import receivers
from visionloop.training.events.payloads import CloudEvent
from visionloop.training.events.receivers import RENEWAL_SECONDS, TOKEN_SECONDS, Token

SECRET = "0123456789abcdef0123456789abcdef"
EVENT = CloudEvent[object](
    specversion="1.0",
    id="night.train.completed",
    source="/runs/night/train",
    type="visionloop.training.completed",
    time="2026-01-01T00:00:00.000Z",
    datacontenttype="application/json",
    data={"job_id": "night"},
)


def test_nobody_is_told_unless_an_address_is_named() -> None:
    assert receivers({}, "night") == []
    assert (
        receivers({"VISIONLOOP_EVENTS_SECRET": SECRET, "CALLBACK_TOKEN": "t", "VISIONLOOP_EVENTS_URL": " "}, "n") == []
    )


def test_both_addresses_are_told_each_in_its_own_form() -> None:
    both = {
        "VISIONLOOP_EVENTS_URL": "https://example.com/events",
        "VISIONLOOP_EVENTS_SECRET": SECRET,
        "CALLBACK_URL": "http://api/jobs/{run}/callback/?tenant=7",
        "CALLBACK_TOKEN": "as.it.is",
        "CALLBACK_INTERVAL": "3",
    }
    own, bare = receivers(both, "night")
    assert own.address("log") == "https://example.com/events"
    assert b'"specversion":"1.0"' in own.body(EVENT)
    assert own.headers("id")["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert [own.takes(epoch, False) for epoch in (1, 2, 3)] == [True] * 3
    assert bare.address("log") == "http://api/jobs/night/callback/log?tenant=7"
    assert bare.body(EVENT) == b'{"job_id":"night"}'
    headers = bare.headers("night.train.completed")
    assert headers["Authorization"] == "Bearer as.it.is"
    assert headers["Ce-Id"] == "night.train.completed"
    assert [bare.takes(epoch, epoch == 8) for epoch in range(1, 9)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_the_token_is_bound_to_run_scope_and_time_and_renewed_before_it_expires() -> None:
    clock = [1_800_000_000.0]
    token = Token(SECRET, "night", lambda: clock[0])

    def claims(value: str) -> dict[str, object]:
        decoded: dict[str, object] = jwt.decode(value, SECRET, algorithms=["HS256"], options={"verify_exp": False})
        return decoded

    first = token()
    assert claims(first) == {
        "sub": "night",
        "job_id": "night",
        "scope": "training-callback",
        "exp": 1_800_000_000 + 6 * 3600,
    }
    assert jwt.get_unverified_header(first)["alg"] == "HS256"
    clock[0] += RENEWAL_SECONDS - 1
    assert token() == first
    clock[0] += 1
    assert claims(token())["exp"] == 1_800_000_000 + RENEWAL_SECONDS + TOKEN_SECONDS
    clock[0] -= 10**6  # the machine's clock was set back
    assert claims(token())["exp"] == int(clock[0]) + TOKEN_SECONDS


def test_without_a_secret_no_token_is_sent() -> None:
    (own,) = receivers({"VISIONLOOP_EVENTS_URL": "http://example.com"}, "night")
    assert "Authorization" not in own.headers("id")


@pytest.mark.parametrize("name", ["VISIONLOOP_EVENTS_URL", "CALLBACK_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "example.com/a-part",
        "ftp://example.com/a-part",
        "http:///a-part",
        "http://[::1/a-part",
        "http://host:port/a-part",
        "http://host/a-part b",
        "http://host/a-part\x00",
        "http://höst/a-part",
    ],
)
def test_an_address_that_is_none_is_refused_by_its_name_alone(name: str, url: str) -> None:
    with pytest.raises(
        InvalidConfig, match=f"^{name} is not the address of a receiver; give one such as https://"
    ) as raised:
        receivers({name: url}, "night")
    assert "a-part" not in raised.value.sentence


def test_a_user_in_an_address_is_refused_since_it_would_not_be_sent() -> None:
    with pytest.raises(
        InvalidConfig, match="VISIONLOOP_EVENTS_URL holds a user and password, which are not sent"
    ) as raised:
        receivers({"VISIONLOOP_EVENTS_URL": "https://me:word@example.com"}, "night")
    assert "word@" not in raised.value.sentence


def test_a_secret_that_is_too_short_is_refused_whether_there_is_an_address_or_not() -> None:
    with pytest.raises(InvalidConfig, match="VISIONLOOP_EVENTS_SECRET has 31 characters; give at least 32"):
        receivers({"VISIONLOOP_EVENTS_SECRET": SECRET[:-1]}, "night")


@pytest.mark.parametrize("token", ["two words", "ключ", "a\tb"])
def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(InvalidConfig, match="CALLBACK_TOKEN holds a character that no HTTP header can hold"):
        receivers({"CALLBACK_TOKEN": token}, "night")


@pytest.mark.parametrize("interval", ["0", "-1", "2.5", "often", "٣", "9999999999"])
def test_an_interval_that_is_no_number_of_epochs_is_refused(interval: str) -> None:
    with pytest.raises(InvalidConfig, match=r"CALLBACK_INTERVAL is .*; give a whole number of epochs from 1"):
        receivers({"CALLBACK_INTERVAL": interval}, "night")


def test_a_token_with_a_line_break_is_refused_where_all_variables_are_read() -> None:
    for name in ("CALLBACK_TOKEN", "VISIONLOOP_EVENTS_SECRET", "VISIONLOOP_EVENTS_URL", "CALLBACK_URL"):
        with pytest.raises(InvalidConfig, match=f"{name} has a line break inside its value"):
            variables.prepare({name: "one\ntwo"})
    stripped = {"CALLBACK_TOKEN": "one\n", "CALLBACK_INTERVAL": " 2\n"}
    variables.prepare(stripped)
    assert stripped == {"CALLBACK_TOKEN": "one", "CALLBACK_INTERVAL": "2"}


def test_addresses_and_tokens_are_in_no_text_that_leaves_the_process() -> None:
    held = {name: f"https://hooks.example.com/{name}/part" for name in secrets.variables("events")}
    text = secrets.redact(" ".join(held.values()), held)
    assert "/part" not in text
