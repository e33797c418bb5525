"""Trains a YOLO dataset as the library's own users do. Arguments: the dataset's folder, its task, settings as JSON, a work folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from clock import Clock
from ultralytics import YOLO

dataset, task, settings, work = sys.argv[1:]
values = json.loads(settings)
model = YOLO(values.pop("model"))
model.add_callback("on_train_batch_end", Clock().batch)
data = dataset if task == "classification" else str(Path(dataset) / "data.yaml")
model.train(data=data, project=work, exist_ok=True, **values)
