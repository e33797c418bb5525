"""What the tests of ``visionloop snapshot`` share: the command in this process, snapshots, and what register would leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_datasets import stage

from visionloop.core import receipts
from visionloop.core.canonical import stage_key
from visionloop.core.errors import VisionloopError
from visionloop.core.receipts import InputReference, Receipt, Result
from visionloop.core.storage import open_prefix
from visionloop.pipelines.cli.main import application

#: A released version's workspace and dataset.
RELEASED = Path(__file__).parents[1] / "released" / "0.1.0.tar.gz"


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and the sentence of ``visionloop snapshot``."""
    error: VisionloopError | None = None
    try:
        application(["snapshot"])(["snapshot", *map(str, words)], standalone_mode=False)
    except VisionloopError as raised:
        error = raised
    code, sentence = (0, "") if error is None else (error.exit_code, error.sentence)
    return code, capsys.readouterr().out, sentence


def taken(folder: Path, workspace: Path, **values: str) -> str:
    """The id of a dataset's snapshot."""
    return str(stage("snapshot", workspace, dataset=str(folder), **values).receipt.scalars["snapshot_id"])


def objects_of_the_register(workspace: Path, identity: str, name: str, version: int) -> Result:
    """The receipts of an evaluation and a registration of a snapshot, as the stages write them but for their outputs."""
    snapshot = stage("snapshot", workspace, snapshot=identity)
    evaluation = _receipt(workspace, "evaluate", {"snapshot": snapshot.reference})
    scalars = {"model_name": name, "version": version}
    return _receipt(workspace, "register", {"evaluation": evaluation.reference}, **scalars)


def _receipt(workspace: Path, name: str, inputs: dict[str, InputReference], **scalars: object) -> Result:
    key = stage_key(name, 1, {label: reference.digest for label, reference in inputs.items()}, {})
    receipt = Receipt(
        stage=name,
        logic_version=1,
        key=key,
        attempt="0" * 12,
        inputs=inputs,
        parameters={},
        outputs={},
        digest=receipts.digest_of({}),
        scalars=scalars,
        metrics={},
        timings={},
        versions={},
        trace_id="",
    )
    return receipts.publish(open_prefix(f"{workspace}/{name}/{key}", "results"), receipt, None)
