"""Each input ends within a minute with a result or one sentence, and none with a defect; ``make hostile`` prints the table by kind."""

from __future__ import annotations

import resource
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_inputs import kinds, options, write

from visionloop.core import catalog
from visionloop.core.errors import VisionloopError
from visionloop.core.running import Invocation, run_stage

pytestmark = pytest.mark.hostile

OPTIONS = list(options())
INPUTS = [(kind, name, write) for kind, name, write in kinds()]
RELIABILITY = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
START, END = "<!-- hostile inputs -->\n", "<!-- end of hostile inputs -->"

#: By kind, how often an input was refused (65, 71, 77 or 78) and how often it got through (0).
OUTCOMES: dict[str, Counter[str]] = {}


@pytest.fixture(autouse=True)
def a_minute() -> Iterator[None]:
    """Ends what takes longer."""

    def end(*_: object) -> None:
        raise TimeoutError("longer than a minute")

    earlier = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, earlier)


def stage(name: str, workspace: Path, **values: Any) -> str:
    outcome = run_stage(catalog.stage(name), values, Invocation(str(workspace), run="one"))
    assert outcome.result is not None
    return outcome.result.uri


def refusal(folder: Path, workspace: Path, mode: str) -> VisionloopError | None:
    """What the stages before a training end with; None if the dataset gets through."""
    try:
        snapshot = stage("snapshot", workspace, dataset=str(folder))
        report = stage("validate", workspace, snapshot=snapshot, mode=mode)
        stage("convert", workspace, snapshot=snapshot, report=report)
    except VisionloopError as error:
        return error
    return None


@pytest.mark.parametrize(("kind", "name", "write"), INPUTS, ids=[f"{kind}-{name}" for kind, name, _ in INPUTS])
def test_it_ends_with_a_result_or_a_sentence(kind: str, name: str, write: Any, tmp_path: Path) -> None:
    folder, workspace = tmp_path / "dataset", tmp_path / "workspace"
    try:
        write(folder)
    except (OSError, UnicodeEncodeError, ValueError) as error:
        pytest.skip(f"can't be written here: {error}")
    for mode in ("headers", "full"):
        refused = refusal(folder, workspace, mode)
        if refused is not None:
            check(refused)
    count(kind, refused)


@pytest.mark.parametrize(("kind", "name", "values"), OPTIONS, ids=[f"{kind}-{name}" for kind, name, _ in OPTIONS])
def test_an_option_ends_with_a_result_or_a_sentence(kind: str, name: str, values: Any, tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    refused = None
    try:
        stage("snapshot", tmp_path / "workspace", dataset=str(tmp_path / "dataset"), **values)
    except VisionloopError as error:
        refused = error
        check(error)
    count(f"an option: {kind}", refused)


def check(refused: VisionloopError) -> None:
    """What holds of every refusal."""
    assert refused.exit_code in (65, 71, 77, 78), (refused.exit_code, refused.sentence)
    assert refused.sentence.endswith((".", ".html"))
    assert "\n" not in refused.sentence
    assert "\x1b" not in refused.sentence


def count(kind: str, refused: VisionloopError | None) -> None:
    outcomes = OUTCOMES.setdefault(kind, Counter())
    outcomes["tried"] += 1
    outcomes["refused" if refused is not None else "got through"] += 1


def test_the_table_says_what_was_tried() -> None:
    """The last one: memory, and the table of docs/reliability.md."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20  # in KiB
    assert not Path("/tmp/ran").exists()
    tried = sum(outcome["tried"] for outcome in OUTCOMES.values())
    assert tried >= 300
    assert len(OUTCOMES) >= 40
    rows = [
        f"| {kind} | {outcome['tried']} | {outcome['refused']} | {outcome['got through']} |"
        for kind, outcome in sorted(OUTCOMES.items())
    ]
    head = ["| kind | tried | refused | got through |", "| --- | --- | --- | --- |"]
    table = "\n".join(
        [*head, *rows, f"| {len(OUTCOMES)} kinds | {tried} | {_sum('refused')} | {_sum('got through')} |"]
    )
    print(f"\n{table}")
    text = RELIABILITY.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    RELIABILITY.write_text(f"{before}{START}{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def _sum(name: str) -> int:
    return sum(outcome[name] for outcome in OUTCOMES.values())


def test_each_input_has_a_name_of_its_own() -> None:
    assert max(Counter((kind, name) for kind, name, _ in INPUTS).values()) == 1
