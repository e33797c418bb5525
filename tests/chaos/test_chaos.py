"""Twenty kills at random moments of a real training: whatever is lost, it is time. Run by ``make chaos``.

CHAOS_SEED decides the moments, CHAOS_ROUNDS how many workspaces are worn down (each takes one kill of every kind), and the
figures are written to CHAOS_REPORT (``build/chaos.json``). The table of docs/reliability.md is one such run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from laptop import TINY, Command, Dataset, Laptop, wait_for

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "4"))
SAME = ("snapshot", "validate", "convert", "train")
SETTINGS = (*(entry for entry in TINY if not entry.startswith("epochs")), "epochs=3")


@dataclass
class Kill:
    """One kill: which moment was waited for, the seconds from then to the kill, and what was there when it came."""

    moment: str
    delay: float
    stage: str
    epochs_done: int
    training_there: bool
    versions: int


@dataclass
class Round:
    """One workspace: its kills, and how the run after the last one ended."""

    kills: list[Kill] = field(default_factory=list)
    keys_equal: bool = False
    digest_equal: bool = False
    versions: int = 0
    champions: int = 0
    seconds: float = 0.0


def training_begun(laptop: Laptop, _: Command) -> bool:
    """A train process works; there is no checkpoint yet, unless an earlier kill left one."""
    return any(info.key.endswith("reservation.json") for info in laptop.workspace.objects("train"))


def checkpoint_in_its_write(_: Laptop, command: Command) -> bool:
    """The child of the train stage has begun to write a checkpoint on its own disk."""
    for process in command.tree():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "visionloop.training.supervision.child" in " ".join(words):
            return any(Path(words[3]).parent.glob("work/checkpoints/*"))
    return False


def last_epoch_done(laptop: Laptop, _: Command) -> bool:
    """The last epoch's checkpoint is durable."""
    recorded = laptop.progress()
    return recorded is not None and recorded.finished


def results_uploaded(laptop: Laptop, _: Command) -> bool:
    """The model lies in the workspace, and its receipt does not yet."""
    return any(info.key.endswith("/best.pt") for info in laptop.workspace.objects("train"))


def version_created(laptop: Laptop, _: Command) -> bool:
    """The registry has a version; its alias is about to be set."""
    return bool(laptop.versions())


#: What is waited for, and the longest time from then to the kill, in seconds.
MOMENTS: dict[str, tuple[Callable[[Laptop, Command], bool], float]] = {
    "before the first checkpoint": (training_begun, 4.0),
    "in the write of a checkpoint": (checkpoint_in_its_write, 0.3),
    "after the last epoch": (last_epoch_done, 0.5),
    "between upload and receipt": (results_uploaded, 0.05),
    "around the alias": (version_created, 1.5),
}


def kill_at(laptop: Laptop, dataset: str, moment: str, chance: random.Random) -> Kill | None:
    """Starts a run, waits for the moment and a little longer, and kills all of it; None if it was over by then."""
    seen, longest = MOMENTS[moment]
    run = moment.replace(" ", "-")
    command = laptop.start(*laptop.train_command(dataset, "--run", run, settings=SETTINGS))
    wait_for(lambda: seen(laptop, command) or command.process.poll() is not None)
    delay = chance.uniform(0, longest)
    time.sleep(delay)
    if command.process.poll() is not None:
        command.end().expect()
        return None
    command.kill()
    recorded = laptop.progress()
    states = laptop.record(run).stages()
    stage = next((state.stage for state in states if state.state == "running"), f"after {states[-1].stage}")
    return Kill(
        moment=moment,
        delay=round(delay, 3),
        stage=stage,
        epochs_done=recorded.epoch if recorded else 0,
        training_there=bool(laptop.keys("train")),
        versions=len(laptop.versions()),
    )


def wear_down(laptop: Laptop, dataset: str, chance: random.Random, reference: dict[str, Any], digest: str) -> Round:
    """One kill at each moment, in their order, then a run to the end."""
    began = time.monotonic()
    result = Round()
    for moment in MOMENTS:
        kill = kill_at(laptop, dataset, moment, chance)
        if kill is not None:
            result.kills.append(kill)
    ended = laptop.train(dataset, settings=SETTINGS).expect()
    stages = ended.summary["stages"]
    result.keys_equal = {stage: stages[stage]["key"] for stage in SAME} == {s: reference[s]["key"] for s in SAME}
    result.digest_equal = laptop.receipt("train", stages["train"]["key"]).digest == digest
    result.versions = len(laptop.versions())
    result.champions = list(laptop.aliases().values()).count("champion")
    result.seconds = round(time.monotonic() - began, 1)
    assert not [key for key in laptop.listing() if "/checkpoints/" in key or key.endswith("reservation.json")]
    return result


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_kills_at_random_moments_lose_nothing_but_time(make_laptop: Callable[..., Laptop], digits: Dataset):
    seed = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
    chance = random.Random(seed)
    undisturbed = make_laptop()
    began = time.monotonic()
    summary = undisturbed.train(digits.uri, settings=SETTINGS).expect().summary
    alone = time.monotonic() - began
    digest = undisturbed.receipt("train", summary["stages"]["train"]["key"]).digest
    rounds: list[Round] = []
    report = Path(os.environ.get("CHAOS_REPORT", ROOT / "build" / "chaos.json"))
    report.parent.mkdir(parents=True, exist_ok=True)
    for number in range(ROUNDS):
        rounds.append(wear_down(make_laptop(), digits.uri, chance, summary["stages"], digest))
        fields = {"seed": seed, "undisturbed_seconds": round(alone, 1), "rounds": [asdict(item) for item in rounds]}
        report.write_text(json.dumps(fields, indent=2) + "\n")
        print(f"round {number + 1}: {rounds[-1]}")
    print(table(rounds))
    for item in rounds:
        assert item.keys_equal
        assert item.digest_equal
        assert (item.versions, item.champions) == (1, 1)
    kills = [kill for item in rounds for kill in item.kills]
    assert len(kills) >= len(MOMENTS) * ROUNDS * 3 // 4, "too many runs were over before their kill"
    assert {kill.moment for kill in kills} == set(MOMENTS)


def table(rounds: list[Round]) -> str:
    """The table of docs/reliability.md: a row a moment."""
    lines = [
        "| killed | kills | in stage | epochs kept | keys equal | digest equal | versions |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for moment in MOMENTS:
        results = [(item, kill) for item in rounds for kill in item.kills if kill.moment == moment]
        if not results:
            continue
        stages = ", ".join(sorted({kill.stage for _, kill in results}))
        epochs = sorted({kill.epochs_done for _, kill in results})
        kept = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])
        if all(kill.training_there for _, kill in results):
            kept = "all"
        keys, equal = (sum(getattr(item, name) for item, _ in results) for name in ("keys_equal", "digest_equal"))
        versions = sorted({item.versions for item, _ in results})
        lines.append(
            f"| {moment} | {len(results)} | {stages} | {kept} | {keys} of {len(results)} | {equal} of {len(results)} "
            f"| {', '.join(map(str, versions))} |"
        )
    return "\n".join(lines)


def test_the_moments_are_those_of_the_documentation():
    """Here without a kill, so that the table's rows and the test's names stay one."""
    page = ROOT / "docs" / "reliability.md"
    rows = [line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("| ")]
    assert set(MOMENTS) <= set(rows)
