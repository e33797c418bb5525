"""Laptops for tests, and what was trained on one once for all of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import laptop as machine
import pytest
from laptop import Dataset, Laptop, Server, Trained


@pytest.fixture(scope="session")
def registry_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store to copy."""
    return machine.make_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="session")
def make_laptop(
    tmp_path_factory: pytest.TempPathFactory, registry_template: Path, s3: Server
) -> Iterator[Callable[..., Laptop]]:
    """Makes laptops whose workspace lies on S3; what they left running is ended."""
    made: list[Laptop] = []

    def make(**variables: str) -> Laptop:
        folder = tmp_path_factory.mktemp("laptop")
        stores = s3.variables("EXTERNAL_S3_") | s3.variables("INTERNAL_S3_")
        workspace = machine.s3_place(s3, "results", f"work-{uuid.uuid4().hex[:8]}")
        made.append(machine.make_laptop(folder, registry_template, workspace, stores | variables))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def laptop(make_laptop: Callable[..., Laptop]) -> Iterator[Laptop]:
    """A laptop of the test's own, its workspace on S3."""
    made = make_laptop()
    yield made
    made.close()


@pytest.fixture
def file_laptop(tmp_path: Path, registry_template: Path) -> Iterator[Laptop]:
    """A laptop whose workspace is a folder."""
    workspace = machine.file_place(tmp_path / "workspace")
    made = machine.make_laptop(tmp_path / "laptop", registry_template, workspace, {})
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_dataset(s3: Server) -> Callable[..., Dataset]:
    """Writes sample datasets to S3, each under a prefix of its own."""

    def make(**counts: int) -> Dataset:
        place = machine.s3_place(s3, "datasets", f"digits-{uuid.uuid4().hex[:8]}", "dataset")
        return Dataset(place).put(machine.sample_objects(**counts))

    return make


@pytest.fixture(scope="session")
def digits(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A dataset that no test changes."""
    return make_dataset()


@pytest.fixture(scope="session")
def trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The real trainer's model, registered by ``visionloop run train``. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri, settings=machine.TINY).expect())


@pytest.fixture(scope="session")
def toy_trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The toy trainer's model. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri).expect())
