"""What is on its way to a receiver that hangs, refuses, lies or is gone: the sender never waits, and everything is counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from event_receiver import HANGS, HOSTILE, WELL, Receiver, receiving

from visionloop.training.events import outbox as module
from visionloop.training.events.outbox import Outbox
from visionloop.training.events.receivers import Receiver as Address


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between tries."""
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.0)


@pytest.fixture
def elsewhere() -> Iterator[Receiver]:
    """Where nobody is to go."""
    with receiving() as server:
        yield server


def outbox_to(server: Receiver) -> Outbox:
    return Outbox(Address("VISIONLOOP_EVENTS_URL", server.url))


def soon() -> float:
    """A time by which all is sent, if it can be."""
    return time.monotonic() + 60


def put(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put("progress", str(number), b'{"id": "%d", "type": "a.progress"}' % number)


def test_events_arrive_once_and_in_order() -> None:
    with receiving() as server:
        outbox = outbox_to(server)
        put(outbox, *range(50))
        outbox.close(soon())
        assert [posted.id for posted in server.taken] == [str(number) for number in range(50)]
    assert (outbox.sent, outbox.dropped) == (50, 0)


def test_what_fails_twice_is_tried_a_third_time_before_what_comes_after_it() -> None:
    with receiving(first=["503", "closes", WELL, "503"]) as server:
        outbox = outbox_to(server)
        put(outbox, 1, 2)
        outbox.close(soon())
        assert [posted.id for posted in server.taken] == ["1", "2"]
        assert server.answers.asked == 5
    assert (outbox.sent, outbox.dropped) == (2, 0)


@pytest.mark.parametrize("how", HOSTILE)
def test_what_three_tries_can_not_deliver_is_dropped_and_counted_and_the_next_is_sent(
    how: str, elsewhere: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if how == HANGS:
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    with caplog.at_level(logging.WARNING), receiving(first=[how] * 3, elsewhere=elsewhere.url) as server:
        outbox = outbox_to(server)
        put(outbox, 1, 2)
        outbox.close(soon())
        assert server.answers.asked == 4
        assert [posted.id for posted in server.taken] == ["2"]
        assert server.url not in caplog.text
    assert (outbox.sent, outbox.dropped) == (1, 1)
    assert elsewhere.answers.asked == 0
    assert caplog.text.count("the receiver of VISIONLOOP_EVENTS_URL does not take events (") == 1


def test_a_receiver_that_is_gone_and_comes_back_misses_only_what_was_tried_meanwhile() -> None:
    with receiving() as server:
        address = server.url
    outbox = Outbox(Address("CALLBACK_URL", address))
    put(outbox, 1)
    outbox.close(soon())
    assert (outbox.sent, outbox.dropped) == (0, 1)
    assert "/events" not in outbox.problem


def test_html_that_is_no_page_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers call a plain "ok" HTML."""
    with receiving(then="plain") as server:
        monkeypatch.setattr(server.RequestHandlerClass, "do_POST", lambda self: self.answer(200, b"ok", "text/html"))
        outbox = outbox_to(server)
        put(outbox, 1)
        outbox.close(soon())
    assert (outbox.sent, outbox.dropped) == (1, 0)


def test_whoever_hands_over_never_waits_and_the_end_waits_no_longer_than_it_may() -> None:
    with receiving(then=HANGS) as server:
        outbox = outbox_to(server)
        put(outbox, *range(20))
        with server.changed:
            assert server.changed.wait_for(lambda: server.answers.asked == 1, 60)
        outbox.close(time.monotonic())
        assert (outbox.sent, outbox.dropped) == (0, 20)
        put(outbox, 21)
        server.over.set()  # what was under way ends, and counts no more
        for thread in threading.enumerate():
            if thread.name == "events":
                thread.join(60)
        assert (outbox.sent, outbox.dropped) == (0, 21)


def test_what_waits_is_bounded_in_number_and_size_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 5)
    with receiving(first=[HANGS]) as server:
        outbox = outbox_to(server)
        put(outbox, 0)
        with server.changed:
            assert server.changed.wait_for(lambda: server.answers.asked == 1, 60)
        put(outbox, *range(1, 101))
        assert outbox.dropped == 95
        assert len(outbox._waiting) == 5
        monkeypatch.setattr(module, "MOST_BYTES", 100)
        outbox.put("log", "a", b'{"id": "a", "type": "a.log", "padding": "%s"}' % (b"0" * 200))
        assert [event.identity for event in outbox._waiting] == ["a"]
        server.over.set()  # it closes the connection that it holds
        outbox.close(soon())
        assert [posted.id for posted in server.taken] == ["0", "a"]
    assert (outbox.sent, outbox.dropped) == (2, 100)


def test_a_proxy_of_the_variables_is_asked_unless_the_address_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:wo%20rd@127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        outbox = Outbox(Address("VISIONLOOP_EVENTS_URL", "http://receiver.invalid/events"))
        put(outbox, 1)
        outbox.close(soon())
        assert [posted.path for posted in proxy.taken] == ["http://receiver.invalid/events"]
        assert proxy.taken[0].headers["proxy-authorization"] == "Basic bWU6d28gcmQ="
        with receiving() as server:
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            outbox = outbox_to(server)
            put(outbox, 2)
            outbox.close(soon())
            assert [posted.id for posted in server.taken] == ["2"]


def test_no_thread_is_started_before_the_first_event_and_none_is_left_behind() -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "events"]

    with receiving() as server:
        before = threads()
        outbox = outbox_to(server)
        assert threads() == before
        put(outbox, 1)
        (sender,) = [thread for thread in threads() if thread not in before]
        outbox.close(soon())
        sender.join(60)
        assert not sender.is_alive()
