"""``visionloop model delete``: the version, then its files; what refuses it, and what finishes one that was cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from decided import command, register, version
from toy_detector import Prepared, published

from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, Transient
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import local_path
from visionloop.pipelines.models import removal
from visionloop.registry import Registry, package
from visionloop.registry.versions import DELETED, STARTING_WEIGHTS, STORAGE_URI


def files_of(registry: Registry, name: str, number: int) -> list[str]:
    """Where a version's files lie."""
    found = version(registry, name, number)
    return [found.source, found.tags[STORAGE_URI]]


def test_a_version_goes_with_its_files_and_can_be_registered_again(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2, 5)
    evaluation = prepared.evaluate(prepared.train(5), name)
    registry.remove_alias(name, "challenger")
    uris = files_of(registry, name, 2)
    planned = json.loads(command(capsys, "delete", f"{name}/2", "--dry-run")[1])
    assert (planned["removed"], planned["objects"] > 10, len(planned["folders"])) == (False, True, 2)
    assert all(package.is_complete(uri) for uri in uris)
    code, out, _ = command(capsys, "delete", f"{name}/2", "--output", "text")
    assert (code, out.startswith(f"{name}/2 is deleted: {planned['objects']:,} objects")) == (0, True)
    assert registry.version(name, 2) is None
    for uri in uris:
        assert list(open_prefix(uri, "results").objects()) == []
    assert package.is_complete(files_of(registry, name, 1)[0])
    code, _, sentence = command(capsys, "delete", f"{name}/2")
    assert (code, f"no such version of {name} is registered" in sentence) == (78, True)
    again = prepared.register(evaluation, name)
    assert (again.reused, again.summary()["version"]) == (False, 3)


def test_what_an_alias_names_stays(
    prepared: Prepared, registry: Registry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register(prepared, name, 2, 5)
    registry.set_alias(version(registry, name, 1), "mine")
    for wanted, alias in ((f"{name}/1", "champion and mine"), (f"{name}@challenger", "challenger")):
        code, _, sentence = command(capsys, "delete", wanted, "--force")
        assert (code, f"the alias {alias} names it" in sentence) == (78, True)
    assert [each.number for each in registry.of_name(name)] == [1, 2]


@pytest.mark.parametrize("tagged", [True, False])
def test_the_weights_that_another_version_started_from_stay(
    prepared: Prepared, registry: Registry, name: str, tagged: bool
) -> None:
    """Also where it was registered before versions had the tag, and under another name."""
    # Of an offset that no other test deletes: they share a registry, and equal models have equal weights.
    register(prepared, name, 6 if tagged else 7, 4)
    weights = f"sha256:{version(registry, name, 1).checkpoint_sha256}"
    other = f"{name}-other"
    prepared.register(prepared.evaluate(prepared.train(2, model=weights), other), other)
    started = version(registry, other, 1)
    assert started.tags[STARTING_WEIGHTS] == weights
    if not tagged:
        registry.untag(started, STARTING_WEIGHTS)
    for dry_run in (True, False):
        with pytest.raises(InvalidConfig, match=f"{other}/1 was trained from its weights"):
            removal.delete(registry, f"{name}/1", force=False, dry_run=dry_run)
    assert removal.delete(registry, f"{name}/1", force=True, dry_run=False).removed


def test_a_lineage_that_cannot_be_read_needs_force(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 5, 2)
    training = local_path(version(registry, name, 2).training_receipt or "")
    assert training is not None
    training.unlink()
    with pytest.raises(InvalidConfig, match=f"whether {name}/2 was trained from its weights is not known"):
        removal.delete(registry, f"{name}/1", force=False, dry_run=False)
    assert removal.delete(registry, f"{name}/1", force=True, dry_run=False).removed


@pytest.mark.parametrize("lost", ["version", "receipt", "files", "tag"])
def test_a_deletion_that_was_cut_off_is_finished_by_the_same_command(
    prepared: Prepared,
    registry: Registry,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lost: str,
) -> None:
    register(prepared, name, 5, 2)
    uris = files_of(registry, name, 1)
    with monkeypatch.context() as patch:
        count = 0

        def fails(real: Callable[..., Any], at: int) -> Callable[..., Any]:
            def failing(*arguments: Any) -> Any:
                nonlocal count
                count += 1
                if count > at:
                    raise Transient("The store does not answer.")
                return real(*arguments)

            return failing

        if lost == "version":
            patch.setattr(Registry, "delete_version", fails(Registry.delete_version, 0))
        elif lost == "tag":
            patch.setattr(Registry, "untag_model", fails(Registry.untag_model, 0))
        else:
            patch.setattr(Prefix, "delete", fails(Prefix.delete, 0 if lost == "receipt" else 1))
        with pytest.raises(Transient):
            removal.delete(registry, f"{name}/1", force=False, dry_run=False)
    assert (registry.version(name, 1) is None) == (lost != "version")
    assert command(capsys, "delete", f"models:/{name}/1")[0] == 0
    assert registry.version(name, 1) is None
    for uri in uris:
        assert list(open_prefix(uri, "results").objects()) == []
    with pytest.raises(InvalidConfig, match="no such version"):
        removal.delete(registry, f"{name}/1", force=False, dry_run=False)


@pytest.mark.parametrize(
    "copy", ["{workspace}", "{workspace}/train", "s3://elsewhere/{name}/1", "{workspace}/other/{name}/1"]
)
def test_a_tag_that_leads_elsewhere_removes_nothing(
    prepared: Prepared, registry: Registry, name: str, copy: str, s3_environment: object
) -> None:
    register(prepared, name, 5, 2)
    uri = copy.format(workspace=prepared.workspace, name=name)
    if "other" in uri:
        open_prefix(uri, "results").write("a person's file", b"")
    registry.tag(version(registry, name, 1), {STORAGE_URI: uri})
    with pytest.raises(InvalidConfig, match="holds no copy of it"):
        removal.delete(registry, f"{name}/1", force=True, dry_run=False)
    assert registry.version(name, 1) is not None


def test_a_forged_mark_of_a_deletion_removes_nothing(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    evaluation = published(prepared.evaluate(prepared.train(2), name)).prefix
    for source, copy in ((evaluation.uri, None), (version(registry, name, 1).source, prepared.workspace)):
        value = json.dumps({"source": source, "copy": copy})
        registry.tag_model(name, f"{DELETED}7", value)
        with pytest.raises(InvalidConfig, match="no such version"):
            removal.delete(registry, f"{name}/7", force=True, dry_run=False)
    assert list(evaluation.objects())


def test_a_cut_off_deletion_leaves_what_was_registered_since(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training, registered again under the same key, has another attempt."""
    register(prepared, name, 5, 2)
    first = version(registry, name, 1)
    again = receipts.look(open_prefix(prepared.workspace, "results"), "register", first.source.split("/")[-3])
    assert again is not None
    with monkeypatch.context() as patch:
        patch.setattr(removal, "_remove_files", lambda *_, **__: None)
        removal.delete(registry, f"{name}/1", force=False, dry_run=False)
    uri = str(again.receipt.inputs["evaluation"].receipt)
    anew = prepared.register(uri, name, force=True).summary()
    assert anew["version"] == 3
    removal.delete(registry, f"{name}/1", force=False, dry_run=False)
    assert all(package.is_complete(each) for each in files_of(registry, name, 3))
    assert list(open_prefix(first.source, "results").objects()) == []
    assert prepared.register(uri, name).reused
