"""A third party's trainers on the path of this process and of the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptop import THIRD_PARTY

from visionloop.core import catalog

BROKEN = Path(__file__).parent / "broken"


@pytest.fixture(autouse=True, scope="module")
def third_party() -> Iterator[None]:
    """The toy, and the trainers that each break one promise."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in (THIRD_PARTY, BROKEN):
            patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (THIRD_PARTY, BROKEN))))
        catalog.load.cache_clear()
        yield
    catalog.load.cache_clear()
