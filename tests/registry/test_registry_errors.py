"""What MLflow's own errors become."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound, Transient, VisionloopError
from visionloop.registry import Registry, Version, resolve_model
from visionloop.registry.versions import NAME
from visionloop.training.tracking.connection import connect, mlflow_errors

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


@pytest.mark.parametrize(
    ("uri", "would_do"),
    [
        ("./mlruns", "give sqlite:///{folder}/mlruns/mlflow.db"),
        ("mlflow", "give sqlite:///{folder}/mlflow/mlflow.db"),
        ("file:./runs", "give sqlite:///{folder}/runs/mlflow.db"),
        ("file:///srv/runs", "give sqlite:////srv/runs/mlflow.db"),
        ("file://localhost/srv/my%20runs", "give sqlite:////srv/my runs/mlflow.db"),
        ("localhost:5000", "give http://localhost:5000."),
        ("user:secret@mlflow.example.com:80/path", "give http://mlflow.example.com:80/path."),
        ("[::1]:5000", "give http://[::1]:5000."),
        ("http:/mlflow", "give http://mlflow."),
        ("https:mlflow", "give https://mlflow."),
        ("http://", "give http://mlflow:5000."),
        ("http://[::1", "give http://mlflow:5000."),
        ("http://host:port", "give http://mlflow:5000."),
        ("sqlite://mlflow.db", "give sqlite:///mlflow.db."),
    ],
)
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_an_address_of_another_form_is_refused_with_the_one_that_would_do(
    variable: str, uri: str, would_do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", variable: uri}
    with pytest.raises(InvalidConfig) as raised:
        Registry(environment)
    assert str(raised.value).startswith(variable)
    assert would_do.format(folder=tmp_path) in str(raised.value)
    assert "secret" not in str(raised.value)


class _Page(BaseHTTPRequestHandler):
    """A server that is not MLflow: it answers every request with one status and page."""

    status = 200

    def do_GET(self) -> None:
        """Answers."""
        body = b"<html>Please log in, or wait a moment, as everybody who comes here does.</html>"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, Transient), (404, InvalidConfig), (400, InvalidConfig), (403, AccessDenied), (418, InvalidConfig)],
)
def test_a_server_that_is_not_mlflow(
    status: int, error: type[VisionloopError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = HTTPServer(("127.0.0.1", 0), type("Page", (_Page,), {"status": status}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(error, match=f"http://127.0.0.1:{server.server_port}: MLflow") as raised:
            Registry({"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}"}).champion("digits")
    finally:
        server.shutdown()
        server.server_close()
    assert type(raised.value) is error


def test_every_exception_that_comes_through_mlflow_is_an_error_of_ours() -> None:
    """Also one of Python's own that MLflow did not expect; one of our own stays a defect."""
    from mlflow.utils.uri import extract_db_type_from_uri

    with pytest.raises(Transient, match="http://mlflow: MLflow failed"), mlflow_errors("http://mlflow"):
        extract_db_type_from_uri(None)
    with pytest.raises(ZeroDivisionError), mlflow_errors("http://mlflow"):
        _ = 1 / 0


def test_databricks_without_an_account_is_no_outage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    client = connect({"MLFLOW_TRACKING_URI": "databricks"})
    with pytest.raises(InvalidConfig, match="MLflow finds no account of Databricks; set"), mlflow_errors("databricks"):
        client.search_experiments()


def test_no_mlflow_names_the_variable() -> None:
    with pytest.raises(InvalidConfig, match="model models:/digits@champion needs an MLflow: set MLFLOW_TRACKING_URI"):
        resolve_model("models:/digits@champion", {})


def test_a_registry_of_its_own(registry: Registry, mlflow_uri: str, name: str) -> None:
    """MLFLOW_REGISTRY_URI goes before the tracking URI."""
    registry.ensure_model(name, name)
    registry.set_alias(registry.create_version(name, "s3://models/one", {}, ""), "champion")
    other = Registry({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_REGISTRY_URI": mlflow_uri})
    result = other.champion(name)
    assert result is not None
    assert result.label == f"{name}/1"


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


def test_a_given_name_reaches_mlflows_page_with_every_character_visible(tmp_path: Path) -> None:
    """A mark of direction would show the rest of the page's line in another order, a control character obey."""
    name = "Bolts \u202etnia 3 \x1b[2J"
    registry = Registry({"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"})
    registry.ensure_model("bolts-tnia-3-2j", name)
    registry.ensure_model("bolts-tnia-3-2j", name)
    client = connect({"MLFLOW_TRACKING_URI": registry.uri})
    assert client.get_registered_model("bolts-tnia-3-2j").tags == {NAME: r"Bolts \u202etnia 3 \x1b[2J"}
    # As an earlier registration wrote it.
    client.set_registered_model_tag("bolts-tnia-3-2j", NAME, name)
    registry.check_name("bolts-tnia-3-2j", name)
    made = registry.create_version("bolts-tnia-3-2j", f"{tmp_path}/model", {NAME: name}, "")
    assert made.tags[NAME] == r"Bolts \u202etnia 3 \x1b[2J"
