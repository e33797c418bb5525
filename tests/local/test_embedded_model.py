"""A model whose files lie in the embedded store, used by runs that have all else in folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import laptop as machine
import pytest
from laptop import TOY, Dataset, Laptop, sets

pytestmark = pytest.mark.slow


@pytest.fixture
def embedded(tmp_path: Path, registry_template: Path) -> Iterator[Laptop]:
    """A laptop on which neither a store nor MLflow is configured."""
    made = machine.build(tmp_path / "laptop", registry_template, machine.file_prefix(tmp_path / "workspace"), {})
    del made.variables["MLFLOW_TRACKING_URI"]
    yield made
    made.close()


def test_a_model_in_the_embedded_store_serves_runs_on_folders(embedded: Laptop, tmp_path: Path):
    dataset = Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects())
    named = ("--dataset", dataset.uri, "--model-name", "Tiny Digits")
    first = embedded.run("run", "train", *named, "--workspace", "s3://visionloop/tiny", *sets(TOY)).expect().summary
    assert first["alias"] == "champion"

    champion, folder = f"{first['model_name']}@champion", ("--workspace", embedded.workspace.uri)
    images = ("--images", f"{dataset.uri}/images")
    predicted = embedded.run("run", "predict", "--model", champion, *images, *folder).expect().summary
    assert predicted["predicted"]["images"] == 32

    # The new model is compared with the champion, whose checkpoint and lineage lie in the store.
    second = embedded.run("run", "train", *named, *folder, *sets((*TOY[:-1], "lr0=0.5"))).expect().summary
    evaluation = embedded.receipt("evaluate", second["stages"]["evaluate"]["key"])
    assert str(evaluation.inputs["champion"].receipt).startswith("s3://visionloop/tiny/train/")
