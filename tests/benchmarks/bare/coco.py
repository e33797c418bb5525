"""A COCO dataset's images with their boxes, as torchvision's users read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional


class Coco(Dataset[Any]):
    """Each image, scaled to a square, as numbers from 0 to 1, with its boxes and its classes."""

    def __init__(self, folder: Path, split: str, side: int) -> None:
        """``side`` is in pixels."""
        document = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        self.folder, self.side = folder / "images", side
        self.classes = {entry["id"]: number for number, entry in enumerate(document["categories"])}
        self.images = document["images"]
        self.labels: dict[int, list[Any]] = {image["id"]: [] for image in self.images}
        for entry in document["annotations"]:
            self.labels[entry["image_id"]].append(entry)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image = self.images[index]
        path = next(
            path
            for path in (self.folder / image["file_name"], self.folder.parent / image["file_name"])
            if path.exists()
        )
        pixels = decode_image(str(path), ImageReadMode.RGB)
        scale = self.side / max(pixels.shape[1:])
        pixels = functional.resize(pixels, [round(pixels.shape[1] * scale), round(pixels.shape[2] * scale)])
        boxes = torch.tensor([entry["bbox"] for entry in self.labels[image["id"]]]).reshape(-1, 4) * scale
        boxes[:, 2:] += boxes[:, :2]
        classes = torch.tensor(
            [self.classes[entry["category_id"]] for entry in self.labels[image["id"]]], dtype=torch.int64
        )
        return functional.to_dtype(pixels, torch.float32, scale=True), {"boxes": boxes, "labels": classes}


def together(samples: Any) -> Any:
    """A batch of images of several sizes."""
    return tuple(zip(*samples, strict=True))
