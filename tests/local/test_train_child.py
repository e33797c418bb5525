"""What the process that trains reports of an error that ended it."""

from __future__ import annotations

import pytest

from visionloop.core.errors import InvalidDataset
from visionloop.training.supervision.child import failure


def test_a_library_that_is_not_installed_is_named_with_the_command() -> None:
    failed = failure(ModuleNotFoundError("No module named 'ultralytics'", name="ultralytics.utils"), "ultralytics")
    assert failed.exit_code == 78
    assert failed.sentence == (
        "The trainer ultralytics needs the package ultralytics, which is not installed here; "
        "install it with pip install 'visionloop[ultralytics]'."
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidDataset("The labels are gone."), 65),
        (MemoryError(), 75),
        (ModuleNotFoundError("No module named 'visionloop.nothing'", name="visionloop.nothing"), 70),
        (ValueError("odd"), 70),
    ],
)
def test_any_other_error_keeps_its_code(error: BaseException, code: int) -> None:
    failed = failure(error, "toy")
    assert failed.exit_code == code
    assert ("please report it" in failed.sentence) == (code == 70)
    assert bool(failed.traceback) == (code == 70)
