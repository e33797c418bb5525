"""Drift between two datasets: distances of known distributions, what chance makes, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from visionloop.data.annotations import drift
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.tables import Annotations, images_table, objects_table


def boxes(
    sides: Sequence[float], class_ids: Sequence[int] | None = None, side: int = 1000, **columns: object
) -> Annotations:
    """One square box of a side in pixels in each of as many square images."""
    rows = range(len(sides))
    extent = np.rint(np.asarray(sides) * 100).astype(np.int32)
    return Annotations(
        format="dice",
        task="detection",
        file="annotations_detection.json",
        classes=(Class(id=0, name="cat"), Class(id=1, name="dog")),
        images=images_table(
            file_name=[f"{row}.png" for row in rows],
            key=[f"images/{row}.png" for row in rows],
            width=[side] * len(sides),
            height=[side] * len(sides),
            position=rows,
        ),
        objects=objects_table(
            image=rows,
            position=[0] * len(sides),
            class_id=class_ids or [0] * len(sides),
            **{"x": [0] * len(sides), "y": [0] * len(sides), "width": extent, "height": extent, **columns},
        ),
    )


def measured(before: Annotations, after: Annotations, threshold: float = drift.THRESHOLD) -> dict[str, drift.Drift]:
    return {part.measure: part for part in drift.compare(drift.profile(before), drift.profile(after), threshold)}


def test_equal_datasets_have_no_drift() -> None:
    read = boxes([10, 20, 40], [0, 1, 1])
    assert {name: part.distance for name, part in measured(read, read).items()} == {"classes": 0, "box sizes": 0}
    assert not any(part.drifted for part in measured(read, read).values())


def test_classes_that_trade_places_are_drift_that_names_them() -> None:
    part = measured(boxes([10] * 1000, [0] * 900 + [1] * 100), boxes([10] * 1000, [0] * 600 + [1] * 400))["classes"]
    assert part.distance == pytest.approx(0.3)
    assert part.drifted
    assert part.sentence == 'classes 0.3 apart: "cat" 90.0% → 60.0%, "dog" 10.0% → 40.0%'


def test_boxes_of_half_the_size_are_drift_whatever_the_images_size() -> None:
    before, smaller = boxes([200] * 500 + [50] * 500), boxes([100] * 500 + [50] * 500)
    part = measured(before, smaller)["box sizes"]
    assert (part.distance, part.drifted) == (0.5, True)
    assert part.sentence == "box sizes 0.5 apart: median side 12.5% → 7.5% of the image's longer side"
    enlarged = boxes([400] * 500 + [100] * 500, side=2000)
    assert measured(before, enlarged)["box sizes"].distance == 0


def test_what_has_no_box_is_not_measured() -> None:
    nothing = boxes([10, 0, 10], iscrowd=[True, False, True])
    assert drift.profile(nothing).sides == ()
    assert set(measured(nothing, boxes([10]))) == {"classes"}
    unknown_size = boxes([10], side=0)
    assert drift.profile(unknown_size).median_side is None


def test_two_small_samples_of_one_source_are_not_drift() -> None:
    random = np.random.default_rng(0)
    drifted = 0
    for _ in range(200):
        entry, other = (boxes(random.uniform(10, 900, 30).tolist(), random.integers(0, 2, 30).tolist()) for _ in "ab")
        parts = measured(entry, other).values()
        assert any(part.distance > 0 for part in parts)
        drifted += any(part.drifted for part in parts)
    assert drifted <= 10


def test_the_same_difference_in_more_objects_is_drift() -> None:
    def pair(count: int) -> drift.Drift:
        return measured(
            boxes([10] * 10 * count, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1] * count),
            boxes([10] * 10 * count, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1] * count),
        )["classes"]

    few, many = pair(1), pair(1000)
    assert few.distance == many.distance == pytest.approx(0.1)
    assert measured(boxes([10]), boxes([10], [1]), threshold=0.0)["classes"].distance == 1
    assert few.chance > many.chance
    assert not few.drifted


def test_a_threshold_counts_from_above() -> None:
    before, after = boxes([10] * 4000, [0] * 4000), boxes([10] * 4000, [0] * 3000 + [1] * 1000)
    assert measured(before, after, 0.2)["classes"].drifted
    assert not measured(before, after, 0.25)["classes"].drifted


def test_brightness_is_compared_where_the_pixels_of_both_were_read() -> None:
    read = boxes([10])
    bright, dark = drift.brightness_levels([200.7] * 300), drift.brightness_levels([60.2] * 300)
    assert (bright[200], sum(bright), len(bright)) == (300, 300, drift.LEVELS)
    (part,) = (
        part
        for part in drift.compare(drift.profile(read, bright), drift.profile(read, dark))
        if part.measure == "brightness"
    )
    assert (part.distance, part.drifted) == (1, True)
    assert part.sentence == "brightness 1 apart: median 200 → 60 of 255"
    assert "brightness" not in {
        part.measure for part in drift.compare(drift.profile(read, bright), drift.profile(read))
    }
    assert drift.brightness_levels([]) == []


def test_a_dataset_without_objects_is_as_far_as_can_be() -> None:
    assert measured(boxes([]), boxes([10]))["classes"].distance == 1
    assert measured(boxes([]), boxes([])) == {}


def test_a_class_that_does_not_exist_counts_by_its_id_and_one_name_in_two_classes_is_one() -> None:
    assert drift.class_counts(boxes([10, 10, 10], [0, 7, 7])) == {"cat": 1, "7": 2}
    assert drift.shares({"cat": 0}) == {}


def test_the_bounds_of_steps_are_exact() -> None:
    assert (np.diff(drift.SIDE_BOUNDS) > 0).all()
    assert drift.SIDE_BOUNDS[0] == 2.0**-10
    assert drift.SIDE_BOUNDS[-1] < 1
