"""``visionloop demo``: the whole loop on real data, on this machine, from nothing to a registered model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from visionloop.core.errors import InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.pipelines import sample, services
from visionloop.pipelines.cli.ending import show_end
from visionloop.pipelines.cli.options import Training
from visionloop.pipelines.cli.output import Output
from visionloop.pipelines.engines import Order
from visionloop.pipelines.engines.laptop import ENGINE as LAPTOP

WORKSPACE = f"s3://{services.RESULTS_BUCKET}/demo"


@dataclass(frozen=True)
class Demo:
    """A task's demo: how many images train, val and test have, and the settings that reach something on two CPU cores in minutes."""

    images: tuple[int, int, int]
    settings: Mapping[str, str]


#: What all demos share: they train from scratch, on pictures that no mirror and no mosaic makes better.
_SETTINGS = {"imgsz": "160", "epochs": "16", "batch": "16", "optimizer": "AdamW", "lr0": "0.002"}
_SCENES = {**_SETTINGS, "mosaic": "0", "fliplr": "0"}

#: The library's defaults reach mAP50 0.30 where these reach at least 0.78.
DEMOS = {
    "detection": Demo((400, 80, 80), {"model": "yolo11n.yaml", **_SCENES}),
    "segmentation": Demo((400, 80, 80), {"model": "yolo11n-seg.yaml", **_SCENES, "epochs": "12"}),
    "pose": Demo((400, 80, 80), {"model": "yolo11n-pose.yaml", **_SCENES, "epochs": "12"}),
    "classification": Demo(
        (600, 120, 120),
        {
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
    ),
}


def demo(
    task: Annotated[str, typer.Option(help="detection, segmentation, pose or classification.")] = "detection",
    output: Output = None,
) -> None:
    """Write a small dataset, train on it and register the model; the second time everything is reused.

    Example: visionloop demo
    """
    if task not in DEMOS:
        raise InvalidConfig(f"--task {task}: give one of {', '.join(DEMOS)}.")
    # A demo does not use the caller's own stores and trackers.
    for name in list(os.environ):
        if name.startswith(("EXTERNAL_", "INTERNAL_", "AWS_", "MLFLOW_", "S3_", "CONFIG", "ADVANCED_CONFIG")):
            del os.environ[name]
    name = sample.name_of(task)
    with services.session() as embedded:
        os.environ.update(embedded.environment())
        dataset = f"s3://{services.DATASETS_BUCKET}/{name}"
        write_dataset(dataset, task)
        training = Training(
            dataset=[dataset],
            workspace=WORKSPACE,
            model_name=name,
            description="The sample dataset's handwritten digits.",
            settings=[f"{key}={value}" for key, value in DEMOS[task].settings.items()],
        )
        summary = LAPTOP.result(Order("train", training.arguments())).summary()
    show_end(summary, output)


def write_dataset(uri: str, task: str) -> None:
    """Writes a task's sample dataset unless it is already complete."""
    prefix = open_prefix(uri, "results")
    if prefix.exists(sample.LAST_KEY):
        return
    images: dict[str, bytes] = {}
    last: list[tuple[str, bytes]] = []
    sample.write(
        lambda key, data: images.__setitem__(key, data) if key.startswith("images/") else last.append((key, data)),
        *DEMOS[task].images,
        task=task,
    )
    for _ in prefix.map(lambda key: prefix.write(key, images[key]), images):
        pass
    for key, data in last:
        prefix.write(key, data)
