"""``visionloop demo``: the whole loop on real data, on this machine, from nothing to a registered model."""

from __future__ import annotations

import os

from visionloop.core.storage import open_prefix
from visionloop.pipelines import sample, services
from visionloop.pipelines.cli.ending import show_end
from visionloop.pipelines.cli.options import Training
from visionloop.pipelines.cli.output import Output
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.laptop import ENGINE as LAPTOP

DATASET = f"s3://{services.DATASETS_BUCKET}/sample-digits"
WORKSPACE = f"s3://{services.RESULTS_BUCKET}/demo"
MODEL_NAME = "sample-digits"

#: How many images each split of the dataset has.
IMAGES = {"train": 400, "val": 80, "test": 80}

#: The demo's own settings: from scratch on two CPU cores the library's defaults reach mAP50 0.30, these at least 0.78.
SETTINGS = {
    "model": "yolo11n.yaml",
    "imgsz": "160",
    "epochs": "16",
    "batch": "16",
    "optimizer": "AdamW",
    "lr0": "0.002",
    "mosaic": "0",
    "fliplr": "0",
}


def demo(output: Output = None) -> None:
    """Write a small dataset, train on it and register the model; the second time everything is reused.

    Example: visionloop demo
    """
    # A demo does not use the caller's own stores and trackers.
    for name in list(os.environ):
        if name.startswith(("EXTERNAL_", "INTERNAL_", "AWS_", "MLFLOW_", "S3_", "CONFIG", "ADVANCED_CONFIG")):
            del os.environ[name]
    with services.session() as embedded:
        os.environ.update(embedded.environment())
        write_dataset()
        training = Training(
            dataset=DATASET,
            workspace=WORKSPACE,
            model_name=MODEL_NAME,
            description="The sample dataset's handwritten digits.",
            settings=[f"{name}={value}" for name, value in SETTINGS.items()],
        )
        summary = LAPTOP.result(Order("train", training.arguments())).summary()
    show_end(summary, output)


def write_dataset() -> None:
    """Writes the sample dataset unless it is already complete."""
    prefix = open_prefix(DATASET, "results")
    if prefix.exists(sample.LAST_KEY):
        return
    images: dict[str, bytes] = {}
    last: list[tuple[str, bytes]] = []
    sample.write(
        lambda key, data: images.__setitem__(key, data) if key.startswith("images/") else last.append((key, data)),
        **IMAGES,
    )
    for _ in prefix.map(lambda key: prefix.write(key, images[key]), images):
        pass
    for key, data in last:
        prefix.write(key, data)
