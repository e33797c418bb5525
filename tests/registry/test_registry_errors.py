"""What MLflow's own errors become."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from visionloop.core.errors import InvalidConfig, NotFound, Transient
from visionloop.registry import Registry, Version, resolve_model

KEY = "0" * 64


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("nonsense://somewhere", InvalidConfig, "nonsense://somewhere"),
        ("sqlite:///{file}/mlflow.db", InvalidConfig, "correct the path or its permissions"),
        ("http://user:secret@127.0.0.1:9", Transient, "MLflow does not answer"),
    ],
)
def test_an_address_that_is_no_registry(
    uri: str, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").touch()
    registry = Registry({"MLFLOW_TRACKING_URI": uri.format(file=tmp_path / "file")})
    with pytest.raises(error, match=said) as raised:
        registry.champion("digits")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_mlflow_names_the_variable() -> None:
    with pytest.raises(InvalidConfig, match="model models:/digits@champion needs an MLflow: set MLFLOW_TRACKING_URI"):
        resolve_model("models:/digits@champion", {})


def test_a_registry_of_its_own(registry: Registry, mlflow_uri: str, name: str) -> None:
    """MLFLOW_REGISTRY_URI goes before the tracking URI."""
    registry.ensure_model(name, name)
    registry.set_alias(registry.create_version(name, "s3://models/one", {}, ""), "champion")
    other = Registry({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_REGISTRY_URI": mlflow_uri})
    found = other.champion(name)
    assert found is not None
    assert found.label == f"{name}/1"


def test_what_is_not_there_is_none(registry: Registry, name: str) -> None:
    assert registry.champion(name) is None
    assert registry.version(name, 1) is None
    assert registry.of_training(name, KEY) == []
    registry.ensure_model(name, name)
    assert registry.champion(name) is None
    assert registry.version(name, 1) is None
    registry.delete_version(Version(name, 7, ""))
    registry.remove_alias(name, "challenger")
    with pytest.raises(NotFound):
        resolve_model(f"models:/{name}@champion", {"MLFLOW_TRACKING_URI": registry.uri})


def test_a_model_made_by_hand_is_given_its_name(registry: Registry, name: str, mlflow_uri: str) -> None:
    from visionloop.training.tracking.connection import connect

    connect({"MLFLOW_TRACKING_URI": mlflow_uri}).create_registered_model(name)
    registry.check_name(name, name.upper())
    registry.ensure_model(name, name.upper())
    with pytest.raises(InvalidConfig, match="given name"):
        registry.ensure_model(name, name)


def test_the_training_receipt_lies_beside_the_evaluations() -> None:
    tags = {
        "visionloop.evaluation": f"s3://results/w/evaluate/{KEY}/receipt.json",
        "visionloop.training_key": KEY,
    }
    assert Version("m", 1, "", tags).training_receipt == f"s3://results/w/train/{KEY}/receipt.json"
    assert Version("m", 1, "", {}).training_receipt is None
    assert Version("m", 1, "", {}).identity == "m/1"


def test_an_alias_that_two_set_at_once_is_set(registry: Registry, mlflow_uri: str, name: str) -> None:
    """Both of MLflow's sessions look for the alias before either writes it: the database refuses the later one."""
    registry.ensure_model(name, name)
    versions = [registry.create_version(name, f"s3://models/{number}", {}, "") for number in range(4)]
    others = [Registry({"MLFLOW_TRACKING_URI": mlflow_uri}) for _ in versions]
    for other in others:
        other.champion(name)  # connected before the race
    for alias in [f"alias-{number}" for number in range(10)]:
        together = threading.Barrier(len(others))

        def set_one(number: int, alias: str = alias, together: threading.Barrier = together) -> None:
            together.wait()
            others[number].set_alias(versions[number], alias)

        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(set_one, range(len(others))))
        assert registry.by_alias(name, alias) is not None
