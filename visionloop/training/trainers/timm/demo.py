"""Settings with which the sample dataset is learned on two CPU cores in minutes."""

from __future__ import annotations

from collections.abc import Mapping

#: From scratch, on digits that no mirror makes better, and too few for blended pictures.
DEMOS: Mapping[str, Mapping[str, str]] = {
    "classification": {
        "model": "resnet10t.yaml",
        "imgsz": "64",
        "epochs": "12",
        "batch": "16",
        "optimizer": "AdamW",
        "lr0": "0.002",
        "aa": "none",
        "reprob": "0",
        "mixup_alpha": "0",
        "cutmix_alpha": "0",
        "hflip": "0",
        "scale": "0.6",
        "crop_pct": "1",
        "warmup_epochs": "1",
        "drop_path_rate": "0",
    },
}
