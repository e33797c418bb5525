"""register killed with SIGKILL at every step of its work, and run again: one version, the right alias, whole files."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from killed_process import check_champion, registration
from toy_detector import Prepared, published, run

from visionloop.components import cleanup
from visionloop.core.stage import Outcome
from visionloop.core.stores import local_path
from visionloop.registry import Registry, package

pytestmark = pytest.mark.slow


@pytest.fixture
def steps(prepared: Prepared, registry: Registry, name: str) -> tuple[Outcome, dict[str, Callable[[], bool]]]:
    """A champion, the evaluation of a better model, and how each step of its registration is seen."""
    prepared.register(prepared.evaluate(prepared.train(4), name), name)
    training = prepared.train(2)
    evaluation = prepared.evaluate(training, name)
    root = local_path(prepared.workspace)
    assert root is not None

    def tags() -> dict[str, str]:
        version = registry.version(name, 2)
        return dict(version.tags) if version else {}

    return (
        evaluation,
        {
            "reserved": lambda: len(list(root.glob("register/*/reservation.json"))) > 0,
            "locked": lambda: len(list(root.glob("locks/register/*/reservation.json"))) > 0,
            "model uploaded": lambda: len(list(root.glob("register/*/*/model/MLmodel"))) > 1,
            "version created": lambda: registry.version(name, 2) is not None,
            "copy begun": lambda: (root / "models" / name / "2").exists(),
            "copy done": lambda: (root / "models" / name / "2" / "MLmodel").exists(),
            "copy tagged": lambda: "visionloop.storage_uri" in tags(),
            "alias moved": lambda: (champion := registry.champion(name)) is not None and champion.number == 2,
            "marked": lambda: "visionloop.promoted" in tags(),
        },
    )


def test_killed_at_each_step_it_ends_with_one_version(
    processes: ForkServerContext,
    prepared: Prepared,
    registry: Registry,
    name: str,
    steps: tuple[Outcome, dict[str, Callable[[], bool]]],
    tmp_path: Path,
) -> None:
    evaluation, seen = steps
    killed = []
    for step, is_seen in seen.items():
        process = registration(processes, prepared, published(evaluation).uri, name, tmp_path / "told")
        if process.kill_when(is_seen):
            killed.append(step)
        check_champion(registry, name)
    assert {"locked", "model uploaded", "version created"} <= set(killed)
    registration(processes, prepared, published(evaluation).uri, name, tmp_path / "told").succeed()
    check(prepared, registry, evaluation, name)


def test_two_processes_at_once_and_one_of_them_killed(
    processes: ForkServerContext,
    prepared: Prepared,
    registry: Registry,
    name: str,
    steps: tuple[Outcome, dict[str, Callable[[], bool]]],
    tmp_path: Path,
) -> None:
    """Two evaluations of one training have two keys, so both register: the survivor takes the lock over."""
    evaluation, seen = steps
    training = published(evaluation).receipt.inputs["training"].receipt
    assert training is not None
    other = prepared.evaluate(training, name, gate='{"floor": 0.01}')
    first = registration(processes, prepared, published(evaluation).uri, name, tmp_path / "first")
    second = registration(processes, prepared, published(other).uri, name, tmp_path / "second")
    first.kill_when(seen["version created"])
    second.succeed()
    registration(processes, prepared, published(evaluation).uri, name, tmp_path / "first").succeed()
    check(prepared, registry, evaluation, name)


def test_the_half_of_a_file_goes_with_the_next_registration(prepared: Prepared, registry: Registry, name: str) -> None:
    """A kill in the middle of a file's write leaves its half under such a name, beside the source's files or the copy's."""
    evaluation = prepared.evaluate(prepared.train(), name)
    killed = prepared.register(evaluation, name)
    champion = registry.champion(name)
    assert champion is not None
    uris = (champion.source, champion.tags["visionloop.storage_uri"])
    for uri in uris:
        folder = local_path(uri)
        assert folder is not None
        (folder / "conda.yaml#1").write_bytes(b"half")
        (folder / "MLmodel").unlink()
    published(killed).prefix.delete(["receipt.json"])
    assert not prepared.register(evaluation, name).reused
    source, copy = (_contents(uri) for uri in uris)
    assert source == copy
    assert "MLmodel" in copy
    assert "conda.yaml#1" not in copy


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("with_result", [True, False])
def test_cleanup_removes_the_halves_of_killed_writes(prepared: Prepared, name: str, with_result: bool) -> None:
    """Of a result and of an attempt without one alike; such names are not objects, so no listing shows them."""
    outcome = prepared.register(prepared.evaluate(prepared.train(), name), name, run=f"halves-{name}")
    key = local_path(published(outcome).uri.rpartition("/")[0])
    assert key is not None
    (attempt,) = (path for path in key.iterdir() if path.is_dir())
    (attempt / "model" / "MLmodel#2").write_bytes(b"half")
    if with_result:
        (key / "receipt.json#1").write_bytes(b"half")
    else:
        (key / "receipt.json").unlink()
    cleaned = run(cleanup.STAGE, {}, prepared.workspace, run=f"halves-{name}").summary()
    assert list(key.rglob("*#*")) == []
    if with_result:
        assert (cleaned["removed"], cleaned["removed_bytes"]) == (2, 8)
        assert published(outcome).intact()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_moments(
    processes: ForkServerContext,
    prepared: Prepared,
    registry: Registry,
    name: str,
    steps: tuple[Outcome, dict[str, Callable[[], bool]]],
    tmp_path: Path,
    seed: int,
) -> None:
    evaluation, _ = steps
    generator = random.Random(seed)
    for _ in range(3):
        until = time.monotonic() + generator.uniform(0.05, 1.5)
        registration(processes, prepared, published(evaluation).uri, name, tmp_path / "told").kill_when(
            lambda until=until: time.monotonic() > until  # type: ignore[misc]
        )
        check_champion(registry, name)
    registration(processes, prepared, published(evaluation).uri, name, tmp_path / "told").succeed()
    check(prepared, registry, evaluation, name)


def check(prepared: Prepared, registry: Registry, evaluation: Outcome, name: str) -> None:
    """One version, champion, loadable from its source and from its copy, and a rerun finds nothing to do."""
    digest = published(evaluation).receipt.inputs["training"].digest
    assert [version.number for version in registry.of_training(name, digest)] == [2]
    champion, before = registry.champion(name), registry.version(name, 1)
    assert champion is not None
    assert before is not None
    assert champion.number == 2
    assert before.tags["visionloop.superseded_by"] == "2"
    assert "visionloop.superseded_by" not in champion.tags
    assert champion.tags["visionloop.promoted"]
    source, copy = champion.source, champion.tags["visionloop.storage_uri"]
    for uri in (source, copy):
        description = package.read(uri)
        folder = local_path(uri)
        assert folder is not None
        package.fetch_checkpoint(uri, description, folder.parent / "checked")
    assert _contents(source) == _contents(copy)
    again = prepared.register(evaluation, name)
    assert again.reused
    assert (again.summary()["version"], again.summary()["alias"]) == (2, "champion")
    assert published(again).intact()


def _contents(uri: str) -> dict[str, bytes]:
    folder = local_path(uri)
    assert folder is not None
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
