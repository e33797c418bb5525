"""A photograph that EXIF says is turned is trained on as it is shown, with its labels where they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

#: EXIF's tag, and how a picture must be turned so that its stored form with this value shows it again.
ORIENTATION = 0x0112
STORED = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def photograph(file: Path, orientation: int) -> None:
    """Shown, it is 40 × 64 and white in its upper left quarter, else black."""
    shown = np.zeros((64, 40, 3), np.uint8)
    shown[:32, :20] = 255
    picture = Image.fromarray(shown)
    turned = STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file.parent.mkdir(parents=True)
    (picture.transpose(turned) if turned is not None else picture).save(file, exif=exif)


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_detectors_of_our_own_loop_see_it_as_it_is_shown(orientation: int, tmp_path: Path) -> None:
    from visionloop.training.pytorch.objects.dataset import LabelledImages

    photograph(tmp_path / "images/train/a.png", orientation)
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    inputs, objects, size = LabelledImages(tmp_path, "train", "detection", 64)[0]
    assert size == (40, 64)
    left, top, right, bottom = objects.boxes[0].round().astype(int)
    assert (left, top, right, bottom) == (0, 0, 20, 32)
    picture = inputs.numpy()[:, :64, :40]
    assert picture[:, top:bottom, left:right].min() == 255
    assert picture.sum() == 255 * 3 * 20 * 32


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_classifiers_of_our_own_loop_see_it_as_it_is_shown(orientation: int, tmp_path: Path) -> None:
    import torch

    from visionloop.training.pytorch.images.dataset import ClassFolders

    photograph(tmp_path / "train/000_cat/a.png", orientation)
    inputs, label = ClassFolders(tmp_path / "train", 1, lambda picture: torch.from_numpy(np.array(picture)))[0]
    assert (tuple(inputs.shape), label) == ((64, 40, 3), 0)
    assert inputs[:32, :20].min() == 255
