"""The check of the machine in the train stage: what it refuses ends the stage before anything is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from laptop import TINY, TOY, Laptop, Trained

pytestmark = pytest.mark.slow

ULTRALYTICS = (*TINY, "trainer=ultralytics")

#: Importing mlflow is most of what a small training takes.
UNTRACKED: dict[str, str | None] = {"MLFLOW_TRACKING_URI": None}


def refused(
    laptop: Laptop, trained: Trained, code: int, settings: tuple[str, ...], **variables: str
) -> tuple[str, list[Path]]:
    """The sentence of a train stage that must end with a code, and the images that were fetched."""
    receipts = ("--converted", trained.receipt_uri("convert"), "--snapshot", trained.receipt_uri("snapshot"))
    ended = laptop.stage("train", *receipts, settings=settings, variables=UNTRACKED | variables)
    return ended.refused(code), [path for path in (laptop.folder / "cache").rglob("*") if path.is_file()]


def test_a_batch_that_is_never_full_is_refused(laptop: Laptop, toy_trained: Trained) -> None:
    sentence, fetched = refused(laptop, toy_trained, 78, ("trainer=toy", "epochs=4", "batch=1000"))
    assert sentence.startswith("batch is 1000, but train has 16 images, and 4 epochs see 64: not one step")
    assert fetched == []


def test_a_pod_whose_gpu_can_not_be_used_is_left(laptop: Laptop, toy_trained: Trained) -> None:
    sentence, fetched = refused(laptop, toy_trained, 71, ULTRALYTICS, VISIONLOOP_POD_GPUS="1", CUDA_VISIBLE_DEVICES="")
    assert sentence.startswith("This pod was given 1 GPU, and no GPU can be used (")
    assert fetched == []


def test_a_gpu_whose_memory_fails_is_left(laptop: Laptop, toy_trained: Trained, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\ncase $2 in *ecc.*) echo 3;; *) echo '[N/A]';; esac\n")
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    sentence, fetched = refused(laptop, toy_trained, 71, ULTRALYTICS, PATH=path)
    assert sentence.startswith("GPU 0 has met 3 errors of its memory that could not be corrected (ECC)")
    assert fetched == []


def test_a_store_that_takes_no_write_ends_it(laptop: Laptop, toy_trained: Trained) -> None:
    sentence, fetched = refused(laptop, toy_trained, 77, TOY, INTERNAL_S3_SECRET_KEY="wrong-wrong-wrong")
    assert "INTERNAL_S3" in sentence or "key" in sentence
    assert fetched == []


def test_all_that_is_well_is_one_line(laptop: Laptop, toy_trained: Trained) -> None:
    receipts = ("--converted", toy_trained.receipt_uri("convert"), "--snapshot", toy_trained.receipt_uri("snapshot"))
    ended = laptop.stage("train", *receipts, settings=(*TOY, "seed=7"), variables=UNTRACKED).expect()
    lines = [line for line in ended.stderr.splitlines() if "preflight:" in line]
    assert len(lines) == 1
    assert "preflight: batch 8 of 16 images; " in lines[0]
