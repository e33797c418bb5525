"""The command line's own promises: every command has help with an example, and stands in the documentation."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from laptop import Laptop

from visionloop.core import catalog
from visionloop.pipelines.cli.main import application

ROOT = Path(__file__).parents[2]
OWN_STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "export", "register", "predict", "cleanup"]


def commands() -> list[str]:
    """Every command by its words, as ``run train``."""
    root = typer.main.get_command(application([]))
    results: list[str] = []

    def walk(command: object, words: list[str]) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            results.append(" ".join(words))
            return
        for name, child in below.items():
            walk(child, [*words, name])

    walk(root, [])
    return sorted(results)


COMMANDS = commands()


def test_the_commands_are_those_of_the_contract():
    expected = {f"stage {name}" for name in OWN_STAGES}
    expected |= {"run train", "plan train", "demo", "up", "down", "status", "compile"}
    assert expected <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_calls_the_command(file_laptop: Laptop, command: str):
    ended = file_laptop.run(*command.split(), "--help").expect()
    text = " ".join(ended.stdout.split())
    example = text.partition("Example: ")[2]
    assert example.startswith(f"visionloop {command}"), text
    assert ended.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_documentation_names_the_command(command: str):
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text() for page in pages if page.exists())
    words = command.split()
    if words[0] == "stage" and words[1] in OWN_STAGES:
        # One row tells how a stage is called, and each has a section with its arguments.
        assert "visionloop stage NAME" in text
        assert re.search(rf"^### {words[1]}$", text, re.MULTILINE), f"docs/contract.md has no section {words[1]}"
    else:
        assert re.search(rf"visionloop {command}\b", text), f"visionloop {command} stands in no page"


@pytest.mark.parametrize("name", OWN_STAGES)
def test_a_stages_help_names_all_of_its_arguments(file_laptop: Laptop, name: str):
    text = file_laptop.run("stage", name, "--help").expect().stdout
    fields = [entry.name for entry in dataclasses.fields(catalog.stage(name).arguments)]
    for option in (*fields, "workspace", "run", "trace_id", "force", "outputs"):
        assert f"--{option.replace('_', '-')}" in text


def test_the_entry_point_of_a_container_imports_no_library_of_a_trainer_or_an_engine(file_laptop: Laptop):
    """A reused run is only fast, and a data stage's image only small, if nothing heavy is imported on the way."""
    script = (
        "import sys; from visionloop.pipelines.cli.main import application; application(['stage', 'snapshot']);"
        "print([name for name in ('torch', 'ultralytics', 'mlflow', 'kfp', 'hera', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", ["model list", "status"])
def test_a_current_folder_that_is_gone_is_one_sentence(words: str, tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = Path(sys.executable).with_name("visionloop")
    command = f'cd "{gone}" && rmdir "{gone}" && exec "{program}" {words}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (78, "")
    assert "The current folder is gone or can't be read; change to another one" in done.stderr
    assert "Traceback" not in done.stderr
