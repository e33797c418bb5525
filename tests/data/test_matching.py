"""Objects of an image before and after: equal, moved, of another class, gone, new."""

from __future__ import annotations

from visionloop.data.annotations.images import Annotation, Box
from visionloop.data.annotations.matching import Named, match


def box(name: str, x: float, y: float, width: float = 10, height: float = 10, iscrowd: bool = False) -> Named:
    corners: Box = (x, y, width, height)
    return name, Annotation(position=0, class_id=0, bbox=corners, iscrowd=iscrowd)


def label(name: str) -> Named:
    return name, Annotation(position=0, class_id=0)


def test_equal_objects_are_kept_as_often_as_they_are_there() -> None:
    result = match([box("a", 0, 0), box("a", 0, 0), box("b", 0, 0)], [box("a", 0, 0), box("b", 0, 0)])
    assert (len(result.kept), result.gone, result.new, result.moved) == (2, [box("a", 0, 0)], [], [])


def test_what_overlaps_moved_and_what_overlaps_most_is_paired_first() -> None:
    before, near, far = box("a", 0, 0), box("a", 1, 0), box("a", 5, 0)
    result = match([before], [far, near])
    assert result.moved == [(before, near)]
    assert result.new == [far]
    assert match([before], [box("a", 50, 50)]).gone == [before]


def test_another_class_at_about_one_place() -> None:
    result = match([box("a", 0, 0), box("a", 40, 40)], [box("b", 1, 0), box("b", 47, 40)])
    assert result.reclassed == [(box("a", 0, 0), box("b", 1, 0))]
    assert (len(result.gone), len(result.new)) == (1, 1)


def test_a_crowd_is_another_object_of_its_place() -> None:
    result = match([box("a", 0, 0)], [box("a", 0, 0, iscrowd=True)])
    assert (len(result.kept), len(result.moved)) == (0, 1)


def test_labels_of_whole_images_have_no_place() -> None:
    result = match([label("a"), label("b")], [label("b"), label("c")])
    assert (result.kept, result.gone, result.new) == ([label("b")], [label("a")], [label("c")])
    assert match([], []).kept == []
    flat = box("a", 3, 3, 0, 0)
    assert match([flat], [box("a", 3, 3, 0, 1)]).gone == [flat]
