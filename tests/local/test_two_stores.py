"""Datasets and results in different stores, each with its own endpoint and keys."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import laptop as machine
import pytest
from laptop import Dataset, Laptop, Server

pytestmark = pytest.mark.slow


def test_the_loop_runs_over_two_stores_with_keys_of_their_own(
    make_laptop: Callable[..., Laptop], digits: Dataset, second_s3: Server
):
    laptop = make_laptop(**second_s3.variables("INTERNAL_S3_"))
    laptop.workspace = machine.s3_prefix(second_s3, "results", f"work-{uuid.uuid4().hex[:8]}")
    before = {info.key: info.etag for info in digits.prefix.objects()}
    ended = laptop.train(digits.uri).expect()
    assert ended.summary["alias"] == "champion"
    assert laptop.receipt("train", ended.summary["stages"]["train"]["key"]).scalars["epochs"] == 4
    assert laptop.workspace.exists("models/tiny-digits/1/MLmodel")
    assert {info.key: info.etag for info in digits.prefix.objects()} == before


def test_keys_of_the_one_store_do_not_open_the_other(
    make_laptop: Callable[..., Laptop], digits: Dataset, second_s3: Server, s3: Server
):
    swapped = {"EXTERNAL_S3_ENDPOINT": second_s3.endpoint}
    laptop = make_laptop(**swapped)
    sentence = laptop.stage("snapshot", "--dataset", digits.uri).refused(77)
    assert "EXTERNAL_S3_ACCESS_KEY" in sentence
    assert not any(secret in sentence for secret in (s3.keys.secret, s3.keys.access))


def test_a_dataset_in_a_folder_and_results_in_a_store(make_laptop: Callable[..., Laptop], tmp_path: Path):
    dataset = Dataset(machine.file_prefix(tmp_path / "digits", "dataset")).put(machine.sample_objects(4, 2, 2))
    laptop = make_laptop()
    prepared = laptop.prepare(str(tmp_path / "digits"))
    result = laptop.receipt("snapshot", prepared["snapshot"].split("/")[-2])
    assert result.parameters["dataset"].value == dataset.uri == (tmp_path / "digits").as_uri()
