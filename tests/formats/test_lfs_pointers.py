"""A Git LFS pointer in place of a dataset's file: every format says so, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import layouts
import pytest
import test_cvat_reader as cvat
import test_labelstudio_reader as labelstudio
import test_yolo_reader as yolo
from reading import written
from test_dataset_inspect import VOC, command

from visionloop.components.snapshot.dataset import read_metadata
from visionloop.core.errors import InvalidDataset
from visionloop.core.storage import open_prefix
from visionloop.data.decoding import Undecodable, decode

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12345\n"


def _labelstudio(folder: Path) -> Path:
    return written(folder, labelstudio.files(labelstudio.task(labelstudio.region())))


def _cvat(folder: Path) -> Path:
    return written(folder, cvat.files(cvat.cvat(cvat.BOX)))


def _voc(folder: Path) -> Path:
    return written(folder, {**VOC, "train/b.xml": VOC["train/a.xml"], "train/b.png": VOC["train/a.png"]})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (layouts.dice, "annotations_detection.json"),
        (layouts.coco, "annotations/instances_train2017.json"),
        (layouts.coco, "annotations/*.json"),
        (_labelstudio, "export.json"),
        (_cvat, "annotations.xml"),
        (_voc, "train/b.xml"),
        (_voc, "train/*.xml"),
        (yolo.yolo, "data.yaml"),
        (yolo.yolo, "labels/**/*.txt"),
    ],
)
def test_a_pointer_in_place_of_a_file_is_told_with_the_remedy(
    make: Callable[[Path], Path], key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "dataset")
    assert command(capsys, str(folder))[0] == 0
    paths = list(folder.glob(key))
    for path in paths:
        path.write_text(POINTER)
    code, _, sentence = command(capsys, str(folder))
    assert code == 65
    named = sentence.partition(": ")[0]
    assert folder / named in paths
    assert sentence == (
        f"{named}: a Git LFS pointer in place of the file; run git lfs pull where the dataset was cloned, and upload it again where it lies "
        "in a store."
    )


def test_a_pointer_in_place_of_metadata_is_told(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(POINTER)
    with pytest.raises(
        InvalidDataset, match=r"^metadata\.json: a Git LFS pointer in place of the file; run git lfs pull"
    ):
        read_metadata(open_prefix(str(tmp_path), "dataset"))


def test_a_pointer_in_place_of_a_picture_is_told_to_who_decodes_it() -> None:
    with pytest.raises(Undecodable, match=r"^a Git LFS pointer in place of the file$"):
        decode(POINTER.encode())
