"""``visionloop run check``: a trial of one batch through the command, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from laptop import TINY, TOY, Dataset, Laptop, sets

pytestmark = pytest.mark.slow

TINY_CHECK = (*TINY, "lr0=0.01", "optimizer=AdamW", "trainer=ultralytics")


def command(laptop: Laptop, dataset: str, *arguments: str, settings: tuple[str, ...]) -> list[str]:
    words = ["--dataset", dataset, "--workspace", laptop.workspace.uri, "--model-name", "Tiny Digits"]
    return ["run", "check", *words, *arguments, *sets(settings)]


def test_a_training_that_learns_passes_and_leaves_nothing_of_a_training(laptop: Laptop, digits: Dataset) -> None:
    first = laptop.run(*command(laptop, digits.uri, settings=TINY_CHECK)).expect()
    assert [check["check"] for check in first.summary["checks"]] == ["loss", "gradients", "overfitting"]
    assert first.summary["losses"][-1] < first.summary["losses"][0]
    assert first.summary["images"] == 8
    written = {key.split("/")[0] for key in laptop.listing()}
    assert written == {"workspace.json", "snapshot", "validate", "convert", "runs", "read", "snapshots"}
    assert laptop.versions() == []
    again = laptop.run(*command(laptop, digits.uri, "--output", "text", settings=TINY_CHECK)).expect()
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["CHECK", "loss", "gradients", "overfitting"]
    assert "convert: reused" in again.stderr
    states = laptop.record(str(first.summary["run"])).stages()
    assert {state.stage for state in states} == {"snapshot", "validate", "convert"}


def test_each_refusal_ends_with_one_sentence(laptop: Laptop, digits: Dataset) -> None:
    still = (*TINY, "lr0=1e-9", "optimizer=SGD", "trainer=ultralytics")
    assert "the loss did not fall in 30 steps" in laptop.run(*command(laptop, digits.uri, settings=still)).refused(65)
    toy = laptop.run(*command(laptop, digits.uri, settings=TOY)).refused(78)
    assert toy.startswith("The trainer toy can't try a batch: it has no method try_batch")
    forced = laptop.run(*command(laptop, digits.uri, "--force", "train", settings=TOY)).refused(78)
    assert forced.startswith("run check works in processes of this machine: leave out")


def test_a_dataset_that_is_refused_ends_as_the_run_would(laptop: Laptop, make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    annotations = dataset.annotations()
    annotations["images"][0]["annotations"][0]["class_id"] = 99
    dataset.write_annotations(annotations)
    sentence = laptop.run(*command(laptop, dataset.uri, settings=TINY_CHECK)).refused(65)
    assert "images[0].annotations[0].class_id" in sentence
