"""Who is told what a training does: the addresses that the variables name, and the tokens that go with an event."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from visionloop.core.errors import InvalidConfig
from visionloop.training.events.payloads import SCOPE, CloudEvent

#: Our own: CloudEvents, with a token that is made here.
URL_VARIABLE = "VISIONLOOP_EVENTS_URL"
SECRET_VARIABLE = "VISIONLOOP_EVENTS_SECRET"  # noqa: S105 - a variable's name

#: As receivers of bare payloads know them: an address for each kind below it, and a token that somebody else made.
CALLBACK_URL_VARIABLE = "CALLBACK_URL"
CALLBACK_TOKEN_VARIABLE = "CALLBACK_TOKEN"  # noqa: S105 - a variable's name
INTERVAL_VARIABLE = "CALLBACK_INTERVAL"

#: The shortest secret that HS256 is safe with (RFC 7518, 3.2).
SHORTEST_SECRET = 32

#: Seconds for which a token is valid, and after which the next one is made.
TOKEN_SECONDS = 6 * 3600
RENEWAL_SECONDS = TOKEN_SECONDS // 2

#: What stands for the run's name in an address.
RUN = "{run}"


class Token:
    """A signed token that says which run's events these are; it is renewed long before it expires."""

    def __init__(self, secret: str, run: str, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives seconds since 1970."""
        self._secret, self._run, self._clock = secret, run, clock
        self._made, self._value = -float(TOKEN_SECONDS), ""

    def __call__(self) -> str:
        """The token to send now."""
        now = self._clock()
        if not 0 <= now - self._made < RENEWAL_SECONDS:
            import jwt

            claims = {"sub": self._run, "job_id": self._run, "scope": SCOPE, "exp": int(now) + TOKEN_SECONDS}
            self._made, self._value = now, jwt.encode(claims, self._secret, algorithm="HS256")
        return self._value


@dataclass(frozen=True)
class Receiver:
    """One address that events are sent to.

    Attributes:
        variable: Where the address comes from; it names the receiver in sentences, since the address is a secret.
        url: The address.
        bare: Whether it takes the data alone, each kind at an address of its own.
        token: The token to send now; None sends none.
        interval: It is told of every n-th epoch and of the last.
    """

    variable: str
    url: str
    bare: bool = False
    token: Callable[[], str] | None = None
    interval: int = 1

    def takes(self, epoch: int, last: bool) -> bool:
        """Whether it is told of an epoch."""
        return last or epoch % self.interval == 0

    def address(self, kind: str) -> str:
        """The URL that events of a kind are posted to."""
        if not self.bare:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{kind}"))

    def body(self, event: CloudEvent[object]) -> bytes:
        """What is posted."""
        return msgspec.json.encode(event.data if self.bare else event)

    def headers(self, identity: str) -> dict[str, str]:
        """The headers to post with; the event's id stands among them where it is not in the body."""
        form = "application/json" if self.bare else "application/cloudevents+json"
        headers = {"Content-Type": f"{form}; charset=utf-8", "User-Agent": "visionloop"}
        if self.bare:
            headers["Ce-Id"] = identity
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token()}"
        return headers


def receivers(environment: Mapping[str, str], run: str) -> list[Receiver]:
    """The receivers that the variables name; none where nobody is told.

    Args:
        environment: The process's variables.
        run: The run's name, which stands in an address for ``{run}``.

    Raises:
        InvalidConfig: If an address, the secret, a token or the interval can't be used. No sentence holds their values.
    """
    named = []
    secret = environment.get(SECRET_VARIABLE, "").strip()
    if secret and len(secret) < SHORTEST_SECRET:
        raise InvalidConfig(
            f"{SECRET_VARIABLE} has {len(secret)} characters; give at least {SHORTEST_SECRET}, such as the output of openssl rand -hex 32."
        )
    if url := environment.get(URL_VARIABLE, "").strip():
        token = Token(secret, run) if secret else None
        named.append(Receiver(URL_VARIABLE, _address(url, URL_VARIABLE, run), token=token))
    token_given = environment.get(CALLBACK_TOKEN_VARIABLE, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token_given):
        raise InvalidConfig(f"{CALLBACK_TOKEN_VARIABLE} holds a character that no HTTP header can hold; set it again.")
    interval = environment.get(INTERVAL_VARIABLE, "").strip() or "1"
    if not re.fullmatch(r"[0-9]{1,9}", interval) or int(interval) < 1:
        raise InvalidConfig(f"{INTERVAL_VARIABLE} is '{interval}'; give a whole number of epochs from 1.")
    if url := environment.get(CALLBACK_URL_VARIABLE, "").strip():
        token_as_it_is = (lambda: token_given) if token_given else None
        address = _address(url, CALLBACK_URL_VARIABLE, run)
        named.append(Receiver(CALLBACK_URL_VARIABLE, address, True, token_as_it_is, int(interval)))
    return named


def _address(url: str, variable: str, run: str) -> str:
    """The address with the run's name in it. Raises InvalidConfig if it is none."""
    url = url.replace(RUN, quote(run, safe=""))
    example = f"give one such as https://example.com/{'callback' if variable == CALLBACK_URL_VARIABLE else 'events'}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # a bracket without its other half, a port that is no number
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise InvalidConfig(f"{variable} is not the address of a receiver; {example}.")
    if "@" in parts.netloc:
        instead = CALLBACK_TOKEN_VARIABLE if variable == CALLBACK_URL_VARIABLE else SECRET_VARIABLE
        raise InvalidConfig(
            f"{variable} holds a user and password, which are not sent; leave them out and set {instead}."
        )
    return urlunsplit(parts._replace(fragment=""))
