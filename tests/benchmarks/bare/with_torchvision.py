"""Trains FCOS on a COCO dataset with a plain loop. Arguments: the folder, the task, settings as JSON, a work folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from clock import Clock
from coco import Coco, together
from torch.utils.data import DataLoader

from visionloop.training.trainers.torchvision.model import Description

dataset, task, settings, work = sys.argv[1:]
values = json.loads(settings)
torch.manual_seed(0)
side, batch, workers, clock = values["imgsz"], values["batch"], values["workers"], Clock()
device = torch.device("cpu" if values["device"] == "cpu" else f"cuda:{values['device']}")
train, val = (Coco(Path(dataset), split, side) for split in ("train", "val"))
loader = DataLoader(train, batch, shuffle=True, num_workers=workers, collate_fn=together)
checked = DataLoader(val, batch, num_workers=workers, collate_fn=together)
# The same layers; how they are put together is no part of what is timed.
architecture = values["model"].removesuffix(".yaml")
about = Description(list(train.classes), side, task, 100, architecture, [], 0.6)
model = about.build(0.001)
model.to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=values["lr0"], weight_decay=0.0005)
for epoch in range(values["epochs"]):
    model.train()
    for images, targets in loader:
        images = [image.to(device) for image in images]
        targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
        sum(model(images, targets).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.batch()
    model.eval()
    boxes = 0
    with torch.no_grad():
        for images, _ in checked:
            boxes += sum(len(each["boxes"]) for each in model([image.to(device) for image in images]))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(work) / "last.pth")
    print(epoch + 1, boxes)
