"""What the GPUs' driver says of them, from a stand-in for its program that answers as it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionloop.training.driver import first_gpu


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("device", "visible", "asked"),
    [(None, "", "0"), ("", "", "0"), ("1", "", "1"), ("2,3", "", "2"), ("0", "GPU-5a", "GPU-5a"), ("1", "4,6", "6")],
)
def test_the_first_gpu_is_named_with_its_memory(
    device: str | None, visible: str, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, f'echo "$@" > {tmp_path}/asked; echo "NVIDIA A GPU, 3g, 143771"', monkeypatch)
    assert first_gpu(device, {"CUDA_VISIBLE_DEVICES": visible}) == ("NVIDIA A GPU, 3g", 140.4)
    assert (tmp_path / "asked").read_text().split()[0] == f"--id={asked}"


@pytest.mark.parametrize(
    "script", ["exit 9", "echo", "echo 'No devices were found'", "echo 'A GPU, [N/A]'", "printf '\\377'", "kill -9 $$"]
)
def test_a_driver_that_says_something_else_is_no_gpu(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, script, monkeypatch)
    assert first_gpu(None, {}) is None


def test_nobody_is_asked_where_the_cpu_is_named_or_there_is_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, f"touch {tmp_path}/asked", monkeypatch)
    assert first_gpu("cpu", {}) is None
    assert not (tmp_path / "asked").exists()
    (tmp_path / "nvidia-smi").unlink()
    assert first_gpu(None, {}) is None
