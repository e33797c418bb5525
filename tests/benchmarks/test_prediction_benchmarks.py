"""Images a second of a prediction, paired with the bare library on the same images, the same model and batch. Run by ``make bench``.

BENCH_PREDICTED is the number of images, BENCH_ROUNDS the number of pairs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from test_benchmarks import ROUNDS, tell, timed
from untrained import checkpoint, photograph

from visionloop.components.predict import table
from visionloop.components.predict.asked import Asked
from visionloop.components.predict.images import Picture, named
from visionloop.components.predict.predicting import predict
from visionloop.training import catalog
from visionloop.training.trainers import PredictionSettings

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

IMAGES = int(os.environ.get("BENCH_PREDICTED", "200"))

CONFIDENCE = 0.25


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """JPEGs of a camera's size."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(IMAGES):
        photograph(folder / f"{number:05}.jpg", 640, 480, seed=number)
    return named([str(folder)], pytest.fail)


def _bare(file: Path) -> Callable[[list[Path]], int]:
    """As a user of the library predicts: the model's own call, an image at a time, and the boxes as numbers."""
    from visionloop.training.trainers.ultralytics import checkpoint as files

    model: Any = files.load_model(file)

    def bare(paths: list[Path]) -> int:
        number = 0
        for path in paths:
            (result,) = model.predict(cv2.imread(str(path)), conf=CONFIDENCE, device="cpu", save=False, verbose=False)
            number += len(result.boxes.xyxy.tolist())
        return number

    return bare


def test_images_a_second(pictures: list[Picture], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = checkpoint("ultralytics", "detection", tmp_path)
    bare, predictor = _bare(file), catalog.trainer("ultralytics").predictor(file)
    paths = [Path(f"/{picture.prefix.path}/{picture.key}") for picture in pictures]

    def ours() -> None:
        found = predict(predictor, pictures, Asked(PredictionSettings(CONFIDENCE)), lambda _, why: pytest.fail(why))
        assert table.write(tmp_path / f"{uuid.uuid4().hex}.parquet", found).images == IMAGES

    bare(paths[:5])
    pairs = [(timed(ours), timed(lambda: bare(paths))) for _ in range(ROUNDS)]
    tell(
        capsys,
        f"ultralytics: {IMAGES} images of 640 × 480",
        visionloop=[a for a, _ in pairs],
        bare=[b for _, b in pairs],
    )
    with capsys.disabled():
        for name, seconds in (("visionloop", [a for a, _ in pairs]), ("bare", [b for _, b in pairs])):
            print(f"  {name:<12} {IMAGES / sorted(seconds)[len(seconds) // 2]:8.1f} images a second")
