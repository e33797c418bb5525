"""A step that an engine calls successful though it was killed leaves empty outputs: whoever reads them refuses with 65."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionloop.core import catalog
from visionloop.core.errors import InvalidReceipt
from visionloop.core.running import Invocation, run_stage

READS = {
    "validate": {"snapshot": ""},
    "convert": {"snapshot": "", "report": ""},
    "train": {"converted": "", "snapshot": ""},
    "evaluate": {"training": "", "snapshot": "", "model_name": "digits"},
    "register": {"evaluation": "", "model_name": "digits"},
}


# evaluate takes a model in place of a training.
@pytest.mark.parametrize("stage", [stage for stage in READS if stage != "evaluate"])
def test_an_empty_input_is_no_receipt(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InvalidReceipt, match=r"^\(empty\): not the URI of a \w+ receipt; give .*\.$") as raised:
        run_stage(catalog.stage(stage), READS[stage], Invocation(workspace=(tmp_path / "work").as_uri()))
    assert raised.value.exit_code == 65
    assert not list(tmp_path.glob(f"work/{stage}/*/receipt.json"))
