"""``approve``: manual leaves a model that the gate promotes a challenger until a person promotes it; auto is as before."""

from __future__ import annotations

import pytest
from decided import register, version
from toy_detector import Prepared, published

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.models.decisions import promote, rollback
from visionloop.registry import Registry
from visionloop.registry.versions import PROMOTED, PROMOTED_BY


def test_a_model_waits_for_a_person(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 5)
    training = prepared.train(2)
    evaluation = prepared.evaluate(training, name)
    assert evaluation.scalars["verdict"] == "promote"
    waiting = prepared.register(evaluation, name, approve="manual").summary()
    assert (waiting["version"], waiting["alias"]) == (2, "challenger")
    assert waiting["reason"] == f"A person approves: visionloop model promote {name}/2 makes it the champion."
    assert registry.aliases(name) == {"champion": 1, "challenger": 2}
    assert not {PROMOTED, PROMOTED_BY} & set(version(registry, name, 2).tags)
    promote(registry, f"{name}/2", "ada", "")
    again = prepared.register(prepared.evaluate(training, name), name, approve="manual")
    assert (again.reused, again.summary()["alias"]) == (True, "champion")
    # Forced, it finds the champion as the person made it.
    assert prepared.register(evaluation, name, approve="manual", force=True).summary()["alias"] == "champion"
    rollback(registry, name, None, "ada", "")
    assert prepared.register(evaluation, name, approve="auto").summary()["alias"] == "challenger"
    assert registry.aliases(name)["champion"] == 1


def test_the_first_model_waits_too(prepared: Prepared, registry: Registry, name: str) -> None:
    waiting = prepared.register(prepared.evaluate(prepared.train(2), name), name, approve="manual").summary()
    assert waiting["alias"] == "challenger"
    assert registry.champion(name) is None
    assert promote(registry, f"{name}@challenger", "ada", "").previous is None


@pytest.mark.usefixtures("registry")
def test_the_default_is_in_no_key(prepared: Prepared, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    first = published(prepared.register(evaluation, name))
    assert set(first.receipt.parameters) == {"model_name", "storage", "registration"}
    for approve in ("auto", ""):
        again = prepared.register(evaluation, name, approve=approve)
        assert (again.reused, published(again).uri) == (True, first.uri)
    manual = published(prepared.register(evaluation, name, approve="manual"))
    assert manual.receipt.key != first.receipt.key
    assert manual.receipt.parameters["approve"].value == "manual"


@pytest.mark.usefixtures("registry")
def test_any_other_word_is_refused(prepared: Prepared, name: str) -> None:
    with pytest.raises(InvalidConfig, match="--approve maybe: give one of auto, manual"):
        prepared.register(prepared.evaluate(prepared.train(2), name), name, approve="maybe")
