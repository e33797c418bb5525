"""Three models beside a champion, from the training to the alias: a better one, one that is worse in a class, and one that noise makes better."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from decided import command
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components.evaluate.result import EvaluationResult, read
from visionloop.registry import Registry
from visionloop.registry.versions import PROMOTED, SUPERSEDED_BY

#: No class may lose, and the images must show that the model is better.
GATE = '{"max_class_drop": 0.02, "evidence": "better"}'


@pytest.fixture
def trained(toy: ToyTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """A dataset of which 15 images are test."""
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    return prepare(write_dataset(tmp_path / "dataset", images=60), (tmp_path / "workspace").as_uri())


def registered(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str], gate: str = GATE, **model: Any
) -> tuple[EvaluationResult, dict[str, Any]]:
    """What a model's evaluation says, and what ``model show`` says of its version."""
    evaluation = prepared.evaluate(prepared.train(**model), name, gate=gate)
    number = prepared.register(evaluation, name).scalars["version"]
    code, out, _ = command(capsys, "show", f"{name}/{number}")
    assert code == 0
    return read(published(evaluation)), json.loads(out)


def test_a_better_model_is_promoted(
    trained: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(trained, name, capsys, offset=4)
    result, shown = registered(trained, name, capsys, offset=2)
    assert (result.verdict, shown["verdict"], shown["aliases"]) == ("promote", "promote", ["champion"])
    assert re.fullmatch(
        r"mAP50-95 0\.\d+ is better than the champion's 0\.\d+; the difference lies between \+0\.\d+ and \+0\.\d+ in 95 % of the samples\.",
        shown["reason"],
    )
    before, champion = registry.version(name, 1), registry.champion(name)
    assert before is not None
    assert champion is not None
    assert (champion.number, before.aliases) == (2, ())
    assert before.tags[SUPERSEDED_BY] == "2"


def test_a_model_that_is_worse_in_one_class_is_kept(
    trained: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though it is better on the whole: without the condition it is promoted."""
    registered(trained, name, capsys, offset=4)
    result, shown = registered(trained, name, capsys, offset=1, dim=4)
    assert result.champion_metrics is not None
    assert result.metrics["mAP50-95"] > result.champion_metrics["mAP50-95"]
    assert (result.verdict, shown["verdict"], shown["aliases"]) == ("keep", "keep", ["challenger"])
    assert re.search(
        r"but dim has 0\.\d+, and the champion 0\.\d+: worse than max_class_drop 0\.02 allows", shown["reason"]
    )
    assert "bright has" not in shown["reason"]
    assert kept(registry, name)
    result, _ = registered(trained, name, capsys, '{"evidence": "better"}', offset=1, dim=4)
    assert result.verdict == "promote"


def test_a_model_that_noise_alone_makes_better_is_kept(
    trained: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its figure is the greater one: by the two numbers alone it is promoted."""
    registered(trained, name, capsys, jitter=2)
    result, shown = registered(trained, name, capsys, jitter=3)
    assert result.champion_metrics is not None
    assert result.metrics["mAP50-95"] > result.champion_metrics["mAP50-95"]
    assert (result.verdict, shown["verdict"], shown["aliases"]) == ("keep", "keep", ["challenger"])
    assert re.search(
        r"it may be no better than the champion's: the difference lies between -0\.\d+ and \+0\.\d+ in 95 % of the samples \(evidence better\)",
        shown["reason"],
    )
    assert kept(registry, name)
    result, _ = registered(trained, name, capsys, '{"evidence": "point"}', jitter=3)
    assert result.verdict == "promote"


def kept(registry: Registry, name: str) -> bool:
    """Whether version 1 is the champion still, and 2 has never been."""
    champion, second = registry.champion(name), registry.version(name, 2)
    assert champion is not None
    assert second is not None
    return champion.number == 1 and SUPERSEDED_BY not in champion.tags and PROMOTED not in second.tags
