"""The command on a model's card, planned on the machine that made it: nothing is left to be computed."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from laptop import TOY, Dataset, Laptop, Trained

pytestmark = pytest.mark.slow

STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def command(laptop: Laptop, key: str) -> list[str]:
    """The words of the command on the card of a registration."""
    (found,) = re.findall(r"^```+sh\n(.*)\n```+$", laptop.result("register", key).read("card").decode(), re.MULTILINE)
    words = shlex.split(found)
    assert words[:3] == ["visionloop", "run", "train"]
    return words[3:]


def test_it_finds_all_that_was_done(toy_trained: Trained):
    laptop = toy_trained.laptop
    planned = laptop.run("plan", "train", "--json", *command(laptop, toy_trained.key("register"))).expect()
    assert {entry["stage"]: entry["action"] for entry in planned.summary["stages"]} == dict.fromkeys(STAGES, "reuse")


def test_it_has_every_choice_that_counts(laptop: Laptop, digits: Dataset):
    chosen = [
        *("--model-name", "Ada's $HOME", "--validate-mode", "full", "--on-error", "quarantine", "--approve", "manual"),
        *("--checks", '{"same_bytes": "warning"}', "--costs", '{"miss": 5}', "--slices", "metadata.source"),
        *("--gate", json.dumps({"floor": 0, "min_images": 1, "max_class_drop": 0.5}), "--split", "test=val"),
        *("--storage", f"{laptop.workspace.uri}-models"),
    ]
    words = ["run", "train", "--dataset", digits.uri, "--workspace", laptop.workspace.uri, *chosen]
    ended = laptop.run(
        *words, "--set", "epochs=3", *(f"--set={pair}" for pair in TOY if not pair.startswith("epochs"))
    ).expect()
    key = ended.summary["stages"]["register"]["key"]
    planned = laptop.run("plan", "train", "--json", *command(laptop, key)).expect()
    assert {
        entry["stage"]: (entry["action"], entry["reasons"]) for entry in planned.summary["stages"]
    } == dict.fromkeys(STAGES, ("reuse", []))
