"""What MLflow shows of the machine that trains."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import pytest
from tracked_training import Started

from visionloop.core.errors import InvalidConfig
from visionloop.training.tracking import chosen, system_metrics
from visionloop.training.tracking.connection import connect

EVERY = (
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "disk_usage_percentage",
    "network_receive_megabytes",
)


@pytest.fixture
def quick(environment: dict[str, str]) -> dict[str, str]:
    """Measured as often as it gets."""
    return {**environment, system_metrics.INTERVAL: "0.01"}


def steps(environment: dict[str, str], run_id: str, name: str) -> list[int]:
    return [entry.step for entry in connect(environment).get_metric_history(run_id, f"system/{name}")]


def wait_for_sample(environment: dict[str, str], run_id: str, step: int) -> None:
    import time

    for _ in range(3000):
        if step in steps(environment, run_id, EVERY[0]):
            return
        time.sleep(0.01)
    raise AssertionError(f"no sample {step}")


def test_a_training_shows_its_machine_under_mlflows_names(quick: dict[str, str]) -> None:
    first = Started(quick, experiment="system")
    wait_for_sample(quick, first.run_id, 1)
    first.finish("failed")
    for thread in threading.enumerate():  # a sample may be on its way
        if thread.name == "system metrics":
            thread.join(60)
    # The next attempt goes on behind the first one's samples.
    last = max(steps(quick, first.run_id, EVERY[0]))
    second = Started(quick, first.record, experiment="system")
    wait_for_sample(quick, first.run_id, last + 1)
    second.finish("succeeded")
    run = connect(quick).get_run(first.run_id)
    assert {f"system/{name}" for name in EVERY} <= set(run.data.metrics)
    counted = steps(quick, first.run_id, EVERY[0])
    assert len(counted) == len(set(counted))


def test_what_the_driver_says_of_the_gpus_is_there(quick: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver in the place of NVIDIA's: MLflow's monitor asks it."""
    driver: Any = types.ModuleType("pynvml")
    driver.NVMLError = type("NVMLError", (Exception,), {})
    driver.nvmlInit = lambda: None
    driver.nvmlDeviceGetCount = lambda: 2
    driver.nvmlDeviceGetHandleByIndex = lambda index: index
    driver.nvmlDeviceGetMemoryInfo = lambda index: types.SimpleNamespace(used=(index + 1) * 1e9, total=8e9)
    driver.nvmlDeviceGetUtilizationRates = lambda index: types.SimpleNamespace(gpu=50 + index)
    driver.nvmlDeviceGetPowerUsage = lambda index: 100_000
    driver.nvmlDeviceGetEnforcedPowerLimit = lambda index: 400_000
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    import mlflow.system_metrics.metrics.gpu_monitor as monitor

    monkeypatch.setattr(monitor, "pynvml", driver)
    tracker = Started(quick, experiment="system")
    wait_for_sample(quick, tracker.run_id, 0)
    tracker.finish("succeeded")
    metrics = connect(quick).get_run(tracker.run_id).data.metrics
    assert metrics["system/gpu_1_memory_usage_percentage"] == 25.0
    assert metrics["system/gpu_0_utilization_percentage"] == 50.0
    assert metrics["system/gpu_0_power_usage_watts"] == 100.0


def test_they_end_with_the_run_and_can_be_left_out(quick: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[system_metrics.SystemMetrics] = []
    monkeypatch.setattr(system_metrics.SystemMetrics, "start", lambda self: begun.append(self))
    tracker = Started(quick, experiment="system")
    assert len(begun) == 1
    tracker.finish("succeeded")
    assert begun[0]._stopped.is_set()
    Started({**quick, system_metrics.SWITCH: "false"}, experiment="system").finish("succeeded")
    assert len(begun) == 1


def test_an_mlflow_that_is_down_for_a_while_gets_the_later_samples(
    quick: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    send = system_metrics.SystemMetrics._send

    def out_at_first(self: Any, monitors: Any, step: int) -> None:
        sent.append(step)
        if len(sent) < 4:
            raise ConnectionError("down")
        send(self, monitors, step)

    monkeypatch.setattr(system_metrics.SystemMetrics, "_send", out_at_first)
    tracker = Started(quick, experiment="system")
    wait_for_sample(quick, tracker.run_id, 1)
    tracker.finish("succeeded")
    assert sent[:5] == [0, 0, 0, 0, 1]
    assert "problem" not in tracker.record["mlflow"]


@pytest.mark.parametrize("text", ["often", "0", "-1", "nan", "inf"])
def test_an_interval_that_is_none_is_refused_before_anything_starts(environment: dict[str, str], text: str) -> None:
    with pytest.raises(
        InvalidConfig, match=r"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL .*: give a number of seconds above 0"
    ):
        chosen({**environment, system_metrics.INTERVAL: text})
