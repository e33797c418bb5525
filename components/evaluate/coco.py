"""COCO's average precision and recall (https://cocodataset.org/#detection-eval), by faster-coco-eval.

Overlaps from 0.5 to 0.95, at most 100 detections of a class in an image, and a detection in a crowd region passed over. Small is up to
32², medium up to 96² square pixels, large from there on; an object of exactly such an area counts on both sides, as COCO has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visionloop.components.evaluate.scenes import Scene
from visionloop.components.evaluate.shapes import By, Shape, area_of
from visionloop.components.evaluate.slicing import LEAST
from visionloop.data.sizes import MEDIUM_AREA, SIZES, SMALL_AREA
from visionloop.training.trainers import Prediction

if TYPE_CHECKING:
    from faster_coco_eval import COCO

#: The most detections of a class in an image.
MOST = 100

#: The figures in COCO's order, over all objects; behind them the sizes follow, first of precision, then of recall.
FIGURES = {"AP": 0, "AP50": 1, "AP75": 2, "AR1": 6, "AR10": 7, "AR100": 8}
PRECISION_BY_SIZE, RECALL_BY_SIZE = 3, 9

#: The areas of each size.
RANGES = ((0.0, SMALL_AREA), (SMALL_AREA, MEDIUM_AREA), (MEDIUM_AREA, float("inf")))


class CocoMeasurement:
    """Objects and detections of a split, image after image."""

    def __init__(self, classes: Sequence[str], by: By) -> None:
        """Starts without an image; ``by`` is what objects are compared by."""
        self.by = by
        self._categories = range(len(classes))
        self._images: list[dict[str, Any]] = []
        self._true: list[dict[str, Any]] = []
        self._predicted: list[dict[str, Any]] = []

    def add(self, scene: Scene, predicted: Sequence[Prediction], shapes: Sequence[Shape]) -> None:
        """Adds an image with everything that the model found in it, down to a low confidence, the most confident first."""
        number = len(self._images) + 1
        picture = scene.picture
        self._images.append({"id": number, "height": picture.height, "width": picture.width})
        for entry, shape, area in zip(scene.truth, scene.shapes, scene.areas, strict=True):
            self._true.append(self._annotation(self._true, number, entry.class_index, shape, area))
        for region in scene.regions:
            of = self._categories if region.class_index is None else [region.class_index]
            for index in of:
                crowd = self._annotation(self._true, number, index, region.shape, area_of(region.shape))
                self._true.append(crowd | {"iscrowd": 1})
        counted: dict[int, int] = {}
        for detection, shape in zip(predicted, shapes, strict=True):
            index = detection.class_index
            counted[index] = counted.get(index, 0) + 1
            if counted[index] <= MOST:
                found = self._annotation(self._predicted, number, index, shape, area_of(shape))
                self._predicted.append(found | {"score": detection.confidence})

    def _annotation(
        self, table: Sequence[dict[str, Any]], image: int, index: int, shape: Shape, area: float
    ) -> dict[str, Any]:
        entry = {"id": len(table) + 1, "image_id": image, "category_id": index + 1, "area": area, "iscrowd": 0}
        return entry | {"bbox" if self.by == "bbox" else "segmentation": shape}

    def datasets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """True objects and detections in COCO's form."""
        both = {"images": self._images, "categories": [{"id": index + 1} for index in self._categories]}
        return {**both, "annotations": self._true}, {**both, "annotations": self._predicted}

    def stats(self) -> list[float]:
        """COCO's twelve figures in COCO's order; -1 for one without an object."""
        from faster_coco_eval import COCOeval_faster  # it brings OpenCV

        true, predicted = (_indexed(dataset) for dataset in self.datasets())
        evaluation = COCOeval_faster(true, predicted, self.by, print_function=_silent)
        evaluation.run()
        return [float(value) for value in evaluation.stats[:12]]

    def result(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The figures over all objects by name, and ``AP`` and ``AR`` by the objects' size with their number.

        Returns:
            Both empty without an object; a size with fewer than LEAST objects has their number alone.
        """
        areas = [entry["area"] for entry in self._true if not entry["iscrowd"]]
        if not areas:
            return {}, {}
        stats = self.stats()
        slices = {}
        for number, (name, (lowest, highest)) in enumerate(zip(SIZES, RANGES, strict=True)):
            objects = sum(lowest <= area <= highest for area in areas)
            slices[f"size:{name}"] = {"objects": float(objects)}
            if objects >= LEAST:
                values = {"AP": stats[PRECISION_BY_SIZE + number], "AR": stats[RECALL_BY_SIZE + number]}
                slices[f"size:{name}"] |= values
        return {name: stats[position] for name, position in FIGURES.items()}, slices


def _silent(*_: object) -> None:
    """The library tells how long each step took."""


def _indexed(dataset: dict[str, Any]) -> COCO:
    from faster_coco_eval import COCO

    coco = COCO(print_function=_silent)
    coco.dataset = dataset
    coco.createIndex()
    return coco
