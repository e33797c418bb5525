"""What a run on this machine starts: no more than its arguments need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines import services
from visionloop.pipelines.cli import services as commands
from visionloop.pipelines.environment import needs, services_for

ON_FOLDERS = {"dataset": "file:///datasets/one", "workspace": "file:///results"}


@pytest.fixture
def own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VISIONLOOP_HOME", str(home))
    yield home
    assert not services.status().running


def test_a_run_on_folders_needs_and_starts_no_s3(own_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert needs(ON_FOLDERS) == ("MLFLOW_TRACKING_URI",)
    with services_for(ON_FOLDERS):
        added = {name: value for name, value in os.environ.items() if before.get(name) != value}
        assert added == {
            "MLFLOW_TRACKING_URI": f"sqlite:///{own_home}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "VISIONLOOP_ARTIFACTS": str(own_home / "artifacts"),
        }
        assert not [service for service in services.status().services if service.running]
    assert dict(os.environ) == before
    assert not list((own_home / "logs").iterdir())
    assert not (own_home / "keys.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [{**ON_FOLDERS, "dataset": "s3://datasets/one"}, {**ON_FOLDERS, "workspace": "s3://visionloop/results"}],
)
def test_a_run_on_s3_uses_the_embedded_one_where_none_is_configured(
    arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(needs(arguments)) == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example")
    assert needs(arguments) == ("MLFLOW_TRACKING_URI",)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert needs(arguments) == ()


def test_a_run_that_is_tracked_in_a_database_has_the_file_in_the_home(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said to every stage: a container would look for a home of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    for backends, expected in (("database,mlflow", f"sqlite:///{own_home}/tracking.db"), ("mlflow", None)):
        monkeypatch.setenv("OBSERVABILITY_BACKENDS", backends)
        with services_for(ON_FOLDERS):
            assert os.environ.get("VISIONLOOP_DATABASE_URL") == expected
        assert "VISIONLOOP_DATABASE_URL" not in os.environ
    monkeypatch.setenv("OBSERVABILITY_BACKENDS", "database")
    monkeypatch.setenv("VISIONLOOP_DATABASE_URL", "mysql://host/runs")
    with pytest.raises(InvalidConfig, match="VISIONLOOP_DATABASE_URL"), services_for(ON_FOLDERS):
        raise AssertionError("it began")


def test_the_start_says_which_home_it_uses(own_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="visionloop"):
        services.registry()
    assert f"Registry and embedded services: {own_home} (set by VISIONLOOP_HOME)." in caplog.text


def test_the_password_is_printed_where_it_is_asked_for_and_nowhere_else(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidConfig, match=r"MLflow has no password yet; `visionloop up` makes one"):
        commands.status(password=True)
    (own_home / "mlflow-password").write_text("the-password")
    commands.status(password=True)
    assert capsys.readouterr().out == "the-password\n"
    commands.status()
    assert "the-password" not in capsys.readouterr().out
