"""Settings with which the sample dataset is learned on two CPU cores in minutes."""

from __future__ import annotations

from collections.abc import Mapping

#: From scratch, on pictures that no mirror makes better.
DEMOS: Mapping[str, Mapping[str, str]] = {
    "detection": {
        "model": "rtdetr_tiny.yaml",
        "imgsz": "160",
        "epochs": "12",
        "batch": "8",
        "lr0": "0.0005",
        "fliplr": "0",
        "scale": "0.2",
        "warmup_epochs": "1",
        "max_grad_norm": "1",
        "model_ema_decay": "0.99",
    },
}
