"""The register stage against a real MLflow: one version, the right alias, whole files."""

from __future__ import annotations

import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from toy_detector import SIZE, Prepared, published

from visionloop.components.register.working_folder import commit
from visionloop.components.snapshot.preflight import HERE, preflight
from visionloop.core import live, receipts
from visionloop.core.canonical import sha256
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.storage import open_prefix, read_uri
from visionloop.core.stores import local_path
from visionloop.registry import Registry, package, resolve_model

pytestmark = pytest.mark.usefixtures("mlflow_uri")


def test_the_first_model_becomes_version_1_and_champion(prepared: Prepared, registry: Registry, name: str) -> None:
    training = prepared.train(2)
    evaluation = prepared.evaluate(training, name)
    outcome = prepared.register(evaluation, name, run=f"{name}-run")
    summary = outcome.summary()
    assert (summary["version"], summary["alias"]) == (1, "champion")
    assert summary["model_uri"] == f"models:/{name}/1"
    champion = registry.champion(name)
    assert champion is not None
    assert champion.number == 1
    assert champion.source == f"{published(outcome).prefix.uri}/{published(outcome).receipt.attempt}/model"
    tags = dict(champion.tags)
    assert tags.pop("visionloop.trace_id")
    assert tags.pop("visionloop.run") == f"{name}-run"
    assert json.loads(tags.pop("visionloop.versions")) == receipts.load(training, "train").receipt.versions
    assert tags.pop("visionloop.git_commit", "") == commit()
    assert tags.pop("visionloop.snapshot_id").startswith("snap_")
    assert len(tags.pop("visionloop.dataset_hash")) == 64
    assert float(tags.pop("visionloop.metric.mAP50")) == 1.0
    assert {label for label in tags if not label.startswith("visionloop.metric.")} == {
        "visionloop.name",
        "visionloop.training_key",
        "visionloop.training_digest",
        "visionloop.checkpoint_sha256",
        "visionloop.evaluation",
        "visionloop.mlflow_run_id",
        "visionloop.storage_uri",
        "visionloop.promoted",
    }
    assert champion.training_receipt == training
    assert tags["visionloop.storage_uri"] == f"{prepared.workspace}/models/{name}/1"
    assert summary["metrics"]["mAP50"] == 1.0
    copies = {info.key for info in open_prefix(tags["visionloop.storage_uri"], "results").objects()}
    sources = {info.key for info in open_prefix(champion.source, "results").objects()}
    assert copies == sources >= {"MLmodel", "artifacts/best.pt", "model_code.py", "requirements.txt"}
    assert all(f"model/{key}" in published(outcome).receipt.outputs for key in sources)


def test_the_model_loads_by_its_alias_and_predicts(prepared: Prepared, name: str, tmp_path: Path) -> None:
    prepared.register(prepared.evaluate(prepared.train(1), name), name)
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[10:30, 40:70] = 200
    image = tmp_path / "image.png"
    Image.fromarray(pixels).save(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own, of its imports
        import mlflow

        mlflow.set_tracking_uri(_tracking_uri())
        model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    expected = [[{"class": "bright", "class_index": 1, "confidence": 0.9, "box": [41.0, 11.0, 71.0, 31.0]}]]
    assert model.predict([str(image)]) == expected
    assert model.predict(str(image)) == expected
    assert model.predict(image.read_bytes()) == expected
    assert model.predict(pixels) == expected
    assert model.predict([pixels, image.read_bytes()]) == expected * 2
    assert model.predict(str(image), params={"confidence": 0.95}) == [[]]


def test_nothing_of_this_machine_is_in_the_models_description(prepared: Prepared, name: str, tmp_path: Path) -> None:
    outcome = prepared.register(prepared.evaluate(prepared.train(1), name), name)
    text = read_uri(f"{outcome.summary()['storage_uri']}/MLmodel", "results").decode()
    assert str(tmp_path) not in text
    assert "/tmp" not in text
    content = yaml.safe_load(text)
    assert content["metadata"]["visionloop"]["classes"] == ["dim", "bright"]
    assert content["metadata"]["visionloop"]["config"]["imgsz"] == SIZE


def test_running_again_registers_nothing(prepared: Prepared, registry: Registry, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    first = prepared.register(evaluation, name)
    again = prepared.register(prepared.evaluate(prepared.train(2), name), name)
    assert again.reused
    assert published(again).uri == published(first).uri
    forced = prepared.register(evaluation, name, force=True)
    assert not forced.reused
    assert forced.summary()["version"] == 1
    assert [
        entry.number for entry in registry.of_training(name, published(evaluation).receipt.inputs["training"].digest)
    ] == [1]


def test_a_better_model_takes_the_alias_and_a_worse_one_stays_challenger(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(3), name), name)
    worse = prepared.register(prepared.evaluate(prepared.train(5), name), name).summary()
    assert (worse["version"], worse["alias"]) == (2, "challenger")
    better = prepared.register(prepared.evaluate(prepared.train(1), name), name).summary()
    assert (better["version"], better["alias"]) == (3, "champion")
    assert _aliases(registry, name) == {"champion": 3, "challenger": 2}


def test_a_rejected_model_is_not_registered(prepared: Prepared, registry: Registry, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(3), name, gate='{"floor": 0.99}')
    with pytest.raises(InvalidConfig, match=r"verdict is reject \(mAP50-95 0.* is below the floor 0.99\)"):
        prepared.register(evaluation, name)
    assert registry.champion(name) is None


def test_a_champion_that_moved_leaves_a_challenger_with_the_reason(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(5), name), name)
    compared_with_the_first = prepared.evaluate(prepared.train(3), name)
    prepared.register(prepared.evaluate(prepared.train(1), name), name)
    late = prepared.register(compared_with_the_first, name).summary()
    assert (late["version"], late["alias"]) == (3, "challenger")
    assert (
        late["reason"]
        == f"The champion is {name}/2 now, which is not the one that was compared; evaluate again to compare with it."
    )
    assert _aliases(registry, name) == {"champion": 2, "challenger": 3}


def test_a_rollback_is_never_undone_by_a_rerun(prepared: Prepared, registry: Registry, name: str) -> None:
    prepared.register(prepared.evaluate(prepared.train(5), name), name)
    second = prepared.evaluate(prepared.train(1), name)
    prepared.register(second, name)
    first_version = registry.version(name, 1)
    assert first_version is not None
    registry.set_alias(first_version, "champion")  # a person rolls back
    again = prepared.register(prepared.evaluate(prepared.train(1), name), name)
    assert again.reused
    assert again.summary()["alias"] is None
    forced = prepared.register(second, name, force=True).summary()
    assert forced["alias"] == "challenger"
    assert "rollback is not undone" in forced["reason"]
    other_gate = prepared.register(prepared.evaluate(prepared.train(1), name, gate='{"floor": 0.1}'), name).summary()
    assert other_gate["alias"] == "challenger"
    assert _aliases(registry, name)["champion"] == 1


def test_a_champion_that_was_superseded_may_come_back(prepared: Prepared, registry: Registry, name: str) -> None:
    """Only a person's rollback is kept: a model that a better one replaced may win a later comparison."""
    best = prepared.train(1)
    prepared.register(prepared.evaluate(best, name), name)
    worse = prepared.evaluate(prepared.train(5), name, gate='{"epsilon": 1}')
    prepared.register(worse, name)
    assert _aliases(registry, name) == {"champion": 2}
    back = prepared.register(prepared.evaluate(best, name), name).summary()
    assert (back["version"], back["alias"]) == (1, "champion")


def test_a_challenger_that_a_person_promoted_stays_so(prepared: Prepared, registry: Registry, name: str) -> None:
    prepared.register(prepared.evaluate(prepared.train(1), name), name)
    worse = prepared.train(5)
    evaluation = prepared.evaluate(worse, name)
    prepared.register(evaluation, name)
    challenger = registry.version(name, 2)
    assert challenger is not None
    registry.set_alias(challenger, "champion")
    again = prepared.register(prepared.evaluate(worse, name), name)
    assert again.reused
    assert again.summary()["alias"] == "champion"
    assert prepared.register(evaluation, name, force=True).summary()["alias"] == "champion"
    assert _aliases(registry, name)["champion"] == 2


def test_a_version_that_is_gone_is_registered_anew(prepared: Prepared, registry: Registry, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    prepared.register(evaluation, name)
    version = registry.version(name, 1)
    assert version is not None
    registry.delete_version(version)
    again = prepared.register(evaluation, name)
    assert not again.reused
    assert (again.summary()["version"], again.summary()["alias"]) == (2, "champion")
    assert published(prepared.register(evaluation, name)).uri == published(again).uri


def test_two_given_names_that_become_one_are_refused(prepared: Prepared, name: str) -> None:
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name.upper()), name.upper())
    with pytest.raises(InvalidConfig, match=f"registered under the given name '{name.upper()}' already"):
        prepared.evaluate(training, name)
    evaluation = prepared.evaluate(training, name.upper())
    with pytest.raises(InvalidConfig, match="given name"):
        prepared.register(evaluation, name)


def test_another_name_than_the_evaluations_is_refused(prepared: Prepared, name: str) -> None:
    with pytest.raises(InvalidConfig, match="evaluate for 'other'"):
        prepared.register(prepared.evaluate(prepared.train(2), name), "other")


def test_storage_says_where_the_copy_lies(prepared: Prepared, name: str, tmp_path: Path) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    outcome = prepared.register(evaluation, name, storage=str(tmp_path / "elsewhere"))
    assert outcome.summary()["storage_uri"] == f"{(tmp_path / 'elsewhere').as_uri()}/{name}/1"
    assert (tmp_path / "elsewhere" / name / "1" / "MLmodel").exists()


def test_two_registrations_at_once_make_one_version(prepared: Prepared, registry: Registry, name: str) -> None:
    """Two evaluations of one training, so two keys: nothing but the lock and the look-up keeps them apart."""
    training = prepared.train(2)
    evaluations = [prepared.evaluate(training, name), prepared.evaluate(training, name, gate='{"floor": 0.01}')]
    start = threading.Barrier(2)

    def register(evaluation: Any, run: str) -> Any:
        start.wait()
        return prepared.register(evaluation, name, run=run)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(register, entry, f"race-{i}") for i, entry in enumerate(evaluations)]
    outcomes = [entry.result() for entry in running]
    assert [outcome.summary()["version"] for outcome in outcomes] == [1, 1]
    assert _numbers(registry, name, evaluations[0]) == [1]
    assert _aliases(registry, name) == {"champion": 1}


def test_without_the_lock_the_later_version_is_deleted(prepared: Prepared, registry: Registry, name: str) -> None:
    """Two workspaces share no lock: whoever finds an older version of the same training deletes its own."""
    from visionloop.components.register.stage import oldest_version

    registry.ensure_model(name, name)
    tags = {"visionloop.training_digest": "d" * 64}
    first = registry.create_version(name, "s3://one/model", tags, "")
    second = registry.create_version(name, "s3://two/model", tags, "")
    assert oldest_version(registry, name, "d" * 64, None, mine=second) == first
    assert oldest_version(registry, name, "d" * 64, None, mine=first) == first
    assert [entry.number for entry in registry.of_training(name, "d" * 64)] == [1]


def test_a_source_that_was_swept_is_put_back(prepared: Prepared, registry: Registry, name: str) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    prepared.register(evaluation, name)
    champion = registry.champion(name)
    assert champion is not None
    folder = local_path(champion.source)
    assert folder is not None
    (folder / "MLmodel").unlink()
    assert not package.is_complete(champion.source)
    again = prepared.register(evaluation, name)  # the receipt's outputs are gone
    assert not again.reused
    assert again.summary()["version"] == 1
    assert package.is_complete(champion.source)


def test_it_counts_the_files_that_it_puts(
    prepared: Prepared, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = prepared.evaluate(prepared.train(2), name)
    monkeypatch.setenv(live.VARIABLE, str(tmp_path / "events"))
    registered = published(prepared.register(evaluation, name))
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    arguments = [(event["done"], event["total"], event["unit"]) for event in events if event["kind"] == "progress"]
    files = sum(output.startswith("model/") for output in registered.receipt.outputs)
    assert arguments[-1] == (files, files, "files")


@pytest.mark.parametrize("marked", [True, False])
def test_a_damaged_checkpoint_is_put_again_below_the_same_version(
    prepared: Prepared, registry: Registry, name: str, marked: bool
) -> None:
    training = prepared.train(2)
    evaluation = prepared.evaluate(training, name)
    registered = published(prepared.register(evaluation, name))
    output = "model/artifacts/best.pt"
    right = registered.read(output)
    registered.prefix.write(registered.output(output).path, bytes(len(right)))
    if marked:
        loaded = receipts.load(registered.uri, "register", open_prefix(prepared.workspace, "results"))
        with pytest.raises(InvalidReceipt, match="is damaged; run again: register will be computed again"):
            loaded.read(output)
        again = prepared.register(evaluation, name)
    else:
        # Another key meets the same version.
        again = prepared.register(prepared.evaluate(training, name, gate='{"epsilon": 0.5}'), name)
    assert (again.reused, again.summary()["version"]) == (False, 1)
    version = registry.version(name, 1)
    assert version is not None
    for uri in (version.source, version.tags["visionloop.storage_uri"]):
        assert open_prefix(uri, "results").read("artifacts/best.pt") == right
    assert _numbers(registry, name, evaluation) == [1]


def test_a_registered_checkpoint_is_compared_with_the_digest_that_its_version_records(
    prepared: Prepared, registry: Registry, name: str, mlflow_uri: str
) -> None:
    """Altered together with the model's description of itself, which then agrees with it."""
    training = prepared.train(2)
    evaluation = prepared.evaluate(training, name)
    prepared.register(evaluation, name)
    version = registry.version(name, 1)
    assert version is not None
    assert version.checkpoint_sha256 == receipts.load(training, "train").output("best").sha256
    source = open_prefix(version.source, "results")
    right = source.read("artifacts/best.pt")
    altered = right.replace(b'"offset":2', b'"offset":3')
    source.write("artifacts/best.pt", altered)
    described = source.read("MLmodel").replace(version.checkpoint_sha256.encode(), sha256(altered).encode())
    source.write("MLmodel", described)
    with pytest.raises(InvalidReceipt, match="the checkpoint was altered since it was registered"):
        resolve_model(f"models:/{name}/1", {"MLFLOW_TRACKING_URI": mlflow_uri})
    assert prepared.register(evaluation, name).reused  # read without a workspace, nothing is marked
    with pytest.raises(InvalidReceipt, match="again: register will be computed again"):
        prepared.evaluate(prepared.train(1), name)
    assert not prepared.register(evaluation, name).reused
    assert source.read("artifacts/best.pt") == right


def test_a_model_whose_workspace_was_moved_is_refused_by_its_old_location(
    prepared: Prepared, registry: Registry, name: str, mlflow_uri: str
) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    folder = local_path(prepared.workspace)
    assert folder is not None
    folder.rename(folder.with_name("moved"))
    with pytest.raises(InvalidConfig, match=f"its files lay in the workspace {prepared.workspace}, which is gone"):
        resolve_model(f"models:/{name}/1", {"MLFLOW_TRACKING_URI": mlflow_uri})


def test_a_champion_whose_workspace_was_moved_ends_the_evaluation_and_the_check_before_a_run(
    prepared: Prepared, registry: Registry, name: str, mlflow_uri: str, tmp_path: Path
) -> None:
    prepared.register(prepared.evaluate(prepared.train(2), name), name)
    moved = replace(prepared, workspace=f"{prepared.workspace}-moved")
    uris = {field: getattr(prepared, field) for field in ("snapshot", "converted")} | {"training": prepared.train(1)}
    folder = local_path(prepared.workspace)
    assert folder is not None
    folder.rename(f"{folder}-moved")
    uris = {field: uri.replace(prepared.workspace, moved.workspace) for field, uri in uris.items()}
    training, moved = uris.pop("training"), replace(moved, **uris)
    sentence = f"its files lay in the workspace {prepared.workspace}, which is gone"
    arguments = {"dataset": str(tmp_path / "dataset"), "workspace": f"{prepared.workspace}-other", "model_name": name}
    with pytest.raises(InvalidConfig, match=sentence):
        preflight(arguments, {"model": "yolo11n.yaml"}, HERE, {"MLFLOW_TRACKING_URI": mlflow_uri})
    # In the moved workspace itself all may be reused.
    preflight(
        arguments | {"workspace": moved.workspace}, {"model": "yolo11n.yaml"}, HERE, {"MLFLOW_TRACKING_URI": mlflow_uri}
    )
    with pytest.raises(InvalidConfig, match=sentence):
        moved.evaluate(training, name)


def test_resolving_a_registered_model(prepared: Prepared, registry: Registry, name: str, mlflow_uri: str) -> None:
    environment = {"MLFLOW_TRACKING_URI": mlflow_uri}
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name), name)
    for reference in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name.upper()}/1"):
        uri = resolve_model(reference, environment)
        assert b'"offset":2' in read_uri(uri, "results")
    for reference in (f"models:/{name}@other", f"models:/{name}/7", f"models:/{name}-none/1"):
        with pytest.raises(NotFound):
            resolve_model(reference, environment)
    with pytest.raises(InvalidConfig, match="models:/NAME@alias"):
        resolve_model("models:/", environment)
    # The source is gone, and the copy serves.
    version = registry.version(name, 1)
    assert version is not None
    source = local_path(version.source)
    assert source is not None
    (source / "MLmodel").unlink()
    assert (
        resolve_model(f"models:/{name}/1", environment) == f"{version.tags['visionloop.storage_uri']}/artifacts/best.pt"
    )


def _aliases(registry: Registry, name: str) -> dict[str, int]:
    results = {alias: registry.by_alias(name, alias) for alias in ("champion", "challenger")}
    return {alias: version.number for alias, version in results.items() if version is not None}


def _numbers(registry: Registry, name: str, evaluation: Any) -> list[int]:
    return [
        entry.number for entry in registry.of_training(name, published(evaluation).receipt.inputs["training"].digest)
    ]


def _tracking_uri() -> str:
    import os

    return os.environ["MLFLOW_TRACKING_URI"]


def test_what_evaluate_saw_in_this_run_is_not_asked_again(
    prepared: Prepared, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rerun's register believes its receipt without MLflow, whose import takes seconds."""
    training = prepared.train(2)
    prepared.register(prepared.evaluate(training, name, run="first"), name, run="first")
    evaluation = prepared.evaluate(training, name, run="second")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    assert prepared.register(evaluation, name, run="second").reused
    with pytest.raises(InvalidConfig, match="the database can't be opened"):
        prepared.register(evaluation, name, run="third")  # which has seen nothing
