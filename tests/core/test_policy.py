"""The policy table: its numbers, and what is derived from them."""

from __future__ import annotations

import pytest

from visionloop.core.policy import POLICIES, RUN_DEADLINE_SECONDS, StagePolicy


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (5000, 10)])
def test_backoff_doubles_up_to_its_longest(attempt, seconds):
    assert StagePolicy(backoff_first=1, backoff_factor=2.0, backoff_longest=10).backoff(attempt) == seconds


def test_a_constant_backoff():
    assert [StagePolicy(backoff_first=3, backoff_factor=1).backoff(attempt) for attempt in (1, 2, 9)] == [3, 3, 3]


@pytest.mark.parametrize("name", POLICIES)
def test_the_engine_kills_ten_minutes_after_the_stage_should_have_spoken(name):
    policy = POLICIES[name]
    grows = bool(policy.seconds_an_image)
    assert policy.engine_deadline == (RUN_DEADLINE_SECONDS if grows else policy.timeout + 600)


@pytest.mark.parametrize(
    ("mode", "images", "seconds"),
    [("annotations", 0, 300), ("annotations", 10**6, 1300), ("headers", 10**6, 5300), ("full", 10**6, 60300)],
)
def test_validates_limit_is_a_rate(mode, images, seconds):
    assert POLICIES["validate"].limit(mode, images) == seconds


def test_other_limits_do_not_grow():
    assert {name for name, row in POLICIES.items() if row.limit("full", 10**6) != row.timeout} == {"validate"}


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
