"""System metrics of a training's run in MLflow: CPU, memory, GPUs, disk and network, under MLflow's own names (``system/…``).

MLflow's monitors measure. Its loop around them is not used: it ends for good at the first request that fails.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from visionloop.core.errors import InvalidConfig
from visionloop.training.tracking.choice import switched_off
from visionloop.training.tracking.connection import quiet_import

#: MLflow's variables: whether it measures (here it does, unless told otherwise), and every how many seconds.
SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SECONDS = 10.0

#: A metric that every sample has.
_ALWAYS = "cpu_utilization_percentage"


def interval(environment: Mapping[str, str]) -> float | None:
    """Seconds between two samples; None where it is switched off.

    Raises:
        InvalidConfig: If the variable holds no number above 0.
    """
    if switched_off(environment, SWITCH):
        return None
    text = environment.get(INTERVAL, "").strip()
    with contextlib.suppress(ValueError):
        seconds = float(text or SECONDS)
        if 0 < seconds < float("inf"):
            return seconds
    raise InvalidConfig(f"{INTERVAL} {text}: give a number of seconds above 0, or unset it for {SECONDS:g}.")


class SystemMetrics:
    """Measures in a thread of its own until it is stopped, or the process ends."""

    def __init__(self, client: Any, run_id: str, seconds: float) -> None:
        """Nothing is measured yet.

        Args:
            client: MLflow's.
            run_id: The run; a sample's step goes on from those that it has.
            seconds: Seconds between two samples.
        """
        self._client, self._run_id, self._seconds = client, run_id, seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begins."""
        threading.Thread(target=self._measure, name="system metrics", daemon=True).start()

    def stop(self) -> None:
        """Ends; a sample that is being sent is not waited for."""
        self._stopped.set()

    def _measure(self) -> None:
        with contextlib.suppress(
            Exception
        ):  # they are beside the point: no training, and no other metric, goes without them
            monitors = _monitors()
            step = max((entry.step for entry in self._history()), default=-1) + 1
            for monitor in monitors:  # what is counted since the last time begins here
                monitor.collect_metrics()
                monitor.clear_metrics()
            while not self._stopped.wait(self._seconds):
                with contextlib.suppress(Exception):  # such as an MLflow that is down for a while
                    self._send(monitors, step)
                    step += 1

    def _history(self) -> Any:
        return self._client.get_metric_history(self._run_id, f"system/{_ALWAYS}")

    def _send(self, monitors: list[Any], step: int) -> None:
        from mlflow.entities import Metric

        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        now = int(time.time() * 1000)
        metrics = [Metric(f"system/{name}", float(value), now, step) for name, value in sorted(values.items())]
        self._client.log_batch(self._run_id, metrics=metrics)


def _monitors() -> list[Any]:
    """MLflow's monitors, that of the GPUs where there is an NVIDIA driver and its package."""
    with quiet_import():
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(ImportError, RuntimeError):
            monitors.append(GPUMonitor())
        return monitors
