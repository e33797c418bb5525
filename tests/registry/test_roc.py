"""The ROC curve over the detections: its definition, its laws, and how it reaches the report and KFP's artifact."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl
from toy_detector import Prepared, ToyTrainer

from visionloop.components import kubeflow
from visionloop.components.evaluate.roc import POINTS, curve
from visionloop.core.stage import Outcome

CONFIDENCES = st.lists(st.floats(0, 1), min_size=1, max_size=300)


def test_a_curve_counted_by_hand() -> None:
    result = curve([0.9, 0.8, 0.4], [0.8, 0.1])
    assert result is not None
    assert result.threshold == [math.nextafter(0.9, 1), 0.9, 0.8, 0.4, 0.1]
    assert result.tpr == [0, 1 / 3, 2 / 3, 1, 1]
    assert result.fpr == [0, 0, 1 / 2, 1 / 2, 1]
    # Of the six pairs of a right and a wrong one four are in order and one is equal.
    assert result.area == pytest.approx((4 + 0.5) / 6)
    assert (result.right, result.wrong) == (3, 2)


@pytest.mark.parametrize(("right", "wrong"), [([], []), ([0.9], []), ([], [0.9]), ([0.9], [math.nan])])
def test_a_rate_of_nothing_is_no_curve(right: list[float], wrong: list[float]) -> None:
    assert curve(right, wrong) is None


@given(CONFIDENCES, CONFIDENCES)
def test_every_point_is_what_its_threshold_says(right: list[float], wrong: list[float]) -> None:
    result = curve(right, wrong)
    assert result is not None
    assert 2 <= len(result.threshold) <= POINTS
    for fpr, tpr, threshold in zip(result.fpr, result.tpr, result.threshold, strict=True):
        assert math.isfinite(threshold)
        assert fpr == sum(entry >= threshold for entry in wrong) / len(wrong)
        assert tpr == sum(entry >= threshold for entry in right) / len(right)
    assert (result.fpr[0], result.tpr[0], result.fpr[-1], result.tpr[-1]) == (0, 0, 1, 1)
    assert result.threshold == sorted(set(result.threshold), reverse=True)
    pairs = sum((entry > other) + (entry == other) / 2 for entry in right for other in wrong)
    assert result.area == pytest.approx(pairs / (len(right) * len(wrong)))


def shown(outcome: Outcome, folder: Path) -> dsl.ClassificationMetrics:
    """KFP's artifact of an evaluation, filled twice as by a task that is retried."""
    artifact = dsl.ClassificationMetrics(name="confusion_matrix", uri=str(folder / "artifact"), metadata={})
    for _ in range(2):
        assert outcome.result is not None
        kubeflow.fill(artifact, outcome.result)
    return artifact


@pytest.mark.usefixtures("mlflow_uri")
def test_the_report_and_the_artifact_show_the_curve(
    prepared: Prepared, toy: ToyTrainer, name: str, tmp_path: Path
) -> None:
    toy.right, toy.wrong = [0.9, 0.8, 0.4], [0.8, 0.1]
    outcome = prepared.evaluate(prepared.train(2), name)
    assert outcome.result is not None
    page = outcome.result.read("report").decode()
    assert "of 3 right and 2 wrong detections, all classes together" in page
    assert "with a chance of 0.750" in page
    assert 'points="0.00,100.00 0.00,66.67 50.00,33.33 50.00,0.00 100.00,0.00"' in page
    artifact = shown(outcome, tmp_path)
    points = artifact.metadata["confidenceMetrics"]
    assert [entry["falsePositiveRate"] for entry in points] == [0, 0, 1 / 2, 1 / 2, 1]
    assert [entry["recall"] for entry in points] == [0, 1 / 3, 2 / 3, 1, 1]
    assert points[1]["confidenceThreshold"] == 0.9
    assert artifact.metadata["roc_uri"] == outcome.result.output_uri("roc")
    assert artifact.metadata["confusionMatrix"]["rows"]
    json.dumps(artifact.metadata, allow_nan=False)
    # Beside the results: how confident a model is, to the last digit, decides nothing downstream.
    assert not outcome.result.output("roc").result


@pytest.mark.usefixtures("mlflow_uri")
def test_a_trainer_that_tells_no_confidences_has_no_curve(prepared: Prepared, name: str, tmp_path: Path) -> None:
    outcome = prepared.evaluate(prepared.train(2), name)
    assert outcome.result is not None
    assert "roc" not in outcome.result.receipt.outputs
    assert "<svg" not in outcome.result.read("report").decode()
    assert "confidenceMetrics" not in shown(outcome, tmp_path).metadata


@pytest.mark.usefixtures("mlflow_uri")
def test_a_page_in_kubeflow_pipelines_links_to_nothing_that_is_not_there(
    prepared: Prepared, name: str, tmp_path: Path
) -> None:
    outcome = prepared.evaluate(prepared.train(2), name)
    assert outcome.result is not None
    assert "<nav><a " in outcome.result.read("report").decode()
    artifact = dsl.HTML(name="report", uri=str(tmp_path / "artifact"), metadata={})
    kubeflow.fill(artifact, outcome.result)
    shown = Path(artifact.path).read_text()
    assert "<nav></nav>" in shown
    assert "<h3>By size</h3>" in shown
