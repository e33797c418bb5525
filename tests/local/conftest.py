"""What was trained once for all tests here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from laptop import (  # noqa: F401 - fixtures
    TINY,
    Dataset,
    Laptop,
    Trained,
    digits,
    file_laptop,
    laptop,
    make_dataset,
    make_laptop,
    registry_template,
)


@pytest.fixture(scope="session")
def trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The real trainer's model, registered by ``visionloop run train``. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri, settings=TINY).expect())


@pytest.fixture(scope="session")
def toy_trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The toy trainer's model. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri).expect())
