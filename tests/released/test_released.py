"""Workspaces that released versions wrote: every later version opens them, and says of each stage whether its result counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import laptop as machine
import pytest
from laptop import Laptop
from workspaces import GIVEN_MODEL, MODEL, Released

from visionloop.core import catalog, receipts
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Result
from visionloop.core.running import Invocation, run_stage

pytestmark = pytest.mark.slow

#: What ``plan train`` says of each stage of a released workspace. A stage whose logic version was raised since has the reason
#: for its new run here, and those after it follow.
PLANS = {
    "0.1.0": {
        "snapshot": "the stage's logic 1 → 3",
        "validate": "follows",
        "convert": "follows",
        "train": "follows",
        "evaluate": "follows",
        "register": "follows",
    },
}

#: Loads the champion as a user would, and prints what it sees in a picture.
PREDICT = """
import json, sys
import mlflow.pyfunc
from PIL import Image

model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps([[found["class"] for found in one] for one in model.predict(sys.argv[2:], params={"confidence": 0.0})]))
"""


@pytest.fixture(scope="module", params=sorted(PLANS))
def released(request: pytest.FixtureRequest) -> Released:
    """A version's workspace."""
    return Released(request.param)


@pytest.fixture(scope="module")
def laptop(released: Released, make_laptop: Callable[..., Laptop], s3: machine.Server) -> Laptop:
    """A laptop whose workspace and registry are the released ones."""
    made = make_laptop()
    released.put(s3, made.database)
    made.workspace = machine.s3_prefix(s3, "results", released.prefix)
    return made


def plan(laptop: Laptop, released: Released) -> dict[str, str]:
    """What ``plan train`` answers for the run that wrote the workspace, by stage."""
    arguments = ["--dataset", released.dataset, "--workspace", released.workspace, "--model-name", GIVEN_MODEL]
    ended = laptop.run("plan", "train", *arguments, "--json", *machine.sets(machine.TOY)).expect()
    return {
        entry["stage"]: "; ".join(entry["reasons"]) or entry["action"]
        for entry in json.loads(ended.stdout.splitlines()[-1])["stages"]
    }


def test_a_released_workspace_is_used_as_its_table_says(laptop: Laptop, released: Released):
    assert plan(laptop, released) == PLANS[released.version]


def test_every_receipt_of_a_released_workspace_is_read_and_whole(
    laptop: Laptop, released: Released, s3_environment: machine.Server
):
    results = {info.key.split("/")[0] for info in laptop.workspace.objects() if info.key.endswith("/receipt.json")}
    assert results == set(POLICIES) - {"cleanup", "export", "predict"}
    for stage in results:
        for key in laptop.workspace.children(stage)[0]:
            result = receipts.load(f"{released.workspace}/{stage}/{key}/receipt.json", stage)
            assert result.receipt.key == key
            assert result.intact()
            assert receipts.digest_of(result.receipt.outputs) == result.receipt.digest


def test_a_snapshot_of_a_released_workspace_is_checked_and_converted(
    laptop: Laptop, released: Released, s3_environment: machine.Server
):
    """Whatever form its annotations have, the labels are those that were trained on."""
    (taken,) = laptop.keys("snapshot")
    wanted = laptop.receipt("snapshot", taken).scalars["snapshot_id"]
    invocation = Invocation(released.workspace, run="again")

    def stage(name: str, **arguments: str) -> Result:
        result = run_stage(catalog.stage(name), arguments, invocation).result
        assert result is not None
        return result

    snapshot = stage("snapshot", snapshot=wanted)
    assert snapshot.receipt.key == taken
    report = stage("validate", snapshot=snapshot.uri)
    again = stage("convert", snapshot=snapshot.uri, report=report.uri)
    before = laptop.result("convert", next(key for key in laptop.keys("convert") if key != again.receipt.key))
    assert again.receipt.outputs["labels"].sha256 == before.receipt.outputs["labels"].sha256


def test_the_champion_of_a_released_workspace_is_the_one_that_is_compared(laptop: Laptop):
    assert laptop.versions() == [(MODEL, 1)]
    assert laptop.aliases() == {(MODEL, 1): "champion"}
    evaluation = laptop.receipt("evaluate", laptop.keys("evaluate")[0])
    training = laptop.receipt("train", laptop.keys("train")[0])
    assert evaluation.inputs["training"].digest == training.digest
    assert laptop.tags(MODEL, 1)["visionloop.training_digest"] == training.digest


def test_the_champion_of_a_released_workspace_loads_and_predicts(
    laptop: Laptop, s3: machine.Server, released: Released, tmp_path: Path
):
    pictures = []
    dataset = machine.s3_prefix(s3, "datasets", released.prefix, "dataset")
    for info in list(dataset.objects("images/test"))[:2]:
        pictures.append(tmp_path / Path(info.key).name)
        pictures[-1].write_bytes(dataset.read(info.key))
    environment = laptop.environment | {
        "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.keys.access,
        "AWS_SECRET_ACCESS_KEY": s3.keys.secret,
    }
    ended = subprocess.run(
        [sys.executable, "-c", PREDICT, f"models:/{MODEL}@champion", *map(str, pictures)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=machine.PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    assert [len(entry) for entry in seen] == [1, 1]
    evaluation = laptop.result("evaluate", laptop.keys("evaluate")[0])
    assert {entry[0] for entry in seen} <= set(json.loads(evaluation.read("evaluation"))["per_class"])
