"""promote and rollback killed with SIGKILL before each of their writes, and while a registration goes on.

The champion is never a model that the gate rejected, nor one that it kept and nobody promoted; the same command finishes what was
cut off, and goes no step further.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from killed_process import check_champion, decision, registration
from toy_detector import Prepared, published

from visionloop.core.runs import Decision
from visionloop.pipelines.models import decisions
from visionloop.pipelines.models.workspace import run_of
from visionloop.registry import Registry, Version
from visionloop.registry.versions import DECISION, PROMOTED, PROMOTED_BY, SUPERSEDED_BY

#: More writes than a decision makes.
MOST_WRITES = 20


@pytest.fixture
def kept(prepared: Prepared, registry: Registry, name: str) -> str:
    """Two champions, one after the other, and a third version that the gate kept."""
    for offset, verdict in ((4, "promote"), (2, "promote"), (5, "keep")):
        evaluation = prepared.evaluate(prepared.train(offset), name)
        assert evaluation.scalars["verdict"] == verdict
        prepared.register(evaluation, name)
    assert champion(registry, name).number == 2
    return name


def test_a_promotion_and_a_rollback_killed_in_the_middle_are_finished_by_the_next(
    processes: ForkServerContext, registry: Registry, kept: str, tmp_path: Path
) -> None:
    assert decision(processes, "promote", f"{kept}/3", tmp_path / "told", after=4).killed()
    check_champion(registry, kept)
    decisions.promote(registry, f"{kept}/3", "bob", "")
    promoted(registry, kept)
    assert decision(processes, "rollback", kept, tmp_path / "told", after=5).killed()
    check_champion(registry, kept)
    assert registry.model_tag(kept, DECISION) is not None
    assert decisions.rollback(registry, kept, None, "bob", "").version == 2
    assert champion(registry, kept).tags[PROMOTED_BY] == "ada"
    assert registry.model_tag(kept, DECISION) is None


@pytest.mark.slow
def test_a_promotion_killed_before_each_write_is_finished_by_the_next(
    processes: ForkServerContext, registry: Registry, kept: str, tmp_path: Path
) -> None:
    for after in killed_at_each(processes, "promote", f"{kept}/3", tmp_path):
        check_champion(registry, kept)
        decision(processes, "promote", f"{kept}/3", tmp_path / "told").succeed()
        promoted(registry, kept)
        assert len(entries(registry, kept, 3)) == after + 1  # one for each time, however often it was begun
        registry_as_before(registry, kept)


@pytest.mark.slow
def test_a_rollback_killed_before_each_write_goes_back_once(
    processes: ForkServerContext, registry: Registry, kept: str, tmp_path: Path
) -> None:
    for _ in killed_at_each(processes, "rollback", kept, tmp_path):
        check_champion(registry, kept)
        decision(processes, "rollback", kept, tmp_path / "told").succeed()
        assert champion(registry, kept).number == 1
        second = version(registry, kept, 2)
        assert SUPERSEDED_BY not in {*second.tags, *version(registry, kept, 1).tags}
        assert PROMOTED in second.tags  # so register never brings it back
        assert registry.model_tag(kept, DECISION) is None
        decisions.promote(registry, f"{kept}/2", "ada", "")
        assert version(registry, kept, 1).tags[SUPERSEDED_BY] == "2"


def test_a_registration_killed_before_its_alias_leaves_the_champion(
    processes: ForkServerContext, prepared: Prepared, registry: Registry, kept: str, tmp_path: Path
) -> None:
    uri = published(prepared.evaluate(prepared.train(1), kept)).uri
    process = registration(processes, prepared, uri, kept, tmp_path / "told")
    assert process.kill_when(lambda: registry.version(kept, 4) is not None)
    check_champion(registry, kept)
    registration(processes, prepared, uri, kept, tmp_path / "told").succeed()
    check_champion(registry, kept)
    assert champion(registry, kept).number == 4


@pytest.mark.slow
def test_a_registration_and_a_promotion_at_once(
    processes: ForkServerContext, prepared: Prepared, registry: Registry, kept: str, tmp_path: Path
) -> None:
    evaluation = prepared.evaluate(prepared.train(1), kept)
    registering = registration(processes, prepared, published(evaluation).uri, kept, tmp_path / "registered")
    deciding = decision(processes, "promote", f"{kept}/3", tmp_path / "told", after=3)
    registering.succeed()
    assert deciding.killed()
    check_champion(registry, kept)
    decision(processes, "promote", f"{kept}/3", tmp_path / "told").succeed()
    promoted(registry, kept)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_killed_at_random_moments_beside_a_registration(
    processes: ForkServerContext,
    prepared: Prepared,
    registry: Registry,
    kept: str,
    tmp_path: Path,
    seed: int,
    command: str,
) -> None:
    generator = random.Random(f"{command}{seed}")
    evaluation = prepared.evaluate(prepared.train(1), kept)
    model = f"{kept}/3" if command == "promote" else kept
    for _ in range(3):
        registering = registration(processes, prepared, published(evaluation).uri, kept, tmp_path / "registered")
        deciding = decision(processes, command, model, tmp_path / "told", after=generator.randrange(MOST_WRITES))
        registering.kill_when(later(generator.uniform(0.05, 1.5)))
        deciding.kill_when(later(generator.uniform(0.05, 1.5)))
        check_champion(registry, kept)
    registration(processes, prepared, published(evaluation).uri, kept, tmp_path / "registered").succeed()
    check_champion(registry, kept)
    decision(processes, "promote", f"{kept}/3", tmp_path / "told").succeed()
    promoted(registry, kept)


def later(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def killed_at_each(processes: ForkServerContext, command: str, model: str, folder: Path) -> Iterator[int]:
    """The number of each write before which a command was killed, until it makes none more."""
    for after in range(MOST_WRITES):
        process = decision(processes, command, model, folder / "told", after=after)
        if not process.killed():
            process.succeed()
            assert after >= 6
            return
        yield after
    raise AssertionError(f"{command} makes more than {MOST_WRITES} writes")


def registry_as_before(registry: Registry, name: str) -> None:
    """Version 2 is the champion again, and 3 was never promoted."""
    decisions.rollback(registry, name, None, "ada", "")
    for tag in (PROMOTED, PROMOTED_BY):
        registry.untag(version(registry, name, 3), tag)
    assert champion(registry, name).number == 2


def champion(registry: Registry, name: str) -> Version:
    found = registry.champion(name)
    assert found is not None
    return found


def version(registry: Registry, name: str, number: int) -> Version:
    found = registry.version(name, number)
    assert found is not None
    return found


def entries(registry: Registry, name: str, number: int) -> list[Decision]:
    record = run_of(version(registry, name, number))
    assert record is not None
    return record.decisions()


def promoted(registry: Registry, name: str) -> None:
    """Version 3 is the champion by a person, the one before is superseded, and nothing is left half done."""
    now = champion(registry, name)
    assert (now.number, now.aliases) == (3, ("champion",))
    assert now.tags[PROMOTED]
    assert now.tags[PROMOTED_BY] == "ada"
    assert now.tags["visionloop.promoted_reason"] == "better at night"
    assert SUPERSEDED_BY not in now.tags
    assert registry.model_tag(name, DECISION) is None
    (last,) = [entry for entry in entries(registry, name, 3) if entry.at == now.tags["visionloop.promoted_at"]][-1:]
    assert (last.decision, last.version, last.by) == ("promote", 3, "ada")
