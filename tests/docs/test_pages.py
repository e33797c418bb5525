"""Links lead somewhere, commands exist with their options, examples work, and no page names a machine."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from documents import PAGES, ROOT

from visionloop.data.annotations.checks import check
from visionloop.data.formats.dice.reader import read_file
from visionloop.data.headers import Header
from visionloop.pipelines.cli.main import application

NAMES = [str(found.relative_to(ROOT)) for found in PAGES]

#: A stage that CONTRIBUTING adds from outside.
ADDED = "inventory"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=NAMES)
def text(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each page's name and text."""
    return request.param, (ROOT / request.param).read_text(encoding="utf-8")


def test_the_pages_are_there() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/contract.md"} <= set(NAMES)


def test_links_lead_somewhere(text: tuple[str, str]) -> None:
    name, content = text
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(content)):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / name).parent / unquote(file) if file else ROOT / name
        assert path.exists(), f"{name}: {target} leads nowhere"
        if heading and path.exists():
            assert heading in anchors(path.read_text(encoding="utf-8")), f"{name}: {target} is no heading"


def test_files_that_are_named_exist(text: tuple[str, str]) -> None:
    name, content = text
    starts = (
        "visionloop/core",
        "visionloop/data",
        "visionloop/training",
        "visionloop/registry",
        "components/",
        "pipelines/",
        "docs/",
        "tests/",
        "images/",
        "manifests/",
        ".ci/",
    )
    for path in re.findall(r"`([\w./-]+)`", prose(content)):
        label = path.startswith("visionloop/") and path.count("/") == 1  # of Kubernetes: visionloop/model
        if path.startswith(starts) and not path.startswith("images/") and not label:
            assert (ROOT / path).exists(), f"{name}: {path} does not exist"


def prose(content: str) -> str:
    """A page without its code blocks."""
    return BLOCK.sub("", content)


def anchors(content: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(content), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(content: str) -> list[str]:
    """The commands that a page shows: after a prompt in a block, and in the text."""
    results = []
    for kind, block in BLOCK.findall(content):
        if kind == "console":
            joined = block.replace("\\\n", " ")
            results += [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return results + [
        span
        for span in re.findall(r"`([^`\n]+)`", prose(content))
        if re.match(r"(\.venv/bin/)?(visionloop|make) ", span)
    ]


def test_commands_exist_with_their_options(text: tuple[str, str]) -> None:
    name, content = text
    for command in commands(content):
        words = shlex.split(re.sub(r"[\[\]]", "", command), comments=True)
        problem = problem_of([Path(words[0]).name, *words[1:]])
        assert problem is None, f"{name}: {command}: {problem}"


def test_wrong_commands_are_noticed() -> None:
    assert problem_of(["make", "demo"]) is None
    assert problem_of(["make", "nothing"])
    assert problem_of(["visionloop", "run", "train", "--dataset", "x"]) is None
    assert problem_of(["visionloop", "run", "train", "--datasets", "x"])
    assert problem_of(["visionloop", "stage", "snapshot", "--mode", "x"])
    assert problem_of(["visionloop", "fly"])
    assert problem_of(["python", "docs/nothing.py"])


def problem_of(words: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    program, *rest = words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        unknown = [word for word in rest if "=" not in word and word not in targets and word != "PYTHON=…"]
        return f"make has no target {unknown[0]}" if unknown else None
    if program == "python":
        paths = [word for word in rest if word.endswith(".py")]
        return next((f"{path} does not exist" for path in paths if not (ROOT / path).exists()), None)
    if program in ("mkdir", "cp", "curl", "export", "aws", "kubectl", "tensorboard"):
        return None
    return _visionloop(rest) if program == "visionloop" else f"{program} is no command of ours"


@functools.cache
def _commands(*words: str) -> Any:
    return typer.main.get_command(application(list(words)))


def _visionloop(words: list[str]) -> str | None:
    command: Any = _commands(*words[:2] if words[:1] == ["stage"] else ())
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word.isupper() or word == "…" or (word == ADDED and command.name == "stage"):
            return None  # any of them
        if word not in command.commands:
            return f"there is no command {word}"
        command = command.commands[word]
    existing = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return next(
        (f"there is no option {word}" for word in words if word.startswith("--") and word not in existing), None
    )


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_python_blocks_compile(name: str) -> None:
    blocks = [code for kind, code in BLOCK.findall((ROOT / name).read_text(encoding="utf-8")) if kind == "python"]
    assert blocks
    for code in blocks:
        compile(code, name, "exec")


def test_the_dataset_example_is_a_dataset_without_errors() -> None:
    content = (ROOT / "docs" / "dice.md").read_text(encoding="utf-8")
    (example,) = [code for kind, code in BLOCK.findall(content) if kind == "json"]
    dataset = read_file(example.encode(), "annotations_detection.json", "detection")
    assert check(dataset, {"shelf/000.png": Header(900, 900)}) == []


def test_the_stage_that_contributing_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionloop.core import catalog
    from visionloop.core.running import Invocation, run_stage
    from visionloop.pipelines import sample

    content = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [code for kind, code in BLOCK.findall(content) if kind == "python" and "STAGE" in code]
    (tmp_path / "shown_stage.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    from shown_stage import STAGE  # type: ignore[import-not-found]

    def put(key: str, data: bytes) -> None:
        target = tmp_path / "dataset" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    sample.write(put, train=3, val=1, test=1)
    where = Invocation(str(tmp_path / "work"), run="documents")
    snapshot = run_stage(catalog.stage("snapshot"), {"dataset": str(tmp_path / "dataset")}, where)
    assert snapshot.result
    arguments = {"snapshot": snapshot.result.uri}
    first = run_stage(STAGE, arguments, where)
    assert first.scalars["classes"] > 0
    assert not first.reused
    assert run_stage(STAGE, arguments, where).reused
    assert not run_stage(STAGE, {**arguments, "least": "2"}, where).reused


def test_no_page_tells_of_a_machine(text: tuple[str, str]) -> None:
    name, content = text
    assert not re.search(r"(?<![\w.])/(?:work|home|root|Users|mnt)/", content), name
    assert not re.search(r"\b(?:\d{1,3}\.){3}\d{1,3}\b", content.replace("127.0.0.1", "")), name
    assert not re.search(r"[\w.+-]+@[\w-]+\.\w+", content), name
