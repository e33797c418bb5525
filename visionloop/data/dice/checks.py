"""What is wrong with a dataset: findings that name file, field and remedy, for a report or a refusal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from visionloop.data.annotations.classes import Class
from visionloop.data.dice.border import inside
from visionloop.data.dice.findings import Finding, Severity
from visionloop.data.dice.format import Annotation, Dataset, Image, RunLength, printable, shown
from visionloop.data.dice.labels import LeftOut
from visionloop.data.dice.presence import ImageLabels, image_labels

#: Relative tolerance between a box's ``area`` and width × height: the tool computes it before rounding the box.
AREA_TOLERANCE = 1e-4

#: The extensions of each format that is read (``core.pictures.FORMATS``).
EXTENSIONS_OF = {
    "BMP": frozenset({".bmp"}),
    "JPEG": frozenset({".jpg", ".jpeg"}),
    "MPO": frozenset({".jpg", ".jpeg"}),
    "PNG": frozenset({".png"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
}

#: Image extensions that the trainers read; they would silently skip a file with another one.
IMAGE_EXTENSIONS = frozenset().union(*EXTENSIONS_OF.values())


#: The trainers leave out images with a shorter side, in pixels.
MIN_SIDE = 10

#: What each EXIF orientation but 1 does to the stored pixels when they are shown (CIPA DC-008, "Orientation").
ORIENTATIONS = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "mirrored and turned by 90°",
    6: "turned by 90° clockwise",
    7: "mirrored and turned by 90°",
    8: "turned by 90° anticlockwise",
}

#: The orientations that exchange width and height.
QUARTER_TURNS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class Header:
    """What is known of an image from its bytes.

    Attributes:
        width: In pixels, as it is shown.
        height: The same.
        orientation: Its EXIF orientation, 1 to 8.
        format: Pillow's name of its format, None where it was not read.
        bits: The bits of a channel.
        pictures: 1, or 2 where there are more than one: pages, or an animation's frames.
    """

    width: int
    height: int
    orientation: int = 1
    format: str | None = None
    bits: int = 8
    pictures: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the stored pixels."""
        turned = self.orientation in QUARTER_TURNS
        return (self.height, self.width) if turned else (self.width, self.height)


@dataclass(frozen=True)
class Unsupported:
    """A file that no trainer reads: what it is, as in "is a GIF picture", and what to do."""

    kind: str
    remedy: str = "convert it to JPEG or PNG"


def check(
    dataset: Dataset,
    headers: Mapping[str, Header | Unsupported | None] | None,
    labels: Mapping[str, ImageLabels] | None = None,
) -> list[Finding]:
    """Checks a decoded dataset against itself and against its images.

    Args:
        dataset: The decoded annotations.
        headers: Each image's header by file name, or what it is instead: None for one that can't be read as an image, absent for one that the
            store lacks. None in place of the mapping checks the annotations alone.
        labels: What ``presence.image_labels`` gives for the dataset, where it is there already.

    Returns:
        The findings, those of images first, in the file's order.
    """
    findings = list(_images(dataset, headers, image_labels(dataset) if labels is None else labels))
    findings.extend(_classes(dataset))
    findings.extend(_statistics(dataset))
    for field in ("dataset_id", "dataset_name"):
        if not getattr(dataset, field):
            findings.append(
                _warning(dataset, "missing_metadata", None, field, "is missing", "set it in the labelling tool")
            )
    return findings


def is_too_small(image: Image) -> bool:
    """Whether the trainers would leave an image out for its size."""
    return min(image.width, image.height) < MIN_SIDE


def _error(
    dataset: Dataset, code: str, image: Image | None, field: str, problem: str, remedy: str = "correct the label"
) -> Finding:
    return _finding("error", dataset, code, image, field, problem, remedy)


def _warning(dataset: Dataset, code: str, image: Image | None, field: str, problem: str, remedy: str) -> Finding:
    return _finding("warning", dataset, code, image, field, problem, remedy)


def _finding(
    severity: Severity, dataset: Dataset, code: str, image: Image | None, field: str, problem: str, remedy: str
) -> Finding:
    name = None if image is None else image.file_name
    # An export in another order has other positions, so the image is found by its name.
    where = field if name is None or name in problem else f"{name}: {field}"
    return Finding(severity, code, name, field, printable(f"{dataset.file}: {where} {problem}; {remedy}."))


def _images(
    dataset: Dataset,
    headers: Mapping[str, Header | Unsupported | None] | None,
    labels: Mapping[str, ImageLabels],
) -> Iterator[Finding]:
    classes = {class_.id: class_ for class_ in dataset.classes}
    keypoints = _keypoints_by_class(dataset)
    for index, image in enumerate(dataset.images):
        field = f"images[{index}]"
        if headers is not None:
            yield from _header(dataset, image, field, headers)
        if PurePosixPath(image.file_name).suffix.lower() not in IMAGE_EXTENSIONS:
            yield _error(
                dataset,
                "image_extension",
                image,
                f"{field}.file_name",
                f"{image.file_name} has no extension of an image ({', '.join(sorted(IMAGE_EXTENSIONS))})",
                "rename the image and export again",
            )
        if is_too_small(image):
            yield _warning(
                dataset,
                "image_too_small",
                image,
                f"{field}.width and height",
                f"of {image.file_name} are {image.width} × {image.height}; an image with a side under {MIN_SIDE} pixels is left out",
                "leave it out of the export, or label a larger one",
            )
        if not image.annotations:
            classification = dataset.task == "classification"
            yield _warning(
                dataset,
                "image_without_annotations",
                image,
                f"{field}.annotations",
                f"of {image.file_name} is empty, so it is {'left out' if classification else 'kept as background'}",
                "label it, or leave it out of the export if that was not meant",
            )
        for position, annotation in enumerate(image.annotations):
            path = f"{field}.annotations[{position}]"
            yield from _label(dataset, image, annotation, path, classes)
            if dataset.task != "classification":
                yield from _geometry(dataset, image, annotation, path, keypoints)
        if dataset.task == "classification":
            yield from _single_class(dataset, image, field)
        else:
            yield from _left_out(dataset, image, field, labels[image.file_name].left_out)


def _header(
    dataset: Dataset, image: Image, field: str, headers: Mapping[str, Header | Unsupported | None]
) -> Iterator[Finding]:
    if image.file_name not in headers:
        yield _error(
            dataset,
            "missing_image",
            image,
            f"{field}.file_name",
            f"images/{image.file_name} does not exist as a file",
            "upload the image, or remove it and export again",
        )
        return
    header = headers[image.file_name]
    if isinstance(header, Unsupported):
        yield _error(
            dataset,
            "image_format",
            image,
            f"{field}.file_name",
            f"images/{image.file_name} is {header.kind}, which the trainers can't read",
            header.remedy,
        )
        return
    if header is not None:
        yield from _format(dataset, image, field, header)
    if header is None:
        yield _error(
            dataset,
            "unreadable_image",
            image,
            f"{field}.file_name",
            f"images/{image.file_name} can't be read as an image",
            "upload it again, or remove it and export again",
        )
    elif (header.width, header.height) == (image.width, image.height):
        if header.stored == (image.width, image.height) and header.orientation in ORIENTATIONS:
            yield _warning(
                dataset,
                "exif_orientation",
                image,
                f"{field}.file_name",
                f"images/{image.file_name} has EXIF orientation {header.orientation}: it is shown, trained and measured "
                f"{ORIENTATIONS[header.orientation]}, and its size does not tell whether it was labelled so",
                "look at its boxes in the report",
            )
    elif header.stored == (image.width, image.height):
        yield _error(
            dataset,
            "orientation",
            image,
            f"{field}.width and height",
            f"say {image.width} × {image.height}, as images/{image.file_name} is stored, but its EXIF orientation "
            f"{header.orientation} shows it {ORIENTATIONS[header.orientation]}, as {header.width} × {header.height}",
            "label it as it is shown, or save its pixels turned and without the orientation",
        )
    else:
        yield _error(
            dataset,
            "image_size",
            image,
            f"{field}.width and height",
            f"say {image.width} × {image.height}, but images/{image.file_name} is {header.width} × {header.height}",
            "upload the image that was labelled, or label this one again",
        )


def _format(dataset: Dataset, image: Image, field: str, header: Header) -> Iterator[Finding]:
    name, path = f"images/{image.file_name}", f"{field}.file_name"
    suffix = PurePosixPath(image.file_name).suffix.lower()
    if header.format and suffix in IMAGE_EXTENSIONS - EXTENSIONS_OF[header.format]:
        yield _warning(
            dataset, "extension", image, path, f"{name} is a {header.format} file, whatever it is called", "rename it"
        )
    if header.bits > 8:
        problem = f"{name} has {header.bits} bits a channel, and training sees the upper 8: values below {2 ** (header.bits - 8)} look black"
        yield _warning(dataset, "bit_depth", image, path, problem, "stretch its values to the full range if it is dark")
    if header.pictures > 1 and header.format == "TIFF":
        yield _error(
            dataset, "frames", image, path, f"{name} has several pages", "save each page as an image of its own"
        )
    elif header.pictures > 1 and header.format != "MPO":
        yield _warning(
            dataset,
            "frames",
            image,
            path,
            f"{name} is animated, and only its first picture counts",
            "save that one alone",
        )


def _label(
    dataset: Dataset, image: Image, annotation: Annotation, path: str, classes: Mapping[int, Class]
) -> Iterator[Finding]:
    class_ = classes.get(annotation.class_id)
    if class_ is None:
        yield _error(
            dataset,
            "unknown_class",
            image,
            f"{path}.class_id",
            f"{annotation.class_id} is no class of the file ({_ids(classes)})",
            "correct the label or add the class",
        )
    elif annotation.class_name is not None and annotation.class_name != class_.name:
        yield _error(
            dataset,
            "class_name",
            image,
            f"{path}.class_name",
            f"{shown(annotation.class_name)} disagrees with class_id {annotation.class_id}, which is {shown(class_.name)}",
        )
    if annotation.image_id is not None and image.id is not None and annotation.image_id != image.id:
        yield _error(
            dataset,
            "image_id",
            image,
            f"{path}.image_id",
            f"{shown(annotation.image_id)} is not the id of the image that it lies in, {shown(image.id)}",
            "correct the label and export again",
        )


def _geometry(
    dataset: Dataset, image: Image, annotation: Annotation, path: str, keypoints: Mapping[int, int]
) -> Iterator[Finding]:
    if annotation.bbox is not None:
        yield from _box(dataset, image, annotation, annotation.bbox, f"{path}.bbox")
    elif dataset.task in ("detection", "pose"):
        yield _error(dataset, "missing_bbox", image, f"{path}.bbox", "is missing", "draw the box")
    if dataset.task == "segmentation":
        yield from _segmentation(dataset, image, annotation, f"{path}.segmentation")
    if dataset.task == "pose":
        yield from _pose(dataset, image, annotation, f"{path}.keypoints", keypoints)


def _box(
    dataset: Dataset, image: Image, annotation: Annotation, bbox: tuple[float, float, float, float], field: str
) -> Iterator[Finding]:
    x, y, width, height = bbox
    numbers = f"[{x:g}, {y:g}, {width:g}, {height:g}]"
    if not all(map(math.isfinite, (x + width, y + height, width, height))):
        yield _error(dataset, "bbox_not_finite", image, field, f"{numbers} is not finite", "draw the box again")
        return
    if width < 0 or height < 0:
        yield _error(
            dataset,
            "empty_bbox",
            image,
            field,
            f"{numbers} has a negative width or height",
            "draw the box again or remove it",
        )
        return
    if not inside(image, x, y) or not inside(image, x + width, y + height):
        yield _error(
            dataset,
            "bbox_outside",
            image,
            field,
            f"{numbers} reaches outside the image of {image.width} × {image.height}",
            "draw the box again",
        )
    area = annotation.area
    # With polygons, area is the polygons' own.
    if (
        area is not None
        and width * height > 0
        and not annotation.segmentation
        and abs(area - width * height) > AREA_TOLERANCE * width * height
    ):
        yield _warning(
            dataset,
            "area",
            image,
            field.removesuffix("bbox") + "area",
            f"{area:g} is not the box's width × height, {width * height:g}",
            "export again",
        )


def _segmentation(dataset: Dataset, image: Image, annotation: Annotation, field: str) -> Iterator[Finding]:
    if isinstance(annotation.segmentation, RunLength):
        if not annotation.iscrowd:
            yield _error(
                dataset,
                "run_length_mask",
                image,
                field,
                "is a run-length mask, which no YOLO label can hold",
                "export polygons",
            )
        return
    if not annotation.segmentation:
        yield _error(dataset, "missing_segmentation", image, field, "is missing", "draw the polygon")
        return
    for number, polygon in enumerate(annotation.segmentation):
        if len(polygon) < 6 or len(polygon) % 2:
            yield _error(
                dataset,
                "polygon_points",
                image,
                f"{field}[{number}]",
                f"has {len(polygon)} numbers, not x and y of 3 points or more",
                "draw the polygon again or remove it",
            )
        elif not all(inside(image, x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)):
            yield _error(
                dataset,
                "polygon_outside",
                image,
                f"{field}[{number}]",
                f"reaches outside the image of {image.width} × {image.height}",
                "draw the polygon again",
            )


def _pose(
    dataset: Dataset, image: Image, annotation: Annotation, field: str, keypoints: Mapping[int, int]
) -> Iterator[Finding]:
    values = annotation.keypoints
    if not values:
        if not annotation.iscrowd:
            yield _error(dataset, "missing_keypoints", image, field, "is missing", "set the keypoints")
        return
    expected = keypoints.get(annotation.class_id, len(values) // 3)
    if len(values) != 3 * expected:
        yield _error(
            dataset,
            "keypoints_length",
            image,
            field,
            f"has {len(values)} numbers, not x, y and visibility of {expected} keypoints ({3 * expected})",
            "set the keypoints again, or correct the class's keypoints",
        )
        return
    if any(visibility not in (0, 1, 2) for visibility in values[2::3]):
        yield _error(
            dataset,
            "keypoints_visibility",
            image,
            field,
            "has a visibility other than 0, 1 and 2",
            "set the keypoints again",
        )
    for number in range(expected):
        x, y, visibility = values[3 * number : 3 * number + 3]
        if visibility and not inside(image, x, y):
            yield _warning(
                dataset,
                "keypoint_outside",
                image,
                f"{field}[{3 * number}]",
                f"lies outside the image of {image.width} × {image.height}, so the keypoint counts as not labelled",
                "set the keypoint again",
            )


def _single_class(dataset: Dataset, image: Image, field: str) -> Iterator[Finding]:
    ids = sorted({annotation.class_id for annotation in image.annotations})
    if len(ids) > 1:
        yield _error(
            dataset,
            "several_classes",
            image,
            f"{field}.annotations",
            f"give {image.file_name} {len(ids)} classes ({', '.join(map(str, ids))}), but an image has one",
            "keep one label",
        )


#: What is said of an object that conversion drops, by its reason, and what to do.
_DROPPED = {
    "crowd": ("is a crowd region", "set iscrowd to 0 if it is one object"),
    "no area": ("has no width or no height", "draw it again or remove it"),
    "outside": ("lies at the image's border with nothing inside", "draw it again or remove it"),
    "no keypoint": ("has no labelled keypoint in the image", "set its keypoints or remove it"),
}


def _left_out(dataset: Dataset, image: Image, field: str, left_out: Sequence[LeftOut]) -> Iterator[Finding]:
    """One finding for each repeated object, and one for all that an image drops for the same reason."""
    dropped: dict[str, list[int]] = {}
    for entry in left_out:
        if entry.reason == "repeated":
            yield _warning(
                dataset,
                "duplicate",
                image,
                f"{field}.annotations[{entry.position}]",
                f"repeats annotations[{entry.repeats}] and is left out",
                "remove one of them",
            )
        elif entry.reason in _DROPPED:
            dropped.setdefault(entry.reason, []).append(entry.position)
    for reason, positions in dropped.items():
        problem, remedy = _DROPPED[reason]
        more = f" (as {len(positions) - 1} more of this image)" if len(positions) > 1 else ""
        yield _warning(
            dataset,
            "object_dropped",
            image,
            f"{field}.annotations[{positions[0]}]",
            f"{problem}{more}, so it is left out",
            remedy,
        )


def _classes(dataset: Dataset) -> Iterator[Finding]:
    used = Counter(annotation.class_id for image in dataset.images for annotation in image.annotations)
    for index, class_ in enumerate(dataset.classes):
        if not used[class_.id]:
            yield _warning(
                dataset,
                "empty_class",
                None,
                f"classes[{index}]",
                f"{shown(class_.name)} has no annotation",
                "label some, or remove the class",
            )
    if dataset.task != "pose":
        return
    lengths = {class_.id: len(class_.keypoints) for class_ in dataset.classes if class_.keypoints}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"class {key}: {count}" for key, count in sorted(lengths.items()))
        yield _error(
            dataset,
            "keypoints_differ",
            None,
            "classes[].keypoints",
            f"differ in number ({counts}), but a model has one number of keypoints",
            "give every class the same keypoints",
        )
    for index, class_ in enumerate(dataset.classes):
        pairs = class_.flip_pairs or ()
        indices = [number for pair in pairs for number in pair]
        count = len(class_.keypoints or ())
        if len(set(indices)) != len(indices) or (count and not all(0 <= number < count for number in indices)):
            yield _error(
                dataset,
                "flip_pairs",
                None,
                f"classes[{index}].flip_pairs",
                f"{[list(pair) for pair in pairs]} names a keypoint twice, or one that is not there",
                "name each of the class's keypoints, counted from 0, in at most one pair",
            )


def _statistics(dataset: Dataset) -> Iterator[Finding]:
    declared = dataset.statistics
    if declared is None:
        return
    total = sum(len(image.annotations) for image in dataset.images)
    average = total / len(dataset.images)
    names = {class_.id: class_.name for class_ in dataset.classes}
    classes = Counter(
        names.get(annotation.class_id, str(annotation.class_id))
        for image in dataset.images
        for annotation in image.annotations
    )
    splits = Counter(str(image.split or "train") for image in dataset.images)
    compared: list[tuple[str, object, object, bool]] = [
        ("total_images", declared.total_images, len(dataset.images), declared.total_images == len(dataset.images)),
        ("total_annotations", declared.total_annotations, total, declared.total_annotations == total),
        (
            "avg_annotations_per_image",
            declared.avg_annotations_per_image,
            round(average, 2),
            declared.avg_annotations_per_image is not None
            # Written with two decimals, rounded up or down.
            and abs(declared.avg_annotations_per_image - average) <= 0.005 + 1e-9,
        ),
        (
            "class_distribution",
            declared.class_distribution,
            dict(classes),
            _equal(declared.class_distribution, classes),
        ),
        ("split_distribution", declared.split_distribution, dict(splits), _equal(declared.split_distribution, splits)),
    ]
    for field, said, counted, equal in compared:
        if said is not None and not equal:
            yield _warning(
                dataset, "statistics", None, f"statistics.{field}", f"says {said}, counted {counted}", "export again"
            )


def _equal(declared: Mapping[str, int] | None, counted: Mapping[str, int]) -> bool:
    """Whether two distributions agree; a missing entry counts as 0."""
    declared = declared or {}
    return all(declared.get(key, 0) == counted.get(key, 0) for key in {*declared, *counted})


def _keypoints_by_class(dataset: Dataset) -> dict[int, int]:
    """How many keypoints an annotation of each class must have: as the classes declare, else as the first annotation has."""
    named = {class_.id: len(class_.keypoints) for class_ in dataset.classes if class_.keypoints}
    default = next(iter(named.values()), None)
    if default is None:
        lengths = (
            len(annotation.keypoints) // 3
            for image in dataset.images
            for annotation in image.annotations
            if annotation.keypoints
        )
        default = next(lengths, None)
    return {} if default is None else {class_.id: named.get(class_.id, default) for class_ in dataset.classes}


def _ids(classes: Mapping[int, Class]) -> str:
    """The class ids for a sentence: ``0 to 4`` where dense, else the first ones."""
    ids = sorted(classes)
    if len(ids) > 1 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    first = ", ".join(map(str, ids[:10]))
    return first if len(ids) <= 10 else f"{first} and {len(ids) - 10} more"
