"""What trackers and engines are told of an evaluation beside its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kfp import dsl
from toy_detector import Prepared, ToyTrainer, prepare, published, write_dataset

from visionloop.components import kubeflow
from visionloop.components.evaluate import stage
from visionloop.components.evaluate.figures import figures, tables
from visionloop.components.evaluate.result import read


@pytest.fixture
def scenes(toy: ToyTrainer, tmp_path: Path) -> Prepared:
    """Twelve test images with 24 small objects."""
    return prepare(write_dataset(tmp_path / "dataset", images=48), (tmp_path / "workspace").as_uri())


@pytest.mark.usefixtures("mlflow_uri")
def test_trackers_and_engines_have_every_figure_under_one_name(
    scenes: Prepared, toy: ToyTrainer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.right, toy.wrong = [0.9] * 24, []
    told: list[tuple[dict[str, float], dict[str, bytes]]] = []
    monkeypatch.setattr(stage, "attach", lambda _, runs, metrics, files: told.append((metrics, files)))
    outcome = published(scenes.evaluate(scenes.train(8), name, gate='{"floor": 0}'))
    result = read(outcome)
    expected = figures(result, outcome.receipt.timings)
    assert set(expected) > {"coco_AP", "coco_AP50", "coco_AR100", "coco_AP_small", "coco_AR_small", "dAP_missed"}
    assert not {"coco_AP_large", "coco_AR_large"} & set(expected)  # without an object there is no figure
    assert (expected["errors_localisation"], expected["dAP_localisation"]) == (24, pytest.approx(1.0))
    assert expected["calibration_error"] == pytest.approx(0.1)
    assert expected["latency_median_ms"] == pytest.approx(1000 * outcome.receipt.timings["latency_median_seconds"])
    assert set(expected) > {"latency_p95_ms", "batch_latency_median_ms", "batch_latency_p95_ms"}

    ((metrics, files),) = told
    assert metrics == {f"test/{key}": value for key, value in (expected | result.metrics).items()}
    assert {"reports/evaluate.html", "tables/classes.json", "tables/slices.json"} < set(files)
    assert files["evaluation/evaluation.json"] == outcome.read("evaluation")

    artifact = dsl.Metrics(name="evaluation_metrics", uri=str(tmp_path / "artifact"), metadata={})
    kubeflow.fill(artifact, outcome)
    assert artifact.metadata == {"receipt": outcome.uri, **expected, **result.metrics}


@pytest.mark.usefixtures("mlflow_uri")
def test_the_tables_have_a_row_for_each_class_and_each_slice(scenes: Prepared, name: str) -> None:
    result = read(published(scenes.evaluate(scenes.train(0), name)))
    written = {path: json.loads(content) for path, content in tables(result, {"dim": 12, "bright": 12}).items()}
    assert written["tables/classes.json"] == {
        "columns": ["class", "objects", "mAP50-95"],
        "data": [[each, 12, result.per_class[each]["mAP50-95"]] for each in ("dim", "bright")],
    }
    small = result.slices["size:small"]
    assert small["AP"] == pytest.approx(1.0)
    assert written["tables/slices.json"] == {
        "columns": ["slice", "objects", "AP", "AR"],
        "data": [
            ["size:large", 0, None, None],
            ["size:medium", 0, None, None],
            ["size:small", 24, small["AP"], small["AR"]],
        ],
    }
