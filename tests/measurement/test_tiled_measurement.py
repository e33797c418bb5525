"""Models measured in tiles: what is found there counts, in the pixels of the whole picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from visionloop.core.errors import InvalidConfig
from visionloop.training.measurement.tiled import check_tiled, measured_in_tiles
from visionloop.training.trainers import Prediction, PredictionSettings

WIDTH, HEIGHT = 800, 400
BOXES = ((30, 40, 50, 60), (395, 190, 415, 210), (700, 300, 720, 320))

_DEFAULTS = PredictionSettings()


class Blobs:
    """Finds what is bright, but for what is small beside the picture; its keypoint is the upper left corner."""

    classes: tuple[str, ...] = ("bright",)

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = _DEFAULTS
    ) -> Iterator[list[Prediction]]:
        for pixels in images:
            mask = (pixels[..., 0] == 200).astype(np.uint8)
            found = []
            for x, y, width, height, _ in cv2.connectedComponentsWithStats(mask)[2][1:].tolist():
                if max(width, height) >= 0.05 * max(pixels.shape):
                    box = (float(x), float(y), float(x + width), float(y + height))
                    found.append(Prediction(0, 0.9, box, keypoints={"corner": (box[0], box[1], 1.0)}))
            yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A split of two pictures: three small objects, and none."""
    for name, boxes in (("a", BOXES), ("b", ())):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = 200
        path = tmp_path / f"images/test/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


def write_labels(folder: Path, keypoints: bool) -> None:
    lines = []
    for x1, y1, x2, y2 in BOXES:
        values = [(x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]
        values += [x1 / WIDTH, y1 / HEIGHT, 2] if keypoints else []
        lines.append(" ".join(map(str, [0, *values])))
    for name, text in (("a", "\n".join(lines)), ("b", "")):
        path = folder / f"labels/test/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(("task", "keypoints", "metric"), [("detection", 0, "mAP50-95"), ("pose", 1, "pose_mAP50-95")])
def test_small_objects_count_where_tiles_show_them(folder: Path, task: str, keypoints: int, metric: str) -> None:
    write_labels(folder, bool(keypoints))
    done: list[tuple[int, int]] = []

    def measured(tile: int) -> float:
        done.clear()
        evaluation = measured_in_tiles(
            Blobs(), tile, folder, "test", task, keypoints, 0.001, lambda number, total: done.append((number, total))
        )
        assert list(evaluation.files) == ["images/test/a.png", "images/test/b.png"]
        assert evaluation.images == 2
        return evaluation.metrics[metric]

    assert measured(1000) == 0.0
    assert measured(200) == pytest.approx(0.995, abs=0.01)
    assert done == [(1, 2), (2, 2)]


def test_tasks_that_are_not_measured_in_tiles_are_refused() -> None:
    check_tiled(200, "detection")
    check_tiled(None, "segmentation")
    for task in ("segmentation", "classification"):
        with pytest.raises(InvalidConfig, match="detection and pose are measured in tiles"):
            check_tiled(200, task)
