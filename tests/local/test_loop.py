"""The whole loop with the real trainer: trained once, reused ever after."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from laptop import TINY, Dataset, Trained
from message_receiver import SECRET_PART, receiving

from visionloop.core.canonical import result_digest, stage_key
from visionloop.core.receipts import Receipt

STAGES = ["snapshot", "validate", "convert", "train", "evaluate", "register"]


def receipts_of(trained: Trained) -> dict[str, Receipt]:
    return {stage: trained.laptop.receipt(stage, trained.key(stage)) for stage in STAGES}


def tracked_run(receipt: Receipt) -> str:
    """The id of the training's run in MLflow."""
    assert isinstance(receipt.tracking, dict)
    return str(receipt.tracking["mlflow"]["run_id"])


def test_the_run_tells_what_it_made(trained: Trained):
    summary = trained.summary
    assert list(summary) == [
        *("run", "trace_id", "model_name", "given_name", "version", "alias", "alias_reason", "verdict", "reason"),
        *("metrics", "reports", "mlflow", "seconds", "timings", "warnings", "stages"),
    ]
    named = ("model_name", "version", "alias", "verdict")
    assert [summary[name] for name in named] == ["tiny-digits", 1, "champion", "promote"]
    assert {"mAP50", "mAP50-95", "precision", "recall"} <= set(summary["metrics"])
    assert list(summary["stages"]) == [*STAGES, "cleanup"]
    for stage, entry in summary["stages"].items():
        assert list(entry) == ["key", "receipt", "reused", "seconds"]
        if stage == "cleanup":
            assert (entry["key"], entry["receipt"]) == (None, None)
        else:
            assert entry["receipt"] == f"{trained.laptop.workspace.uri}/{stage}/{entry['key']}/receipt.json"
        assert entry["reused"] is False
    assert len(trained.ended.stdout.splitlines()) == 1


def test_a_line_tells_each_stage_and_epoch_and_none_is_a_traceback(trained: Trained):
    lines = trained.ended.stderr.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("✓")] == [*STAGES, "cleanup"]
    assert [line.split()[2] for line in lines if " epoch " in line] == ["1/2", "2/2"]
    assert "Traceback" not in trained.ended.stderr


def test_receipts_chain_back_to_the_snapshot(trained: Trained):
    result = receipts_of(trained)
    chain = {
        "snapshot": [],
        "validate": ["snapshot"],
        "convert": ["snapshot", "report"],
        "train": ["converted", "snapshot"],
        "evaluate": ["training", "snapshot", "champion"],
        "register": ["evaluation"],
    }
    stage_of = {"report": "validate", "converted": "convert", "training": "train", "evaluation": "evaluate"}
    assert {stage: list(receipt.inputs) for stage, receipt in result.items()} == chain
    for receipt in result.values():
        for name, reference in receipt.inputs.items():
            if name == "champion":
                assert (reference.receipt, reference.digest) == (None, "none")
                continue
            source = stage_of.get(name, name)
            assert (reference.receipt, reference.digest) == (trained.receipt_uri(source), result[source].digest)


def test_keys_and_digests_follow_from_the_receipts(trained: Trained):
    for stage, receipt in receipts_of(trained).items():
        inputs = {name: reference.digest for name, reference in receipt.inputs.items()}
        parameters = {name: parameter.value for name, parameter in receipt.parameters.items()}
        assert receipt.key == trained.key(stage) == stage_key(stage, receipt.logic_version, inputs, parameters)
        results = {name: output.sha256 for name, output in receipt.outputs.items() if output.result}
        assert receipt.digest == result_digest(results)


def test_the_trace_id_is_in_every_receipt_log_line_and_tag(trained: Trained):
    trace_id = trained.summary["trace_id"]
    assert {receipt.trace_id for receipt in receipts_of(trained).values()} == {trace_id}
    log = trained.laptop.folder / "home" / "logs" / "runs" / f"{trained.summary['run']}.log"
    lines = [line[line.index('{"timestamp"') :] for line in log.read_text().splitlines() if '{"timestamp"' in line]
    arguments = [json.loads(line) for line in lines]
    assert {line["stage"] for line in arguments} >= {"train", "evaluate"}
    assert {line["trace_id"] for line in arguments} == {trace_id}
    assert trained.laptop.tags("tiny-digits", 1)["visionloop.trace_id"] == trace_id
    run = trained.laptop.record(trained.summary["run"]).read()
    assert run is not None
    assert run.trace_id == trace_id


def test_the_version_says_where_it_came_from(trained: Trained):
    result = receipts_of(trained)
    tags = trained.laptop.tags("tiny-digits", 1)
    expected = {
        "visionloop.name": "Tiny Digits",
        "visionloop.training_key": result["train"].key,
        "visionloop.training_digest": result["train"].digest,
        "visionloop.evaluation": trained.receipt_uri("evaluate"),
        "visionloop.snapshot_id": result["snapshot"].scalars["snapshot_id"],
        "visionloop.dataset_hash": result["snapshot"].scalars["dataset_hash"],
        "visionloop.mlflow_run_id": tracked_run(result["train"]),
        "visionloop.storage_uri": f"{trained.laptop.workspace.uri}/models/tiny-digits/1",
    }
    assert expected.items() <= tags.items()
    assert trained.laptop.workspace.exists("models/tiny-digits/1/MLmodel")


def test_mlflow_holds_the_trainings_parameters_metrics_dataset_and_receipts(trained: Trained):
    """What TrackedTraining says of a real training, read as MLflow's own database keeps it."""
    receipt, laptop = receipts_of(trained)["train"], trained.laptop
    run = tracked_run(receipt)
    assert laptop.query("SELECT status, name FROM runs WHERE run_uuid = ?", run) == [
        ("FINISHED", trained.summary["run"])
    ]
    params = dict(laptop.query("SELECT key, value FROM params WHERE run_uuid = ?", run))
    outside_the_key = {
        "device",
        "workers",
        "cache",
        "checkpoint_minutes",
        "resize",
        "stop_metric",
    }  # the last two at their defaults
    assert {*outside_the_key, *receipt.parameters} - {"trainer_version"} == set(params)
    assert [params[name] for name in ("epochs", "imgsz", "model", "augment")] == ["2", "32", "yolo11n.yaml", "true"]
    tags = dict(laptop.query("SELECT key, value FROM tags WHERE run_uuid = ?", run))
    snapshot = receipts_of(trained)["snapshot"]
    expected = {
        "visionloop.run": trained.summary["run"],
        "visionloop.trace_id": trained.summary["trace_id"],
        "visionloop.snapshot_id": snapshot.scalars["snapshot_id"],
        "visionloop.training_key": receipt.key,
        "visionloop.dataset": trained.dataset.uri,
        "visionloop.model_name": "Tiny Digits",
        "visionloop.task": "detection",
    }
    assert expected.items() <= tags.items()
    assert len(tags) <= 12
    rows = laptop.query("SELECT step, value FROM metrics WHERE run_uuid = ? AND key = 'val/mAP50' ORDER BY step", run)
    result = trained.laptop.result("train", receipt.key)
    history = json.loads(result.read("history"))["epochs"]
    assert rows == [(epoch["epoch"], epoch["val_metrics"]["mAP50"]) for epoch in history]
    assert [step for step, _ in rows] == [1, 2]
    measured = receipts_of(trained)["evaluate"].metrics
    found_there = dict(laptop.query("SELECT key, value FROM metrics WHERE run_uuid = ? AND key LIKE 'test/%'", run))
    assert {f"test/{name}": value for name, value in measured.items()}.items() <= found_there.items()
    assert {"test/coco_AP", "test/latency_median_ms"} <= found_there.keys()
    names = {name for (name,) in laptop.query("SELECT key FROM metrics WHERE run_uuid = ?", run)}
    assert {name.partition("/")[0] for name in names} - {"system"} == {"train", "val", "test", "epoch"}
    page = trained.laptop.workspace.child(f"mlflow/{run}/artifacts")
    assert {info.key for info in page.objects()} == {
        "plots/results.png",
        "reports/validate.html",
        "reports/evaluate.html",
        "evaluation/evaluation.json",
        "model_card.md",
        "model_card.html",
        "tables/classes.json",
        "tables/slices.json",
    }
    (dataset,) = laptop.query(
        "SELECT dataset_source FROM datasets JOIN inputs ON source_id = dataset_uuid WHERE destination_id = ?", run
    )
    assert json.loads(dataset[0]) == {"uri": trained.dataset.uri, "sha256": snapshot.scalars["dataset_hash"]}


def test_nothing_is_left_but_results(trained: Trained):
    """No reservation, no checkpoint, no progress: cleanup ran."""
    listing = trained.laptop.listing()
    assert not [key for key in listing if "/checkpoints/" in key or key.endswith(("reservation.json", "progress.json"))]


@pytest.fixture
def re_exported(trained: Trained) -> Dataset:
    """The same dataset written again, with other dates, another order and other people."""
    document = trained.dataset.annotations()
    document |= {"last_modified_at": "2026-01-02T03:04:05.678901+09:00", "version": 7, "statistics": {}}
    document["images"].reverse()
    document["classes"].reverse()
    for image in document["images"]:
        image["metadata"] |= {"labeled_by": "another@example.com", "labeled_at": "2026-01-01T00:00:00+09:00"}
        image["annotations"].reverse()
    return trained.dataset.write_annotations(document)


def test_a_second_run_reuses_everything_though_the_dataset_was_exported_again(trained: Trained, re_exported: Dataset):
    laptop = trained.laptop
    with receiving() as receiver:
        command = laptop.train_command(re_exported.uri, settings=TINY)
        ended = laptop.run(*command, variables=receiver.variables).expect()
    assert {stage: entry["reused"] for stage, entry in ended.summary["stages"].items()} == {
        **dict.fromkeys(STAGES, True),
        "cleanup": False,
    }
    for stage in STAGES:
        assert ended.summary["stages"][stage]["key"] == trained.key(stage)
    assert [ended.summary[name] for name in ("version", "alias", "verdict")] == [1, "champion", "promote"]
    assert " epoch " not in ended.stderr
    assert laptop.versions() == [("tiny-digits", 1)]
    # A reused run is told of as any other.
    (message,) = receiver.bodies
    assert (message["run"], message["status"]) == (ended.summary["run"], "completed")
    assert message["text"] == "Version 1 is registered as champion."
    assert SECRET_PART not in ended.stderr


@pytest.mark.matrix
def test_the_same_content_elsewhere_trains_nothing_anew(trained: Trained, make_dataset: Callable[..., Dataset]):
    elsewhere = make_dataset()
    ended = trained.laptop.train(elsewhere.uri, settings=TINY).expect()
    reused = {stage: entry["reused"] for stage, entry in ended.summary["stages"].items()}
    assert reused == {**dict.fromkeys(STAGES, True), "snapshot": False, "cleanup": False}
    assert trained.laptop.versions() == [("tiny-digits", 1)]


def test_nothing_beyond_this_machine_was_asked_for(trained: Trained):
    """Every command runs with all addresses but loopback refused, so what is here would have been fetched."""
    assert trained.laptop.refused() == []
