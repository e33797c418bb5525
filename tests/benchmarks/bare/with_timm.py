"""Trains folders of classes with timm's parts and a plain loop. Arguments: the folder, the task, settings as JSON, a work folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import timm
import torch
from clock import Clock
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

dataset, _, settings, work = sys.argv[1:]
values = json.loads(settings)
torch.manual_seed(0)
side, batch, workers, clock = values["imgsz"], values["batch"], values["workers"], Clock()
device = torch.device("cpu" if values["device"] == "cpu" else f"cuda:{values['device']}")
augmented = timm.data.create_transform(
    side, is_training=True, scale=(values["scale"], 1.0), hflip=values["hflip"], re_prob=0.0, color_jitter=0.4
)
plain = timm.data.create_transform(side, crop_pct=1.0)
train = ImageFolder(Path(dataset) / "train", augmented)
val = ImageFolder(Path(dataset) / "val", plain)
loader = DataLoader(train, batch, shuffle=True, num_workers=workers)
checked = DataLoader(val, batch, num_workers=workers)
model = timm.create_model(values["model"].removesuffix(".yaml"), num_classes=len(train.classes))
model.to(device)
optimizer = create_optimizer_v2(model, "adamw", lr=values["lr0"], weight_decay=0.05)
average = ModelEmaV3(model, decay=0.9998)
for epoch in range(values["epochs"]):
    model.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        functional.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
        clock.batch()
    average.module.eval()
    right = 0
    with torch.no_grad():
        for images, labels in checked:
            right += int((average.module(images.to(device)).argmax(1).cpu() == labels).sum())
    state = {"model": model.state_dict(), "average": average.module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, Path(work) / "last.pth")
    print(epoch + 1, right / len(val))
