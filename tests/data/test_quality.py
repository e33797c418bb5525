"""Checks of a dataset as a whole: equal files, classes out of proportion, boxes that are tiny, huge or twice there."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from visionloop.data.annotations import presence, quality
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.codes import DEFAULTS, Checks
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import Annotations, images_table, objects_table
from visionloop.data.appearance import Appearance


def dataset(boxes: list[list[tuple[int, float, float, float, float]]], side: int = 1000) -> Annotations:
    """Images with boxes: class, x, y, width, height in pixels."""
    rows = range(len(boxes))
    objects = [(row, at, *box) for row, labels in enumerate(boxes) for at, box in enumerate(labels)]
    image, position, class_id, *corners = zip(*objects, strict=True) if objects else ((),) * 7
    names = ("x", "y", "width", "height")
    return Annotations(
        format="dice",
        task="detection",
        file="annotations_detection.json",
        classes=(Class(id=0, name="cat"), Class(id=1, name="dog")),
        images=images_table(
            file_name=[f"{row}.png" for row in rows],
            key=[f"images/{row}.png" for row in rows],
            width=[side] * len(boxes),
            height=[side] * len(boxes),
            position=rows,
        ),
        objects=objects_table(
            image=image,
            position=position,
            class_id=class_id,
            **{name: [round(value * 100) for value in values] for name, values in zip(names, corners, strict=True)},
        ),
        object_field="images[{image}].annotations[{object}]",
    )


def manifest(*files: tuple[str | None, str, str | None], sizes: list[int] | None = None) -> pa.Table:
    """ETag, split and the other split of each image."""
    etags, splits, also = zip(*files, strict=True)
    return pa.table(
        {
            "size": pa.array(sizes or [5] * len(files), pa.int64()),
            "etag": pa.array(etags, pa.string()),
            "split": pa.array(splits, pa.string()),
            "also": pa.array(also, pa.string()),
        }
    )


def equal_files(table: pa.Table) -> list[tuple[str, str | None]]:
    result = quality.same_bytes(dataset([[]] * len(table)), table)
    return [(entry.severity, entry.file_name) for entry in result]


def test_the_same_file_in_two_splits_is_an_error_about_the_one_that_was_learned() -> None:
    table = manifest(
        ("a", "train", None), ("b", "train", None), ("a", "test", None), ("b", "val", None), ("c", "val", None)
    )
    (first, second) = quality.same_bytes(dataset([[]] * 5), table)
    assert (first.severity, first.code, first.file_name) == ("error", "same_bytes", "0.png")
    assert first.sentence == (
        "annotations_detection.json: images[0].file_name images/0.png of train has the same bytes as images/2.png of test, "
        "so what is measured was seen before; put both into one split, or remove one of them."
    )
    assert second.file_name == "1.png"


def test_the_same_file_twice_in_one_split_is_a_warning() -> None:
    assert equal_files(manifest(("a", "train", None), ("a", "train", None))) == [("warning", "1.png")]


def test_of_equal_files_in_every_split_the_one_in_test_is_kept() -> None:
    table = manifest(
        ("a", "train", None), ("a", "train", None), ("a", "val", None), ("a", "test", None), ("a", "test", None)
    )
    assert equal_files(table) == [("error", "0.png"), ("error", "1.png"), ("error", "2.png"), ("warning", "4.png")]


def test_an_image_that_is_given_to_two_splits_by_name_is_not_a_leak() -> None:
    assert equal_files(manifest(("a", "val", "test"), ("b", "train", None))) == []
    assert equal_files(manifest(("a", "val", "test"), ("a", "val", "test"))) == [("warning", "1.png")]
    assert equal_files(manifest(("a", "val", "test"), ("a", "train", None))) == [("error", "1.png")]


def test_files_of_another_size_or_without_an_etag_are_equal_to_none() -> None:
    assert equal_files(manifest(("a", "train", None), ("a", "test", None), sizes=[5, 6])) == []
    assert equal_files(manifest((None, "train", None), (None, "test", None))) == []
    assert equal_files(manifest(("", "train", None), ("", "test", None))) == []


def imbalance(counts: dict[int, int], **checks: Any) -> list[Finding]:
    kept = {split: Counter(counts if split == "train" else {}) for split in ("train", "val", "test")}
    return list(quality.class_imbalance(dataset([]), presence.LabelCounts(kept), Checks(**checks)))


def test_a_rare_class_is_named_with_its_numbers() -> None:
    (result,) = imbalance({0: 3000, 1: 20})
    assert (result.code, result.severity, result.field) == ("class_imbalance", "warning", "classes[1]")
    assert '"dog" has 20 of train\'s labels and "cat" 3,000, 150 for each one, more than 100' in result.sentence
    assert imbalance({0: 2000, 1: 20}) == []
    assert imbalance({0: 2000, 1: 20}, thresholds={"class_imbalance": 99}) != []
    assert imbalance({0: 2000, 1: 0}) == []  # class_absent says so
    assert imbalance({}) == []


def sizes(sides: Sequence[float], imgsz: int = 640, **checks: Any) -> dict[str, str]:
    read = dataset([[(0, 0, 0, side, side)] for side in sides], side=6400)
    return {entry.code: entry.sentence for entry in quality.box_sizes(read, imgsz, Checks(**checks))}


def test_tiny_boxes_have_advice_with_numbers() -> None:
    tiny, middling, fair = [30.0] * 21, [70.0] * 40, [700.0] * 39
    result = sizes(tiny + middling + fair)
    assert result == {
        "tiny_boxes": "annotations_detection.json: bbox: 61% of the boxes are under 8 px at 640 (21% at 1280); raise imgsz, or "
        "cut the images into tiles."
    }
    assert sizes(tiny + middling + fair, thresholds={"tiny_boxes": 0.61}) == {}
    assert "0% at 2560" in sizes(tiny + middling + fair, 1280)["tiny_boxes"]
    assert sizes(tiny + middling + fair, 2560) == {}


def test_huge_boxes_are_above_nine_tenths_of_the_image() -> None:
    assert set(sizes([6000] * 30 + [640] * 20)) == {"huge_boxes"}
    assert sizes([6000] * 20 + [640] * 20) == {}


def test_nothing_is_said_of_the_sizes_of_a_few_boxes() -> None:
    assert sizes([30.0] * (quality.FEWEST_BOXES - 1)) == {}
    assert sizes([30.0] * quality.FEWEST_BOXES) != {}


def close(boxes: list[list[tuple[int, float, float, float, float]]], least: float = 0.9) -> list[Finding]:
    read = dataset(boxes)
    return list(quality.close_boxes(read, presence.outcomes(read), least))


def test_two_boxes_of_one_class_that_nearly_coincide_are_found() -> None:
    (result,) = close([[(0, 10, 10, 100, 100), (1, 10, 10, 100, 100), (0, 300, 10, 100, 100), (0, 12, 10, 100, 100)]])
    assert (result.code, result.file_name, result.field) == ("close_boxes", "0.png", "images[0].annotations[3].bbox")
    assert "nearly coincides with annotations[0] of its class (IoU 0.96); remove one of them" in result.sentence


def test_boxes_of_two_images_or_exact_repetitions_are_not_close() -> None:
    assert close([[(0, 10, 10, 100, 100)], [(0, 11, 10, 100, 100)]]) == []
    assert close([[(0, 10, 10, 100, 100), (0, 10, 10, 100, 100)]]) == []  # duplicate says so
    assert close([[(0, 10, 10, 100, 100), (0, 16, 10, 100, 100)]]) == []
    assert len(close([[(0, 10, 10, 100, 100), (0, 16, 10, 100, 100)]], 0.8)) == 1


def test_close_boxes_are_those_of_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_AT_ONCE", 50)
    random = np.random.default_rng(0)
    boxes: list[list[tuple[int, float, float, float, float]]] = []
    for _ in range(30):
        centres = random.integers(0, 5, (random.integers(0, 12), 2)) * 20
        boxes.append([(int(random.integers(2)), *(centre + random.integers(1, 6, 2)), 90, 90) for centre in centres])
    read = dataset(boxes)
    pairs = quality.close_pairs(read, presence.outcomes(read), 0.85)
    expected = set()
    first = 0
    kept = presence.outcomes(read).reasons == presence.KEPT
    for labels in boxes:
        for entry, other in itertools.combinations(range(len(labels)), 2):
            if labels[entry][0] == labels[other][0] and kept[first + entry] and kept[first + other]:
                a, b = labels[entry], labels[other]
                across, down = 90 - abs(a[1] - b[1]), 90 - abs(a[2] - b[2])
                shared = max(across, 0) * max(down, 0)
                if shared / (2 * 90 * 90 - shared) >= 0.85:
                    expected |= {first + entry, first + other}
        first += len(labels)
    results = set(pairs.later.tolist()) | set(pairs.earlier.tolist())
    assert results == expected != set()


def test_a_picture_of_one_colour_is_found_with_what_is_labelled_in_it() -> None:
    read = dataset([[(0, 10, 10, 100, 100)], [], [], []])
    first, second = quality.blank_images(read, [3, 4, 0, -1], DEFAULTS.threshold("blank_image"))
    assert (first.code, first.file_name, second.file_name) == ("blank_image", "0.png", "2.png")
    assert "is of one colour (3 of 255 levels), but 1 of its objects are labelled" in first.sentence


def looked_at(*looks: Appearance | None) -> quality.Pictures:
    pictures = quality.Pictures.of(len(looks))
    for row, entry in enumerate(looks):
        pictures.put(row, entry)
    return pictures


def findings_of(pictures: quality.Pictures, table: pa.Table, checks: Checks = DEFAULTS) -> list[Finding]:
    read = dataset([[]] * len(table))
    return quality.of_images(read, table, pictures, checks)[0]


def test_images_that_look_alike_across_splits_are_told_with_their_splits() -> None:
    pictures = looked_at(Appearance(7, 100, 200), Appearance(5, 100, 200), Appearance(2**64 - 1, 9, 200), None)
    table = manifest(("a", "train", None), ("b", "val", "test"), ("c", "val", None), ("d", "test", None))
    (near,) = findings_of(pictures, table)
    assert (near.severity, near.code, near.file_name) == ("warning", "near_duplicate", "0.png")
    assert "images/0.png of train looks like images/1.png of val and test (1 of 64 bits differ)" in near.sentence
    assert findings_of(pictures, table, Checks(thresholds={"near_duplicate": 0})) == []
    assert findings_of(pictures, table, Checks({"near_duplicate": "off"})) == []


def test_equal_files_and_pictures_without_structure_are_not_near_duplicates() -> None:
    same = looked_at(Appearance(7, 1, 200), Appearance(7, 1, 200))
    assert {entry.code for entry in findings_of(same, manifest(("a", "train", None), ("a", "test", None)))} == {
        "same_bytes"
    }
    blank = looked_at(Appearance(None, 0, 0), Appearance(None, 0, 0))
    assert {entry.code for entry in findings_of(blank, manifest(("a", "train", None), ("b", "test", None)))} == {
        "blank_image"
    }


def test_more_pairs_than_are_listed_are_counted() -> None:
    looks = Appearance(7, 100, 200)
    table = manifest(*((str(row), "train" if row % 2 else "test", None) for row in range(80)))
    findings = findings_of(looked_at(*[looks] * 80), table)
    assert len(findings) == 1_001
    assert findings[-1].file_name is None
    assert "1,600 pairs of images look alike across splits" in findings[-1].sentence
    assert "of which 1,000 are listed" in findings[-1].sentence
