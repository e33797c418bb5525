"""``visionloop stage NAME``: what it says where, and how often it tries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from laptop import TOY, Dataset, Laptop, Trained

ID = "0f6c1f0e-1111-4222-8333-444455556666"


@pytest.fixture
def broken(make_dataset: Callable[..., Dataset]) -> Callable[[int, int], Dataset]:
    """Makes datasets in some of whose training images the first box has a negative width."""

    def make(images: int, errors: int) -> Dataset:
        dataset = make_dataset(train=images, val=2, test=2)
        document = dataset.annotations()
        for image in document["images"][:errors]:
            image["annotations"][0]["bbox"][2] = -1.0
        return dataset.write_annotations(document)

    return make


def test_stdout_holds_one_json_object_and_stderr_the_log(laptop: Laptop, digits: Dataset):
    first = laptop.stage("snapshot", "--dataset", digits.uri, "--trace-id", ID, "--run", "one").expect()
    assert len(first.stdout.splitlines()) == 1
    summary = first.summary
    assert list(summary)[:5] == ["stage", "key", "receipt", "reused", "seconds"]
    assert list(summary)[-2:] == ["timings", "metrics"]
    assert list(summary["timings"]) == ["seconds"]
    assert {"snapshot_id", "dataset_hash", "task", "images", "train", "val", "test"} <= set(summary)
    again = laptop.stage("snapshot", "--dataset", digits.uri).expect().summary
    assert again["reused"] is True
    assert {name: again[name] for name in ("key", "receipt")} == {name: summary[name] for name in ("key", "receipt")}


def test_the_trace_id_is_in_every_line_and_receipt(laptop: Laptop, digits: Dataset):
    own_trace = laptop.stage("snapshot", "--dataset", digits.uri, "--trace-id", ID, "--run", "one").expect().summary
    assert laptop.receipt("snapshot", own_trace["key"]).trace_id == ID
    # A later stage of the run takes the run's, a variable goes before it, and an argument before both.
    uri = own_trace["receipt"]
    other = {"TRACE_ID": "from-a-variable"}
    follower = laptop.stage("validate", "--snapshot", uri, "--run", "one", "--mode", "annotations").expect()
    assert laptop.receipt("validate", follower.summary["key"]).trace_id == ID
    own = laptop.stage("validate", "--snapshot", uri, "--run", "one", "--mode", "headers", variables=other).expect()
    assert laptop.receipt("validate", own.summary["key"]).trace_id == "from-a-variable"
    refused = laptop.stage("validate", "--snapshot", uri, "--run", "one", "--mode", "none", "--trace-id", "given")
    refused.refused(78)
    failure = laptop.record("one").failure("validate")
    assert failure is not None
    assert failure.trace_id == "given"
    for ended in (follower, own, refused):
        assert all(line["trace_id"] and line["stage"] == "validate" and line["run"] == "one" for line in ended.log)


def test_the_run_is_the_job_id_unless_it_is_given(laptop: Laptop, digits: Dataset):
    laptop.stage("snapshot", "--dataset", digits.uri, variables={"JOB_ID": "job-17"}).expect()
    assert laptop.record("job-17").state("snapshot").state == "succeeded"


def test_outputs_are_files_for_an_engine(laptop: Laptop, digits: Dataset, tmp_path: Path):
    ended = laptop.stage("snapshot", "--dataset", digits.uri, "--outputs", str(tmp_path / "outputs")).expect()
    results = {path.name: path.read_text() for path in (tmp_path / "outputs").iterdir()}
    assert results["receipt"] == ended.summary["receipt"]
    assert (results["key"], results["reused"], results["train"]) == (ended.summary["key"], "false", "16")
    assert results["digest"] == laptop.receipt("snapshot", ended.summary["key"]).digest
    assert results["metrics"] == "{}"


def test_cleanup_has_neither_key_nor_receipt(laptop: Laptop):
    summary = laptop.stage("cleanup").expect().summary
    assert (summary["key"], summary["receipt"], summary["removed"]) == (None, None, 0)


def test_a_dataset_with_errors_fails_and_its_report_lies_in_the_run(laptop: Laptop, broken: Callable[..., Dataset]):
    snapshot = laptop.stage("snapshot", "--dataset", broken(16, 1).uri).expect().summary["receipt"]
    sentence = laptop.stage("validate", "--snapshot", snapshot, "--run", "bad").refused(65)
    page = f"{laptop.workspace.uri}/runs/bad/validate/report.html"
    assert sentence.endswith(f"The report lies at {page}.")
    assert "images[0].annotations[0].bbox [121, 33, -1, 31] has" in sentence
    assert laptop.workspace.exists("runs/bad/validate/report.html")
    report = json.loads(laptop.workspace.read("runs/bad/validate/report.json"))
    assert report["errors"] == 1
    assert laptop.keys("validate") == []


def test_quarantine_leaves_broken_images_out(laptop: Laptop, broken: Callable[..., Dataset]):
    snapshot = laptop.stage("snapshot", "--dataset", broken(36, 2).uri).expect().summary["receipt"]
    report = laptop.stage("validate", "--snapshot", snapshot, "--on-error", "quarantine").expect().summary
    assert (report["errors"], report["quarantined"]) == (2, 2)
    converted = laptop.stage("convert", "--snapshot", snapshot, "--report", report["receipt"]).expect().summary
    assert (converted["images"], converted["train"]) == (38, 34)


def test_more_than_one_image_in_twenty_left_out_is_an_error(laptop: Laptop, broken: Callable[..., Dataset]):
    snapshot = laptop.stage("snapshot", "--dataset", broken(36, 3).uri).expect().summary["receipt"]
    sentence = laptop.stage("validate", "--snapshot", snapshot, "--on-error", "quarantine").refused(65)
    assert sentence.startswith("3 of 40 images have errors, more than the 5% that may be left out:")


@pytest.mark.parametrize("damage", ["missing", "altered", "half", "output gone", "another stage's"])
def test_an_input_without_a_valid_receipt_is_refused(laptop: Laptop, digits: Dataset, damage: str):
    taken = laptop.stage("snapshot", "--dataset", digits.uri).expect().summary
    path = f"snapshot/{taken['key']}/receipt.json"
    data = laptop.workspace.read(path)
    uri = taken["receipt"]
    match damage:
        case "missing":
            laptop.workspace.delete([path])
        case "altered":
            laptop.workspace.write(path, data.replace(b'"detection"', b'"pose"'))
        case "half":
            laptop.workspace.write(path, data[: len(data) // 2])
        case "output gone":
            outputs = laptop.receipt("snapshot", taken["key"]).outputs
            laptop.workspace.delete([f"snapshot/{taken['key']}/{outputs['manifest'].path}"])
        case _:
            uri = laptop.stage("validate", "--snapshot", uri).expect().summary["receipt"]
    sentence = laptop.stage("validate", "--snapshot", uri).refused(65)
    assert uri in sentence
    if damage == "another stage's":
        return
    # What is damaged is made again by the stage that made it.
    again = laptop.stage("snapshot", "--dataset", digits.uri).expect().summary
    assert (again["key"], again["reused"]) == (taken["key"], False)
    laptop.stage("validate", "--snapshot", taken["receipt"]).expect()


def test_two_stages_that_do_not_belong_together_are_refused(
    toy_trained: Trained, laptop: Laptop, make_dataset: Callable[..., Dataset]
):
    other = laptop.stage("snapshot", "--dataset", make_dataset(train=4, val=2, test=2).uri).expect().summary["receipt"]
    arguments = ["--converted", toy_trained.receipt_uri("convert"), "--snapshot", other]
    assert "not the snapshot that" in laptop.stage("train", *arguments, settings=TOY).refused(65)
    arguments = ["--snapshot", other, "--report", toy_trained.receipt_uri("validate")]
    assert "of another snapshot" in laptop.stage("convert", *arguments).refused(65)


def test_it_tries_as_often_as_it_is_told(file_laptop: Laptop, tmp_path: Path):
    """A store that does not answer is transient: the stage tries itself again, with a pause between."""
    nowhere = {
        "EXTERNAL_S3_ENDPOINT": "http://127.0.0.1:9",
        "EXTERNAL_S3_ACCESS_KEY": "none",
        "EXTERNAL_S3_SECRET_KEY": "none",
        "VISIONLOOP_ATTEMPTS": "2",
    }
    ended = file_laptop.stage("snapshot", "--dataset", "s3://datasets/none", "--run", "out", variables=nowhere)
    sentence = ended.refused(75)
    assert "http://127.0.0.1:9" in sentence
    assert sum("Trying again" in line["message"] for line in ended.log) == 1
    failure = file_laptop.record("out").failure("snapshot")
    assert failure is not None
    assert (failure.attempt, failure.error_message) == (2, sentence)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "²"])
def test_a_number_of_attempts_that_is_none_is_refused(file_laptop: Laptop, value: str):
    sentence = file_laptop.stage("cleanup", variables={"VISIONLOOP_ATTEMPTS": value}).refused(78)
    assert sentence == f"VISIONLOOP_ATTEMPTS is '{value}'; give a whole number from 1."
