"""The command on a model's card that makes it again: what of the receipts is in it, and that a shell takes it as it is meant."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest
from test_card import result_of

from visionloop.components.register.again import Again, again
from visionloop.core.receipts import Parameter
from visionloop.training.configuration import parse_settings

GATE = {"primary_metric": "mAP50", "primary_metric_mode": "max", "floor": 0.5, "epsilon": 0.0, "incomparable": "keep"}


def made(
    training: dict[str, Parameter] | None = None,
    evaluation: dict[str, Parameter] | None = None,
    checks: dict[str, Parameter] | None = None,
    registration: dict[str, Parameter] | None = None,
    name: str = "screws",
    **arguments: Any,
) -> Again:
    """The command for receipts with these parameters beside those that all have."""
    trainer = {"trainer": Parameter("toy", "default"), "trainer_version": Parameter(1, "trainer")}
    validated = {"mode": Parameter("headers", "argument"), "on_error": Parameter("fail", "argument")}
    chain = {
        "train": result_of("train", parameters=trainer | (training or {})),
        "evaluate": result_of("evaluate", parameters={"gate": Parameter(GATE, "default")} | (evaluation or {})),
        "validate": result_of("validate", parameters=validated | (checks or {})),
    }
    stored = {"storage": Parameter(None, "default"), "model_name": Parameter(name, "argument")} | (registration or {})
    return again(chain, "s3://bucket/work", "snap_0123456789ab", name, stored, arguments)


def options(command: str) -> list[tuple[str, str]]:
    """The options of a command and their values, as a shell hands them to a program."""
    program = 'for word in "$@"; do printf "%s\\0" "$word"; done'
    done = subprocess.run(
        ["bash", "-c", f"set -- {command}\n{program}"], capture_output=True, check=True, text=True, cwd="/"
    )
    words = done.stdout.split("\0")[:-1]
    assert words[:3] == ["visionloop", "run", "train"]
    return list(zip(words[3::2], words[4::2], strict=True))


def test_of_defaults_it_names_what_a_run_needs_and_the_trainer() -> None:
    assert made().remarks == ()
    assert options(made().command) == [
        ("--snapshot", "snap_0123456789ab"),
        ("--workspace", "s3://bucket/work"),
        ("--model-name", "screws"),
        ("--set", "trainer=toy"),
    ]


def test_it_has_what_was_chosen_whoever_chose_it() -> None:
    found = options(
        made(
            {
                "epochs": Parameter(14, "EPOCHS"),
                "lr0": Parameter(1e-05, "argument"),
                "augment": Parameter(False, "form"),
                "patience": Parameter(None, "argument"),
                "seed": Parameter(0, "default"),
                "model": Parameter("sha256:" + "a" * 64, "argument: s3://weights/it's.pt"),
                "devices": Parameter(2, "argument"),
            },
            {
                "gate": Parameter({**GATE, "max_class_drop": 0.1}, "argument"),
                "slices": Parameter(["metadata.source", "attributes.dark", "d" * 64], "argument"),
                "costs": Parameter({"miss": 5.0, "false_alarm": 1.0}, "argument"),
            },
            {
                "mode": Parameter("full", "argument"),
                "on_error": Parameter("quarantine", "argument"),
                "checks": Parameter({"same_bytes": {"severity": "warning"}}, "argument"),
            },
            {"storage": Parameter("s3://models/here", "argument"), "approve": Parameter("manual", "argument")},
        ).command
    )
    settings = parse_settings([value for option, value in found if option == "--set"])
    assert settings == {
        "trainer": "toy",
        "epochs": "14",
        "lr0": "1e-05",
        "augment": "false",
        "patience": "none",
        "model": "s3://weights/it's.pt",
        "device": "0,1",
    }
    others = {option: value for option, value in found if option != "--set"}
    assert json.loads(others["--gate"]) == {**GATE, "max_class_drop": 0.1}
    assert json.loads(others["--costs"]) == {"miss": 5.0, "false_alarm": 1.0}
    assert json.loads(others["--checks"]) == {"same_bytes": {"severity": "warning"}}
    assert others["--slices"] == "metadata.source,attributes.dark"
    assert (others["--validate-mode"], others["--on-error"]) == ("full", "quarantine")
    assert (others["--storage"], others["--approve"]) == ("s3://models/here", "manual")


@pytest.mark.parametrize("name", ["$(touch pwned)", "a'b\"c", "line\nbreak", "`id` \\ ; # | &", "-x"])
def test_a_shell_takes_every_name_as_it_is(name: str) -> None:
    command = made({"model": Parameter(name, "argument")}, name=name).command
    assert ("--model-name", name) in options(command)
    assert ("--set", f"model={name}") in options(command)
    assert shlex.join(shlex.split(command)) == command


def test_what_it_cannot_promise_is_told() -> None:
    weights = {"model": Parameter("sha256:" + "a" * 64, "argument: models:/screws@champion")}
    (remark,) = made(weights).remarks
    assert f"SHA-256 {'a' * 64}:" in remark
    (remark,) = made({"stopped_after_epoch": Parameter(3, "stopped by the user")}).remarks
    assert "ended after epoch 3" in remark
    assert "stopped_after_epoch" not in made({"stopped_after_epoch": Parameter(3, "stopped by the user")}).command


def test_the_list_of_images_is_named_as_the_run_names_it() -> None:
    listed = {"gate": Parameter({**GATE, "must_pass": "e" * 64}, "argument")}
    found = made(evaluation=listed, gate='{"must_pass": "s3://lists/a.json"}')
    assert json.loads(dict(options(found.command))["--gate"]) == {**GATE, "must_pass": "s3://lists/a.json"}
    assert found.remarks == ()
    for given in ({}, {"gate": "{"}, {"gate": ""}, {"gate": {"floor": 0.5}}):
        found = made(evaluation=listed, **given)
        assert json.loads(dict(options(found.command))["--gate"]) == GATE
        (remark,) = found.remarks
        assert "e" * 64 in remark


def test_no_password_is_in_it() -> None:
    found = made(registration={"storage": Parameter("s3://ada:opensesame@store/models", "argument")})
    assert "opensesame" not in found.command
