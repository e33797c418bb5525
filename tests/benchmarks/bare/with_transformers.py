"""Trains RT-DETR on a COCO dataset with a plain loop. Arguments: the folder, the task, settings as JSON, a work folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from clock import Clock
from coco import Coco, together
from torch.nn import functional
from torch.utils.data import DataLoader

from visionloop.training.trainers.transformers import names
from visionloop.training.trainers.transformers.model import build

dataset, task, settings, work = sys.argv[1:]
values = json.loads(settings)
torch.manual_seed(0)
side, batch, workers, clock = values["imgsz"], values["batch"], values["workers"], Clock()
device = torch.device("cpu" if values["device"] == "cpu" else f"cuda:{values['device']}")
train, val = (Coco(Path(dataset), split, side) for split in ("train", "val"))
loader = DataLoader(train, batch, shuffle=True, num_workers=workers, collate_fn=together)
checked = DataLoader(val, batch, num_workers=workers, collate_fn=together)


def inputs(images, targets):
    """Pictures in squares, and boxes by their centres and sides as shares of them."""
    pixels = torch.stack([functional.pad(each, (0, side - each.shape[2], 0, side - each.shape[1])) for each in images])
    labels = []
    for target in targets:
        corners = target["boxes"] / side
        boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        labels.append({"class_labels": target["labels"], "boxes": boxes})
    return pixels.to(device), [{name: value.to(device) for name, value in label.items()} for label in labels]


# The same layers; how they are put together is no part of what is timed.
family, changes = names.ARCHITECTURES[values["model"].removesuffix(".yaml")]
model = build(family, changes, len(train.classes))
model.to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=values["lr0"], weight_decay=0.0001)
for epoch in range(values["epochs"]):
    model.train()
    for images, targets in loader:
        pixels, labels = inputs(images, targets)
        model(pixel_values=pixels, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.batch()
    model.eval()
    total = 0.0
    with torch.no_grad():
        for images, targets in checked:
            pixels, _ = inputs(images, targets)
            total += float(model(pixel_values=pixels).logits.sigmoid().amax(-1).sum())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(work) / "last.pth")
    print(epoch + 1, total)
