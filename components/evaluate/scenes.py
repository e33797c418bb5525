"""What is true of an image: its objects, as far as the task is about them, and its crowd regions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visionloop.components.evaluate.crowds import box_of_region
from visionloop.components.evaluate.shapes import By, Picture, Shape, area_of, mask_of, mask_of_runs, shape_of
from visionloop.components.evaluate.truth import model_positions, true_object
from visionloop.data.annotations.classes import IGNORED
from visionloop.data.annotations.images import Annotation, Image, images
from visionloop.data.annotations.labels import class_index, class_order, keypoint_names
from visionloop.data.annotations.tables import Annotations, named
from visionloop.training.trainers import Prediction


@dataclass(frozen=True)
class Region:
    """A crowd region: its class index, None for any class, and its shape."""

    class_index: int | None
    shape: Shape


@dataclass(frozen=True)
class Scene:
    """An image.

    Attributes:
        picture: Its size.
        truth: Its true objects.
        shapes: The shape of each.
        areas: The area of each in square pixels: of its outlines where it has them, else of its box, as COCO has it.
        regions: Its crowd regions.
    """

    picture: Picture
    truth: tuple[Prediction, ...]
    shapes: tuple[Shape, ...]
    areas: tuple[float, ...]
    regions: tuple[Region, ...]


def scenes_of(dataset: Annotations, classes: Sequence[str], names: Sequence[str], by: By) -> dict[str, Scene]:
    """What is true of some images, by file name.

    Args:
        dataset: The dataset.
        classes: The model's own class names.
        names: The images' file names.
        by: What objects are compared by.
    """
    positions = model_positions(class_order(dataset), classes)
    index = {class_id: positions[position] for class_id, position in class_index(dataset).items()}
    points = keypoint_names(dataset) or ()
    scenes = {}
    # Of a million images only those that are looked at become objects.
    for image in images(dataset, np.flatnonzero(named(dataset.images["file_name"], names))):
        truth = [
            (annotation, entry)
            for annotation in image.annotations
            if not annotation.iscrowd
            and (position := index[annotation.class_id]) is not None
            and (entry := true_object(position, annotation, image, dataset.task, points)) is not None
        ]
        scenes[image.file_name] = scene_of(image, truth, index, by)
    return scenes


def scene_of(
    image: Image, truth: Sequence[tuple[Annotation, Prediction]], index: Mapping[int, int | None], by: By
) -> Scene:
    """What is true of an image.

    Args:
        image: The image with its annotations.
        truth: Those that are true objects, with what is true of them.
        index: The model's class index by class id; None for a class that the model does not have.
        by: What objects are compared by.
    """
    picture = Picture(image.height or 0, image.width or 0)
    entries = tuple(entry for _, entry in truth)
    outlined = [
        mask_of(annotation.polygons, picture) if annotation.polygons else shape_of(entry, "bbox", picture)
        for annotation, entry in truth
    ]
    shapes = tuple(shape_of(entry, by, picture) for entry in entries)
    return Scene(picture, entries, shapes, tuple(map(area_of, outlined)), tuple(_regions(image, index, by, picture)))


def _regions(image: Image, index: Mapping[int, int | None], by: By, picture: Picture) -> list[Region]:
    regions = []
    for annotation in image.annotations:
        if not annotation.iscrowd or not picture.width or not picture.height:
            continue
        position = index.get(annotation.class_id)
        box = box_of_region(annotation)
        if box is None or (position is None and annotation.class_id != IGNORED):
            continue
        left, top, right, bottom = box
        shape: Shape = [left, top, right - left, bottom - top]
        if by == "segm":
            shape = _mask(annotation, picture) or mask_of(
                [(left, top, right, top, right, bottom, left, bottom)], picture
            )
        regions.append(Region(position, shape))
    return regions


def _mask(annotation: Annotation, picture: Picture) -> Shape | None:
    """The mask of a region; None where it is a box alone."""
    if annotation.polygons:
        return mask_of(annotation.polygons, picture)
    if annotation.mask is None:
        return None
    from visionloop.data.annotations.masks import runs  # it brings OpenCV

    try:
        counts = runs(json.loads(annotation.mask)["counts"])
    except (ValueError, KeyError, TypeError):
        return None
    return mask_of_runs(counts.tolist(), picture) if counts.sum() == picture.height * picture.width else None
