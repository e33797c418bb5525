"""The memory of the GPUs, by the answers that drivers of several generations give."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import ECC, FAILURE, PENDING, RETIRED, driver, planned

from visionloop.core.errors import SickMachine
from visionloop.training.preflight import health

#: By driver and GPU the answers of one without a fault. Words in brackets changed with the drivers; retired pages are of GPUs before
#: Ampere, remapped rows of those since, and the oldest drivers do not know the question.
SOUND = {
    "390, GeForce": {ECC: "[Not Supported]", RETIRED: "[Not Supported]"},
    "418, V100": {ECC: "0", RETIRED: "No"},
    "450, V100": {ECC: "0", RETIRED: "No", PENDING: "[N/A]", FAILURE: "[N/A]"},
    "535, A100": {ECC: "0", RETIRED: "[N/A]", PENDING: "No", FAILURE: "No"},
    "570, H200": {ECC: "0", RETIRED: "[N/A]", PENDING: "0", FAILURE: "0"},
    "560, GeForce": {ECC: "[N/A]", RETIRED: "[N/A]", PENDING: "[N/A]", FAILURE: "[N/A]"},
    "580, GB10": {ECC: "[N/A]", PENDING: "[N/A]", FAILURE: "[N/A]"},
    "an answer that is none": {ECC: "[Unknown Error]", RETIRED: "[Insufficient Permissions]"},
    "a lost GPU": {},
}

#: Those that tell nothing of the memory.
SILENT = ("390, GeForce", "560, GeForce", "580, GB10", "an answer that is none", "a lost GPU")


@pytest.mark.parametrize("machine", SOUND)
def test_gpus_without_a_fault_pass_whatever_the_driver_knows(
    machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, SOUND[machine], monkeypatch)
    assert health.check(planned(), {}) == (None if machine in SILENT else "memory of the GPUs sound")


@pytest.mark.parametrize(
    ("machine", "answers", "said"),
    [
        ("418, V100", {RETIRED: "Yes"}, "GPU 0 has pages of its memory that wait to be retired (retired_pages.pending): reset it"),
        ("418, V100", {ECC: "2"}, "GPU 0 has met 2 errors of its memory that could not be corrected (ECC) since"),
        ("535, A100", {PENDING: "Yes"}, "GPU 0 has rows of its memory that wait to be remapped (remapped_rows.pending): reset it"),
        ("570, H200", {PENDING: "1"}, "GPU 0 has rows of its memory that wait to be remapped (remapped_rows.pending): reset it"),
        ("535, A100", {FAILURE: "Yes"}, "GPU 0 could not remap a row of its memory that is broken (remapped_rows.failure): have it replaced"),
    ],
)  # fmt: skip
def test_a_gpu_whose_memory_fails_is_refused(
    machine: str, answers: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, SOUND[machine] | answers, monkeypatch)
    with pytest.raises(SickMachine) as refused:
        health.check(planned(), {})
    assert refused.value.sentence.startswith(said)


def test_the_gpus_of_the_training_are_asked_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = driver(tmp_path, SOUND["535, A100"], monkeypatch)
    health.check(planned(device="0,1"), {"CUDA_VISIBLE_DEVICES": "4,6,7"})
    assert {line.split()[0] for line in calls.read_text().splitlines()} == {"--id=4", "--id=6"}


@pytest.mark.parametrize("changes", [{"device": "cpu"}, {"gpu": False}])
def test_nobody_is_asked_for_a_training_on_the_cpu(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = driver(tmp_path, {ECC: "9"}, monkeypatch)
    assert health.check(planned(**changes), {}) is None
    assert not calls.exists()
