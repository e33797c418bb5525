"""Settings with which each task's sample dataset is learned on two CPU cores in minutes."""

from __future__ import annotations

from collections.abc import Mapping

#: From scratch, on pictures that no mirror makes better.
_SCENES = {
    "imgsz": "160",
    "epochs": "12",
    "batch": "8",
    "optimizer": "AdamW",
    "lr0": "0.001",
    "fliplr": "0",
    "scale": "0.2",
    "warmup_epochs": "1",
}

DEMOS: Mapping[str, Mapping[str, str]] = {
    "detection": {"model": "fcos_tiny.yaml", **_SCENES},
    "segmentation": {"model": "maskrcnn_tiny.yaml", **_SCENES},
    "pose": {"model": "keypointrcnn_tiny.yaml", **_SCENES},
}
