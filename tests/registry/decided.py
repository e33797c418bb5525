"""What the tests of ``visionloop model`` share: the command in this process, and models to decide about."""

from __future__ import annotations

import pytest
from toy_detector import Prepared

from visionloop.core.errors import VisionloopError
from visionloop.pipelines.cli.main import application
from visionloop.registry import Registry, Version


def register(prepared: Prepared, name: str, *offsets: int) -> None:
    """A version for each offset; the smaller it is, the better the model."""
    for offset in offsets:
        prepared.register(prepared.evaluate(prepared.train(offset), name), name, run=f"{name}-{offset}")


def version(registry: Registry, name: str, number: int) -> Version:
    found = registry.version(name, number)
    assert found is not None
    return found


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and the sentence of ``visionloop model``."""
    error: VisionloopError | None = None
    try:
        application(["model"])(["model", *map(str, words)], standalone_mode=False)
    except VisionloopError as raised:
        error = raised
    code, sentence = (0, "") if error is None else (error.exit_code, error.sentence)
    return code, capsys.readouterr().out, sentence
