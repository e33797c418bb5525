"""A person promotes a version, and goes back to an earlier one: aliases, tags, the run's record, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decided import command, register, version
from toy_detector import Prepared, published

from visionloop.core.errors import InvalidConfig
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path
from visionloop.pipelines.models import decisions
from visionloop.pipelines.models.decisions import promote, rollback
from visionloop.registry import Registry, Version
from visionloop.registry.versions import (
    DECISION,
    EVALUATION,
    PROMOTED,
    PROMOTED_AT,
    PROMOTED_BY,
    PROMOTED_REASON,
    SUPERSEDED_BY,
)


def aliases(registry: Registry, name: str) -> dict[str, int]:
    return registry.aliases(name)


def test_what_the_gate_kept_is_promoted_by_a_person(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2, 5)
    assert aliases(registry, name) == {"champion": 1, "challenger": 2}
    decided = promote(registry, f"{name}@challenger", "ada", "better at\nnight")
    assert (decided.version, decided.previous, decided.changed) == (2, 1, True)
    assert aliases(registry, name) == {"champion": 2}
    tags = version(registry, name, 2).tags
    assert (tags[PROMOTED_BY], tags[PROMOTED_AT], tags[PROMOTED_REASON]) == ("ada", decided.at, "better at night")
    assert tags[PROMOTED] == tags[EVALUATION]
    assert version(registry, name, 1).tags[SUPERSEDED_BY] == "2"
    (entry,) = RunRecord(open_prefix(prepared.workspace, "results"), f"{name}-5").decisions()
    assert (entry.decision, entry.version, entry.champion, entry.by) == ("promote", 2, 1, "ada")
    again = promote(registry, f"{name}/2", "bob", "")
    assert not again.changed
    assert version(registry, name, 2).tags[PROMOTED_BY] == "ada"


def test_a_rollback_goes_back_and_register_never_undoes_it(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 5, 2)
    decided = rollback(registry, name, None, "ada", "misses lids")
    assert (decided.version, decided.previous) == (1, 2)
    first, second = (version(registry, name, number) for number in (1, 2))
    assert first.aliases == ("champion",)
    assert (first.tags[PROMOTED_BY], first.tags[PROMOTED_REASON]) == ("ada", "misses lids")
    assert SUPERSEDED_BY not in {*first.tags, *second.tags}
    training = prepared.train(2)
    for gate in ('{"floor": 0.1}', '{"epsilon": 0.01}'):
        outcome = prepared.register(prepared.evaluate(training, name, gate=gate), name).summary()
        assert (outcome["version"], outcome["alias"]) == (2, "challenger")
        assert f"visionloop model promote {name}/2" in outcome["reason"]
    with pytest.raises(InvalidConfig, match="took the alias from no version that is known; name the version"):
        rollback(registry, name, None, "ada", "")
    assert promote(registry, f"{name}/2", "ada", "").changed
    assert aliases(registry, name) == {"champion": 2}
    assert PROMOTED_REASON not in version(registry, name, 2).tags
    assert rollback(registry, name, None, "ada", "").version == 1


def test_a_version_that_comes_back_by_the_gate_is_nobodys_decision(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    """A champion that a person made, superseded since, wins a later comparison: its tags name no person any more."""
    register(prepared, name, 2, 5)
    promote(registry, f"{name}/2", "ada", "because")
    register(prepared, name, 1)
    assert aliases(registry, name)["champion"] == 3
    evaluation = prepared.evaluate(prepared.train(5), name, gate='{"epsilon": 1}')
    assert prepared.register(evaluation, name).summary()["alias"] == "champion"
    tags = version(registry, name, 2).tags
    assert not {PROMOTED_BY, PROMOTED_AT, PROMOTED_REASON, SUPERSEDED_BY} & set(tags)


def test_a_rollback_to_any_version_that_was_the_champion(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 5, 4, 3, 7)
    with pytest.raises(InvalidConfig, match="never was the champion"):
        rollback(registry, name, 4, "ada", "")
    assert rollback(registry, name, 1, "ada", "").version == 1
    assert not rollback(registry, name, 1, "ada", "").changed
    promote(registry, f"{name}/3", "ada", "")
    # Both were superseded by it, at one time or another.
    with pytest.raises(InvalidConfig, match=f"took the alias from {name}/1 and {name}/2; name the version"):
        rollback(registry, name, None, "ada", "")
    registry.remove_alias(name, "champion")
    with pytest.raises(InvalidConfig, match="has no champion; name the version"):
        rollback(registry, name, None, "ada", "")
    assert rollback(registry, name, 2, "ada", "").previous is None


def test_a_rejected_evaluation_is_never_promoted(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2, 5)
    rejected = prepared.evaluate(prepared.train(5), name, gate='{"floor": 0.99}')
    assert rejected.scalars["verdict"] == "reject"
    registry.tag(version(registry, name, 2), {EVALUATION: published(rejected).uri})
    with pytest.raises(InvalidConfig, match="the gate rejected it"):
        promote(registry, f"{name}/2", "ada", "")
    other = prepared.evaluate(prepared.train(1), name)
    registry.tag(version(registry, name, 2), {EVALUATION: published(other).uri})
    with pytest.raises(InvalidConfig, match="is not its evaluation"):
        promote(registry, f"{name}/2", "ada", "")
    assert aliases(registry, name)["champion"] == 1
    assert registry.model_tag(name, DECISION) is None


def test_an_alias_that_moves_while_the_command_waits_is_not_followed(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(prepared, name, 2, 5, 6)
    checked = decisions.workspace_of

    def moving(wanted: Version) -> str:
        registry.set_alias(version(registry, name, 2), "challenger")
        return checked(wanted)

    monkeypatch.setattr(decisions, "workspace_of", moving)
    with pytest.raises(InvalidConfig, match="the alias moved while the command waited"):
        promote(registry, f"{name}@challenger", "ada", "")
    assert aliases(registry, name)["champion"] == 1


def test_a_source_outside_the_workspace_is_refused(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2, 5)
    tags = dict(version(registry, name, 2).tags)
    sources = (
        f"{prepared.workspace}-other/register/{'0' * 64}/0123456789ab/model",
        "s3://elsewhere/model",
        f"{prepared.workspace}/../model",
    )
    for number, source in enumerate(sources, 3):
        registry.create_version(name, source, tags, "")
        with pytest.raises(InvalidConfig, match=r"its files lie at .*, outside the workspace"):
            promote(registry, f"{name}/{number}", "ada", "")
    foreign = registry.create_version(name, "s3://elsewhere/model", {}, "")
    with pytest.raises(InvalidConfig, match="was not registered by Visionloop"):
        promote(registry, foreign.label, "ada", "")


def test_a_workspace_that_is_gone_or_read_only_is_named(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(prepared, name, 2, 5)
    folder = local_path(prepared.workspace)
    assert folder is not None
    folder.rename(f"{folder}-moved")
    with pytest.raises(InvalidConfig, match=f"from the workspace {prepared.workspace}, which is gone"):
        promote(registry, f"{name}/2", "ada", "")
    assert not folder.exists()
    Path(f"{folder}-moved").rename(folder)

    def refused(self: Prefix, key: str, data: bytes) -> bool:
        raise self._denied("write", key)

    monkeypatch.setattr(Prefix, "create", refused)
    with pytest.raises(InvalidConfig, match="which can't be written from here"):
        promote(registry, f"{name}/2", "ada", "")


@pytest.mark.parametrize("write", ["set_alias", "tag", "untag_model"])
def test_a_registry_that_is_lost_in_between_is_75_and_the_same_command_finishes(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    from visionloop.core.errors import Transient

    register(prepared, name, 2, 5)
    with monkeypatch.context() as patch:

        def lost(*arguments: object) -> None:
            raise Transient("MLflow does not answer.")

        patch.setattr(Registry, write, lost)
        with pytest.raises(Transient):
            promote(registry, f"{name}/2", "ada", "first")
    decided = promote(registry, f"{name}/2", "bob", "second")
    assert (decided.changed, decided.by) == (True, "ada")
    assert aliases(registry, name) == {"champion": 2}
    assert registry.model_tag(name, DECISION) is None


def test_a_decision_that_was_cut_off_before_the_alias_moved_is_dropped_by_another(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(prepared, name, 5, 2, 6)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_alias", lambda *_: (_ for _ in ()).throw(InvalidConfig("cut off")))
        with pytest.raises(InvalidConfig, match="cut off"):
            promote(registry, f"{name}/3", "ada", "")
    assert PROMOTED_BY in version(registry, name, 3).tags
    assert rollback(registry, name, None, "bob", "").version == 1
    tags = [version(registry, name, number).tags for number in (1, 2, 3)]
    assert [PROMOTED_BY in each for each in tags] == [True, False, False]
    assert not any(SUPERSEDED_BY in each for each in tags)
    registry.tag_model(name, DECISION, "{not a decision")
    assert promote(registry, f"{name}/3", "ada", "").changed


@pytest.mark.usefixtures("registry")
def test_what_does_not_exist_or_is_wrong_is_one_sentence(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2, 5)
    cases = [
        (("promote", f"{name}/7"), f"no such version of {name} is registered; there is {name}/2, {name}/1."),
        (
            ("promote", f"{name}@best"),
            f"no such alias of {name} is registered; there is {name}@challenger, {name}@champion.",
        ),
        (("promote", f"{name}-none/1"), "no such model is registered; there is "),
        (("promote", name), "not a registered model; give NAME/VERSION or NAME@ALIAS."),
        (("promote", f"{name}/99999999999999999999"), "not a registered model"),
        (("promote", "a/b/c"), "no such model is registered"),
        (("promote", f"{name}/b/c"), "not a registered model"),
        (("promote", "\x1b[2J\u202e/1"), "no such model is registered"),
        (("promote", "\x1b\u202e/1"), "nothing is left of it"),
        (("promote", f"{name}@\x1b[2J"), "MLflow refuses the request"),
        (("promote", ""), "nothing is left of it"),
        (("rollback", f"{name}/1"), "give the model's name alone"),
        (("rollback", name, "--to", "9"), "no such version"),
        (("promote", f"{name}/2", "--by", " "), "--by: give a name of 1 to 200 characters."),
        (("promote", f"{name}/2", "--reason", "x" * 1001), "--reason has 1,001 characters; give at most 1,000."),
    ]
    for words, sentence in cases:
        code, out, told = command(capsys, *words)
        assert (code, out) == (78, ""), words
        assert sentence in told
        assert not {"\x1b", "\u202e", "\n"} & set(told)


@pytest.mark.usefixtures("registry")
def test_the_commands_print_what_was_decided(
    prepared: Prepared, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(prepared, name, 2, 5)
    code, out, _ = command(capsys, "promote", f"models:/{name}/2", "--by", "ada\x1b[2J", "--reason", "a\u202eb")
    assert code == 0
    told = json.loads(out)
    assert (told["model"], told["version"], told["previous"], told["changed"]) == (name, 2, 1, True)
    assert (told["by"], told["reason"]) == ("ada\\x1b[2J", "a\\u202eb")
    monkeypatch.setenv("LOGNAME", "grace")
    _, out, _ = command(capsys, "rollback", name, "--output", "text")
    assert f"{name}/1 is the champion now; before it was {name}/2." in out
    assert "Decided by grace at " in out
    _, out, _ = command(capsys, "promote", f"{name}@champion", "--output", "text")
    assert out == f"{name}/1 is the champion already; nothing to do.\n"


def test_decisions_in_two_runs_records_are_apart(prepared: Prepared, registry: Registry, name: str) -> None:
    """A promotion stands in the record of the run that registered the version, a rollback in that of its target's."""
    register(prepared, name, 2, 5)
    promote(registry, f"{name}/2", "ada", "")
    rollback(registry, name, None, "ada", "")
    results = open_prefix(prepared.workspace, "results")
    decided = [[entry.decision for entry in RunRecord(results, f"{name}-{offset}").decisions()] for offset in (2, 5)]
    assert decided == [["rollback"], ["promote"]]
