"""A registry on a real MLflow, and a workspace that is prepared as far as training."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import pytest
import toy_detector

from visionloop.registry import Registry


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes that have imported everything already, from a process without threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_register"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        # The server looks for what it preloads on PYTHONPATH alone (Python 3.11).
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        ensure_running()
    return context


@pytest.fixture
def mlflow_uri(mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store's URI, set as everybody's."""
    uri = f"sqlite:///{mlflow_database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def registry(mlflow_uri: str) -> Registry:
    """The store's registry."""
    return Registry({"MLFLOW_TRACKING_URI": mlflow_uri})


@pytest.fixture
def name() -> str:
    """A model name that no other test uses."""
    return f"model-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[toy_detector.ToyTrainer]:
    """The toy trainer, installed."""
    with pytest.MonkeyPatch.context() as patch:
        yield toy_detector.install(patch)


@pytest.fixture
def prepared(toy: toy_detector.ToyTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> toy_detector.Prepared:
    """A workspace in a folder."""
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    workspace = (tmp_path / "workspace").as_uri()
    return toy_detector.prepare(toy_detector.write_dataset(tmp_path / "dataset"), workspace)
