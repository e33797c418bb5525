"""The commands of docs/serve.md exist, its example is answered, and its table has the limits of the code."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from documents import ROOT
from untrained import photograph, register

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.deploying import kserve
from visionloop.pipelines.deploying.order import Wanted
from visionloop.pipelines.serving import SHORTEST_TOKEN, TOKEN, requests, server
from visionloop.pipelines.serving.application import Limits
from visionloop.registry import Registry

PAGE = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.slow
def test_the_first_command_answers_the_request_of_the_page(mlflow_database: Path, tmp_path: Path) -> None:
    mlflow = f"sqlite:///{mlflow_database}"
    register(Registry({"MLFLOW_TRACKING_URI": mlflow}), "timm", "classification", "bottles", tmp_path)
    text = base64.b64encode(photograph(tmp_path / "shelf.jpg").read_bytes()).decode()
    body = json.dumps({"inputs": [text]}).encode()
    # On a free port, since another test may listen on the page's.
    words = [*COMMANDS[0][1:], "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from visionloop.pipelines.cli import main; main()", *words],
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_TRACKING_URI": mlflow},
        )
    try:
        while "is served at" not in (said := (tmp_path / "log").read_text()):
            assert process.poll() is None, said
            time.sleep(0.05)
        address = said.partition("is served at ")[2].split()[0]
        (curl,) = (command for command in COMMANDS if command[0] == "curl")
        name, _, value = curl[curl.index("-H") + 1].partition(": ")
        path = curl[-1].removeprefix("http://127.0.0.1:8080")
        with urllib.request.urlopen(urllib.request.Request(address + path, body, {name: value})) as answer:
            assert {entry["class"] for entry in json.loads(answer.read())["predictions"][0]} == {"dim", "bright"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_the_table_has_the_limits_of_the_code() -> None:
    limits = Limits()
    for row in (
        f"| a body | {limits.body // 2**20} MiB |",
        f"wait | {limits.bodies // 2**20} MiB |",
        f"| images of a request | {requests.MAX_IMAGES} |",
        f"has arrived | {limits.read_seconds} s |",
        f"included | {limits.answer_seconds} s;",
        f"head has arrived | {server.HEAD_SECONDS:g} s |",
        f"| connections | {server.CONNECTIONS} |",
        f"at most {server.GRACE_SECONDS} seconds",
        f"a token of {SHORTEST_TOKEN} characters",
    ):
        assert row in PAGE, row


def test_the_commands_of_a_deployment_are_what_the_command_line_takes() -> None:
    deployed = [words[2:] for words in COMMANDS if words[1:2] == ["deploy"]]
    assert [words[words.index("--out") + 1] for words in deployed] == [
        "deploy/bottles",
        "deploy/canary",
        "s3://models/triton",
    ]
    for words in deployed:
        # Its options are read, and then there is no such model.
        with pytest.raises(InvalidConfig, match="no such model is registered"):
            application(["deploy"])(["deploy", *words], standalone_mode=False)
    waited = next(words for words in COMMANDS if "wait" in words)
    assert waited[-1] == "inferenceservice/bottles"


def test_the_page_has_what_a_deployment_has() -> None:
    assert f"`--min-replicas` ({Wanted().replicas[0]}) to `--max-replicas` ({Wanted().replicas[1]})" in PAGE
    assert {kserve.SERVICE, kserve.SMOKE_TEST, kserve.EXAMPLE, kserve.SECRET} <= set(
        re.findall(r"[\w-]+(?:\.\w+)?", PAGE)
    )
    assert f"secret generic {kserve.SECRET} --from-literal={TOKEN}=" in PAGE
