"""Settings with which each task's sample dataset is learned on two CPU cores in minutes.

The library's defaults reach mAP50 0.30 where these reach at least 0.78.
"""

from __future__ import annotations

from collections.abc import Mapping

#: What all of them share: they train from scratch, on pictures that no mirror and no mosaic makes better.
_SETTINGS = {"imgsz": "160", "epochs": "16", "batch": "16", "optimizer": "AdamW", "lr0": "0.002"}
_SCENES = {**_SETTINGS, "mosaic": "0", "fliplr": "0"}

DEMOS: Mapping[str, Mapping[str, str]] = {
    "detection": {"model": "yolo11n.yaml", **_SCENES},
    "segmentation": {"model": "yolo11n-seg.yaml", **_SCENES, "epochs": "12"},
    "pose": {"model": "yolo11n-pose.yaml", **_SCENES, "epochs": "12"},
    "classification": {
        "model": "yolo11n-cls.yaml",
        **_SETTINGS,
        "imgsz": "64",
        "epochs": "30",
        "lr0": "0.001",
        "nbs": "16",
        "fliplr": "0",
        "scale": "0.3",
        "auto_augment": "none",
        "erasing": "0",
    },
}
