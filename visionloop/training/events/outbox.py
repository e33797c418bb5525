"""What is on its way to one receiver: a thread sends it in order, and whoever hands something over never waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from visionloop.core.logs import LOGGER
from visionloop.training.events.receivers import Receiver

if TYPE_CHECKING:
    import urllib3

#: How often an event is tried, and the seconds before the second try (doubled for the third).
TRIES = 3
BACKOFF_SECONDS = 1.0

#: Seconds that a receiver may take to be connected with, and to answer.
TIMEOUT_SECONDS = 5.0

#: What waits at most; the oldest is dropped for what is new.
MOST_EVENTS = 1000
MOST_BYTES = 8 * 2**20

#: How much of an answer is looked at, in bytes.
LOOKED_AT = 512


@dataclass(frozen=True)
class _Posted:
    """One event, as it is posted to this receiver."""

    kind: str
    identity: str
    body: bytes


class Outbox:
    """The way to one receiver.

    Attributes:
        receiver: The receiver.
        sent: Events that it took.
        dropped: Events that it did not get.
        problem: What happened at the last try that failed; empty without one.
    """

    def __init__(self, receiver: Receiver) -> None:
        """Its thread starts with the first event."""
        self.receiver = receiver
        self.sent = self.dropped = 0
        self.problem = ""
        self._waiting: deque[_Posted] = deque()
        self._bytes = 0
        self._busy = self._closing = self._started = False
        self._changed = threading.Condition()
        self._given_up = threading.Event()

    def put(self, kind: str, identity: str, body: bytes) -> None:
        """Hands an event over; returns at once."""
        with self._changed:
            if self._closing:
                self.dropped += 1
                return
            self._waiting.append(_Posted(kind, identity, body))
            self._bytes += len(body)
            while len(self._waiting) > MOST_EVENTS or (self._bytes > MOST_BYTES and len(self._waiting) > 1):
                self._bytes -= len(self._waiting.popleft().body)
                self.dropped += 1
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="events", daemon=True).start()
            self._changed.notify_all()

    def close(self, until: float) -> None:
        """Takes nothing more, and waits for what is still to be sent.

        Args:
            until: The time by ``time.monotonic`` at which all that is left is dropped.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while (self._waiting or self._busy) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._given_up.set()
            self.dropped += len(self._waiting) + self._busy
            self._waiting.clear()

    def _run(self) -> None:
        connections = None
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                event = self._waiting.popleft()
                self._bytes -= len(event.body)
                self._busy = True
            delivered = False
            with contextlib.suppress(Exception):  # such as no memory for a socket: the next one may do better
                connections = connections or _connections(self.receiver.url)
                delivered = self._deliver(connections, event)
            first = not delivered and not self.dropped
            with self._changed:
                if self._given_up.is_set():
                    return  # counted as dropped
                self.sent, self.dropped = self.sent + delivered, self.dropped + (not delivered)
                self._busy = False
                self._changed.notify_all()
            if first:
                LOGGER.warning(
                    "the receiver of %s does not take events (%s); what it misses is dropped and counted",
                    self.receiver.variable,
                    self.problem,
                )

    def _deliver(self, connections: urllib3.PoolManager, event: _Posted) -> bool:
        """Posts an event until it is taken, or for the last time. Returns whether it was taken."""
        for number in range(TRIES):
            if number and self._given_up.wait(BACKOFF_SECONDS * 2 ** (number - 1)):
                return False
            try:
                problem = self._post(connections, event)
            except Exception as error:  # noqa: BLE001 - whatever a network or a receiver does; its text may hold the address
                problem = type(error).__name__
            if problem is None:
                return True
            self.problem = problem
        return False

    def _post(self, connections: urllib3.PoolManager, event: _Posted) -> str | None:
        """Posts an event once. Returns what is wrong with the answer, None where it was taken."""
        answer = connections.request(
            "POST",
            self.receiver.address(event.kind),
            body=event.body,
            headers=self.receiver.headers(event.identity),
            timeout=TIMEOUT_SECONDS,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            if not 200 <= answer.status < 300:
                return f"it answered {answer.status}"
            # A login page or a proxy's; some receivers call their plain "ok" HTML too.
            form = answer.headers.get("Content-Type", "").lower()
            if not form or form.startswith("text/html"):
                start = answer.read1(LOOKED_AT, decode_content=True).lstrip().lower()
                if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
                    return "it answered with a page of HTML"
        finally:
            # The rest of an answer is nobody's, however long it is.
            answer.close()
        return None


def _connections(url: str) -> urllib3.PoolManager:
    """The connections to an address, through the proxy that the variables name for it."""
    import urllib3

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return urllib3.PoolManager()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    user = urlsplit(proxy).netloc.rpartition("@")[0]
    headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)
