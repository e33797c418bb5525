"""The policy table: its numbers, and what is derived from them."""

from __future__ import annotations

import pytest

from visionloop.core.policy import POLICIES, StagePolicy


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (5000, 10)])
def test_backoff_doubles_up_to_its_longest(attempt, seconds):
    assert StagePolicy(backoff_first=1, backoff_factor=2.0, backoff_longest=10).backoff(attempt) == seconds


def test_a_constant_backoff():
    assert [StagePolicy(backoff_first=3, backoff_factor=1).backoff(attempt) for attempt in (1, 2, 9)] == [3, 3, 3]


@pytest.mark.parametrize("name", POLICIES)
def test_the_engine_kills_ten_minutes_after_the_stage_should_have_spoken(name):
    assert POLICIES[name].engine_deadline == POLICIES[name].timeout + 600


def test_the_seeds_numbers():
    assert {name: POLICIES[name].timeout for name in ("validate", "train", "cleanup")} == {
        "validate": 300,
        "train": 86400,
        "cleanup": 300,
    }
    assert {policy.attempts for policy in POLICIES.values()} == {3}
    train = POLICIES["train"]
    assert (train.cpu_request, train.memory_request, train.cpu_limit, train.memory_limit) == ("2", "8Gi", "4", "16Gi")
    assert (train.gpus, train.shared_memory, train.backoff(1), POLICIES["validate"].backoff(99)) == (1, "2Gi", 10, 10)
