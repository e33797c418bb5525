"""Reservations: the living are followed, the dead are followed by the next one, and nobody's is taken by mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from visionloop.core import reservation
from visionloop.core.errors import NotFound
from visionloop.core.processes import started
from visionloop.core.reservation import FILE, Holder, Reservation, Reserved, Watcher, this_process
from visionloop.core.storage import Prefix, open_prefix


@pytest.fixture
def prefix(workspace: str) -> Prefix:
    return open_prefix(workspace, "results").child("toy/key")


@pytest.fixture
def another_process():
    """A living process of this host that holds nothing yet."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def holder_of(pid: int, **changes) -> Holder:
    return msgspec.structs.replace(this_process(), pid=pid, started=started(pid), **changes)


def reserve(prefix: Prefix, holder: Holder, beats: int = 0, attempt: str = "theirs") -> None:
    """Lays another process's reservation."""
    value = Reserved("run-of-theirs", attempt, holder, beats, reservation.STALE_SECONDS, "")
    prefix.write(FILE, msgspec.json.encode(value))


def read(prefix: Prefix) -> Reserved:
    return msgspec.json.decode(prefix.read(FILE), type=Reserved)


def wait_until(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_nobody_holds_a_new_key(prefix):
    watcher = Watcher(prefix)
    assert not watcher.look()
    assert watcher.etag is None


def test_one_takes_it_and_the_other_does_not(prefix):
    mine = Reservation(prefix, "run", "mine")
    assert mine.take()
    assert not Reservation(prefix, "other", "other").take()
    assert not Reservation(prefix, "other", "other").take('"0123456789abcdef0123456789abcdef"')
    held = read(prefix)
    assert (held.run, held.attempt, held.holder) == ("run", "mine", this_process())
    assert held.expires_after_seconds == 60
    mine.release()
    with pytest.raises(NotFound):
        prefix.read(FILE)


def test_of_racing_takers_one_wins(prefix):
    racers = [Reservation(prefix, "run", f"attempt{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda racer: racer.take(), racers)).count(True) == 1
    for racer in racers:
        racer.release()
    assert not prefix.exists(FILE)


def test_of_racing_takers_of_a_stale_one_one_wins(prefix):
    reserve(prefix, Holder("gone", "", 0, 1, 0.0))
    etag = prefix.read_with_etag(FILE)[1]
    racers = [Reservation(prefix, "run", f"attempt{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda racer: racer.take(etag), racers)).count(True) == 1
    for racer in racers:
        racer.release()


def test_it_is_renewed_while_held(prefix, monkeypatch):
    monkeypatch.setattr(reservation, "RENEW_SECONDS", 0.02)
    mine = Reservation(prefix, "run", "mine")
    assert mine.take()
    wait_until(lambda: read(prefix).heartbeat >= 3)
    assert read(prefix).renewed_at
    mine.release()
    assert not prefix.exists(FILE)


def test_a_renewal_whose_answer_was_lost_goes_on(prefix, monkeypatch):
    monkeypatch.setattr(reservation, "RENEW_SECONDS", 0.02)
    mine = Reservation(prefix, "run", "mine")
    assert mine.take()
    # The same holder's object under an ETag that the holder does not know, as after a retried PUT.
    prefix.write(FILE, msgspec.json.encode(msgspec.structs.replace(read(prefix), heartbeat=1000)))
    wait_until(lambda: 1 <= read(prefix).heartbeat < 1000)
    mine.release()
    assert not prefix.exists(FILE)


def test_a_renewal_never_overwrites_another_holder(prefix, monkeypatch, another_process):
    monkeypatch.setattr(reservation, "RENEW_SECONDS", 0.02)
    mine = Reservation(prefix, "run", "mine")
    assert mine.take()
    reserve(prefix, holder_of(another_process.pid))
    thread = mine._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    assert read(prefix).attempt == "theirs"


def test_release_leaves_another_holders_alone(prefix, another_process):
    mine = Reservation(prefix, "run", "mine")
    assert mine.take()
    reserve(prefix, holder_of(another_process.pid))
    mine.release()
    assert read(prefix).attempt == "theirs"


def test_a_living_process_is_followed_and_a_killed_one_taken_over_at_once(prefix, another_process):
    reserve(prefix, holder_of(another_process.pid))
    watcher = Watcher(prefix)
    assert watcher.look()
    assert watcher.reserved is not None
    assert watcher.reserved.run == "run-of-theirs"
    os.kill(another_process.pid, signal.SIGKILL)
    # Dead already, though its parent has not asked yet.
    wait_until(lambda: started(another_process.pid) is None)
    assert not watcher.look()
    mine = Reservation(prefix, "run", "mine")
    assert mine.take(watcher.etag)
    assert read(prefix).attempt == "mine"
    mine.release()


def test_another_process_with_a_dead_ones_number_is_not_taken_for_it(prefix, another_process):
    reserve(prefix, msgspec.structs.replace(holder_of(another_process.pid), started=1.0))
    assert not Watcher(prefix).look()


@pytest.mark.parametrize("difference", [{"host": "elsewhere"}, {"boot": "another"}, {"namespace": 7}])
def test_a_holder_elsewhere_is_never_said_to_be_dead(difference):
    holder = msgspec.structs.replace(this_process(), pid=2**22 - 1, started=1.0)
    assert holder.is_dead()
    assert not msgspec.structs.replace(holder, **difference).is_dead()
    assert not this_process().is_dead()


def test_a_holder_elsewhere_without_a_heartbeat_goes_stale_by_the_readers_clock(prefix, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(reservation.time, "monotonic", lambda: clock[0])
    elsewhere = Holder("elsewhere", "boot", 1, 1, 1.0)
    reserve(prefix, elsewhere)
    watcher = Watcher(prefix)
    assert watcher.look()
    clock[0] += 59
    assert watcher.look()
    reserve(prefix, elsewhere, beats=1)
    clock[0] += 59
    assert watcher.look()
    clock[0] += 59
    assert watcher.look()
    clock[0] += 2
    assert not watcher.look()
    assert watcher.etag is not None
    assert Watcher(prefix).look(), "another reader's clock starts when it first looks"


def test_what_an_earlier_attempt_of_this_process_left_is_taken_at_once(prefix):
    reserve(prefix, this_process())
    watcher = Watcher(prefix)
    assert not watcher.look()
    mine = Reservation(prefix, "run", "mine")
    assert mine.take(watcher.etag)
    mine.release()


def test_another_thread_of_this_process_holds_it_like_another_process(prefix):
    first = Reservation(prefix, "run", "first")
    assert first.take()
    watcher = Watcher(prefix)
    assert watcher.look()
    first.release()
    assert not watcher.look()
    assert not reservation._holding


@pytest.mark.parametrize("torn", [b"", b"{", b"[]"])
def test_a_torn_reservation_is_nobodys(prefix, torn):
    prefix.write(FILE, torn)
    watcher = Watcher(prefix)
    assert not watcher.look()
    mine = Reservation(prefix, "run", "mine")
    assert mine.take(watcher.etag)
    prefix.write(FILE, torn)
    mine.release()
    assert prefix.read(FILE) == torn
