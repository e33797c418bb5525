"""What is wrong with a dataset: findings that name file, field and remedy, for a report or a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.border import OUTSIDE_PIXELS, inside
from visionloop.data.annotations.classes import IGNORED, Class
from visionloop.data.annotations.findings import Finding, Severity
from visionloop.data.annotations.images import Annotation, Box, Image, images
from visionloop.data.annotations.presence import KEPT, REASONS, Outcomes, outcomes
from visionloop.data.annotations.tables import (
    BOX,
    HUNDREDTHS,
    LIMIT,
    Annotations,
    Whole,
    column,
    in_parts,
    named,
    offsets,
)
from visionloop.data.headers import EXTENSIONS_OF, IMAGE_EXTENSIONS, ORIENTATIONS, Header, Missing, Unsupported
from visionloop.data.sentences import printable, shown

#: The trainers leave out images with a shorter side, in pixels.
MIN_SIDE = 10

#: How many objects are looked at together.
_AT_ONCE = 2**20

#: By file name the headers of images, or what a file is instead: None for one that can't be read as an image, MISSING for one
#: that the store lacks. Nothing is said of an image that is absent.
Headers = Mapping[str, Header | Unsupported | Missing | None]

#: File names with the extension of an image; the few others are looked at one by one.
_EXTENSION = r"[^/]\.(bmp|jpe?g|png|tiff?|webp)$"


def check(read: Annotations, headers: Headers | None = None, objects: Outcomes | None = None) -> list[Finding]:
    """Checks a dataset's annotations against themselves and against its images.

    Args:
        read: The annotations.
        headers: The headers of its images, of those at least that are not as the annotations say.
        objects: What ``presence.outcomes`` gives for the annotations, where that is there already.

    Returns:
        The findings with what the reader found, those of images first.
    """
    return whole(read, of_images(read, headers or {}, outcomes(read) if objects is None else objects))


def of_images(
    read: Annotations, headers: Headers, objects: Outcomes, keypoints: Mapping[int, int] | None = None
) -> Iterator[Finding]:
    """The findings of each image by itself, in the order of the images.

    Args:
        read: The annotations, or a part of them.
        headers: As for ``check``.
        objects: What becomes of each object.
        keypoints: What ``keypoints_by_class`` gives for all annotations, where these are a part.
    """
    return _Checks(read, headers, objects, keypoints).of_images()


def whole(read: Annotations, findings: Iterable[Finding]) -> list[Finding]:
    """All findings of a dataset, those of images first.

    Args:
        read: The annotations.
        findings: What ``of_images`` found of them.
    """
    stated = (finding for finding in read.findings if finding.file_name is not None)
    general = (finding for finding in read.findings if finding.file_name is None)
    return [*findings, *stated, *_classes(read), *general]


def too_small(read: Annotations) -> npt.NDArray[np.bool_]:
    """Whether the trainers would leave an image out for its size, by row."""
    side = np.minimum(column(read.images, "width", MIN_SIDE), column(read.images, "height", MIN_SIDE))
    return np.asarray(side < MIN_SIDE)


def object_field(read: Annotations, image: Image, annotation: Annotation) -> str:
    """Where an object stands in its file, as sentences name it."""
    return read.part(image.key).object_field.format(image=image.position, object=annotation.position)


class _Checks:
    """The findings of each image."""

    def __init__(
        self, read: Annotations, headers: Headers, objects: Outcomes, keypoints: Mapping[int, int] | None
    ) -> None:
        self.read, self.headers, self.objects = read, headers, objects
        self.bounds = offsets(read)
        self.classes = {entry.id: entry for entry in read.classes}
        self.keypoints = keypoints_by_class(read) if keypoints is None else keypoints
        self.wrong_masks = {(entry.file_name, entry.field) for entry in read.findings if entry.code == "mask"}

    def of_images(self) -> Iterator[Finding]:
        """The findings in the order of the images. Checks over whole columns decide which images are looked at one by one."""
        for image in images(self.read, np.flatnonzero(self._suspicious())):
            yield from self._image(image)

    def _suspicious(self) -> npt.NDArray[np.bool_]:
        """The images with anything to say of, and perhaps some others."""
        read, bounds = self.read, self.bounds
        names = read.images["file_name"]
        some = np.asarray(pc.invert(pc.match_substring_regex(names, _EXTENSION, ignore_case=True)))
        some |= named(names, self.headers)
        some |= (bounds[1:] == bounds[:-1]) | too_small(read) | (column(read.images, "width") == 0)
        if read.task != "detection":
            return np.ones(len(some), bool)
        sizes = [column(read.images, name) * HUNDREDTHS for name in ("width", "height")]
        for first, last in in_parts(bounds, _AT_ONCE):
            begin, end = int(bounds[first]), int(bounds[last])
            objects = read.objects.slice(begin, end - begin)
            image = column(objects, "image")
            wrong = self._wrong_boxes(objects, *(values[image] for values in sizes))
            some[image[wrong | (self.objects.reasons[begin:end] != KEPT)]] = True
        return np.asarray(some)

    def _wrong_boxes(self, objects: pa.Table, width: Whole, height: Whole) -> npt.NDArray[np.bool_]:
        """Which of some objects have no class, no box, or one that is not inside their image; the images' sizes are in hundredths."""
        wrong = ~np.isin(column(objects, "class_id"), list(self.classes))
        x, y, across, down = (column(objects, name, LIMIT) for name in BOX)
        # Within one hundredth of the tolerance an object is looked at by itself.
        border = round(OUTSIDE_PIXELS * HUNDREDTHS) - 1
        absent = np.asarray(objects["x"].combine_chunks().is_null())
        outside = (x < -border) | (y < -border) | (x + across > width + border) | (y + down > height + border)
        return np.asarray(wrong | absent | outside | (across < 0) | (down < 0))

    def _image(self, image: Image) -> Iterator[Finding]:
        if image.file_name in self.headers:
            yield from self._header(image, self.headers[image.file_name])
        if PurePosixPath(image.file_name).suffix.lower() not in IMAGE_EXTENSIONS:
            extensions = ", ".join(sorted(IMAGE_EXTENSIONS))
            problem = f"{image.key} has no extension of an image ({extensions})"
            yield self._finding(
                "error", "image_extension", image, "file_name", problem, "rename the image and export again"
            )
        if image.width is not None and image.height is not None and min(image.width, image.height) < MIN_SIDE:
            size = f"{image.width} × {image.height}"
            problem = f"of {image.key} are {size}; an image with a side under {MIN_SIDE} pixels is left out"
            remedy = "leave it out of the export, or label a larger one"
            yield self._finding("warning", "image_too_small", image, "width and height", problem, remedy)
        classification = self.read.task == "classification"
        if not image.annotations:
            kept = "left out" if classification else "kept as background"
            yield self._finding(
                "warning",
                "image_without_annotations",
                image,
                "annotations",
                f"of {image.key} is empty, so it is {kept}",
                "label it, or leave it out of the export if that was not meant",
            )
        for annotation in image.annotations:
            yield from self._class(image, annotation)
            if not classification:
                yield from self._geometry(image, annotation)
        if classification:
            yield from self._single_class(image)
        else:
            yield from self._left_out(image)

    def _header(self, image: Image, header: Header | Unsupported | Missing | None) -> Iterator[Finding]:
        if isinstance(header, Missing):
            problem, remedy = f"{image.key} does not exist as a file", "upload the image, or remove it and export again"
            yield self._finding("error", "missing_image", image, "file_name", problem, remedy)
            return
        if isinstance(header, Unsupported):
            problem = f"{image.key} is {header.kind}, which the trainers can't read"
            yield self._finding("error", "image_format", image, "file_name", problem, header.remedy)
            return
        if header is None:
            problem, remedy = f"{image.key} can't be read as an image", "upload it again, or remove it and export again"
            yield self._finding("error", "unreadable_image", image, "file_name", problem, remedy)
            return
        yield from self._format(image, header)
        size, stored = (image.width, image.height), f"{image.width} × {image.height}"
        turned = ORIENTATIONS.get(header.orientation, "")
        if (header.width, header.height) == size:
            if header.stored == size and turned:
                problem = (
                    f"{image.key} has EXIF orientation {header.orientation}: it is shown, trained and measured "
                    f"{turned}, and its size does not tell whether it was labelled so"
                )
                remedy = "look at its boxes in the report"
                yield self._finding("warning", "exif_orientation", image, "file_name", problem, remedy)
        elif header.stored == size:
            problem = (
                f"say {stored}, as {image.key} is stored, but its EXIF orientation "
                f"{header.orientation} shows it {turned}, as {header.width} × {header.height}"
            )
            remedy = "label it as it is shown, or save its pixels turned and without the orientation"
            yield self._finding("error", "orientation", image, "width and height", problem, remedy)
        else:
            problem = f"say {stored}, but {image.key} is {header.width} × {header.height}"
            remedy = "upload the image that was labelled, or label this one again"
            yield self._finding("error", "image_size", image, "width and height", problem, remedy)

    def _format(self, image: Image, header: Header) -> Iterator[Finding]:
        suffix = PurePosixPath(image.file_name).suffix.lower()
        if header.format and suffix in IMAGE_EXTENSIONS - EXTENSIONS_OF[header.format]:
            problem = f"{image.key} is a {header.format} file, whatever it is called"
            yield self._finding("warning", "extension", image, "file_name", problem, "rename it")
        if header.bits > 8:
            lowest = 2 ** (header.bits - 8)
            problem = (
                f"{image.key} has {header.bits} bits a channel, and training sees the upper 8: "
                f"values below {lowest} look black"
            )
            remedy = "stretch its values to the full range if it is dark"
            yield self._finding("warning", "bit_depth", image, "file_name", problem, remedy)
        if header.pictures > 1 and header.format == "TIFF":
            problem, remedy = f"{image.key} has several pages", "save each page as an image of its own"
            yield self._finding("error", "frames", image, "file_name", problem, remedy)
        elif header.pictures > 1 and header.format != "MPO":
            problem = f"{image.key} is animated, and only its first picture counts"
            yield self._finding("warning", "frames", image, "file_name", problem, "save that one alone")

    def _class(self, image: Image, annotation: Annotation) -> Iterator[Finding]:
        if annotation.class_id not in self.classes and not _is_ignored(annotation):
            part = self.read.part(image.key)
            where = "the dataset" if part.label_files or self.read.parts else "the file"
            problem = f"{annotation.class_id} is not a class of {where} ({_ids(self.classes)})"
            yield self._wrong(
                "error",
                "unknown_class",
                image,
                annotation,
                part.class_field,
                problem,
                "correct the label or add the class",
            )

    def _geometry(self, image: Image, annotation: Annotation) -> Iterator[Finding]:
        if image.width is None or image.height is None:
            return  # a finding says that the picture can't be read: nothing is known of what lies in it
        size = image.width, image.height
        if annotation.bbox is not None:
            yield from self._box(image, annotation, annotation.bbox, size)
        elif self.read.task in ("detection", "pose"):
            yield self._wrong("error", "missing_bbox", image, annotation, "bbox", "is missing", "draw the box")
        if self.read.task == "segmentation":
            yield from self._segmentation(image, annotation, size)
        if self.read.task == "pose":
            yield from self._pose(image, annotation, size)

    def _box(self, image: Image, annotation: Annotation, bbox: Box, size: tuple[int, int]) -> Iterator[Finding]:
        x, y, width, height = bbox
        numbers = f"[{x:g}, {y:g}, {width:g}, {height:g}]"
        if width < 0 or height < 0:
            problem = f"{numbers} has a negative width or height"
            yield self._wrong(
                "error", "empty_bbox", image, annotation, "bbox", problem, "draw the box again or remove it"
            )
        elif not inside(*size, x, y) or not inside(*size, x + width, y + height):
            problem = f"{numbers} reaches outside the image of {size[0]} × {size[1]}"
            yield self._wrong("error", "bbox_outside", image, annotation, "bbox", problem, "draw the box again")

    def _segmentation(self, image: Image, annotation: Annotation, size: tuple[int, int]) -> Iterator[Finding]:
        field = "segmentation"
        if annotation.mask is not None:
            named = object_field(self.read, image, annotation)
            reported = {(image.file_name, named), (image.file_name, f"{named}.segmentation")} & self.wrong_masks
            if not annotation.iscrowd and not reported:
                problem = "is a run-length mask, which no YOLO label can hold"
                yield self._wrong("error", "run_length_mask", image, annotation, field, problem, "export polygons")
            return
        if not annotation.polygons:
            yield self._wrong(
                "error", "missing_segmentation", image, annotation, field, "is missing", "draw the polygon"
            )
        for number, polygon in enumerate(annotation.polygons):
            part = f"{field}[{number}]"
            if len(polygon) < 6 or len(polygon) % 2:
                problem = f"has {len(polygon)} numbers, not x and y of 3 points or more"
                remedy = "draw the polygon again or remove it"
                yield self._wrong("error", "polygon_points", image, annotation, part, problem, remedy)
            elif not all(inside(*size, x, y) for x, y in zip(polygon[::2], polygon[1::2], strict=True)):
                problem = f"reaches outside the image of {size[0]} × {size[1]}"
                yield self._wrong(
                    "error", "polygon_outside", image, annotation, part, problem, "draw the polygon again"
                )

    def _pose(self, image: Image, annotation: Annotation, size: tuple[int, int]) -> Iterator[Finding]:
        values, field = annotation.keypoints, "keypoints"
        if not values:
            if not annotation.iscrowd:
                yield self._wrong(
                    "error", "missing_keypoints", image, annotation, field, "is missing", "set the keypoints"
                )
            return
        expected = self.keypoints.get(annotation.class_id, len(values) // 3)
        if len(values) != 3 * expected:
            problem = f"has {len(values)} numbers, not x, y and visibility of {expected} keypoints ({3 * expected})"
            remedy = "set the keypoints again, or correct the class's keypoints"
            yield self._wrong("error", "keypoints_length", image, annotation, field, problem, remedy)
            return
        if any(visibility not in (0, 1, 2) for visibility in values[2::3]):
            problem = "has a visibility other than 0, 1 and 2"
            yield self._wrong(
                "error", "keypoints_visibility", image, annotation, field, problem, "set the keypoints again"
            )
        for number in range(expected):
            x, y, visibility = values[3 * number : 3 * number + 3]
            if visibility and not inside(*size, x, y):
                problem = f"lies outside the image of {size[0]} × {size[1]}, so the keypoint counts as not labelled"
                part = f"{field}[{3 * number}]"
                yield self._wrong(
                    "warning", "keypoint_outside", image, annotation, part, problem, "set the keypoint again"
                )

    def _single_class(self, image: Image) -> Iterator[Finding]:
        ids = sorted({annotation.class_id for annotation in image.annotations})
        if len(ids) > 1:
            names = ", ".join(map(str, ids))
            problem = f"give {image.key} {len(ids)} classes ({names}), but an image has one"
            yield self._finding("error", "several_classes", image, "annotations", problem, "keep one label")

    def _left_out(self, image: Image) -> Iterator[Finding]:
        """One finding for each repeated object, and one for all that an image drops for the same reason."""
        first = int(self.bounds[image.row])
        reasons = self.objects.reasons[first : first + len(image.annotations)].tolist()
        dropped: dict[str, list[Annotation]] = {}
        for index, number in enumerate(reasons):
            reason = REASONS[number] if number >= 0 else ""
            if reason == "repeated":
                other = image.annotations[self.objects.repeats[first + index] - first]
                problem = f"repeats {short_object(self.read, image, other)} and is left out"
                yield self._wrong(
                    "warning", "duplicate", image, image.annotations[index], "", problem, "remove one of them"
                )
            elif reason in _DROPPED and not _is_ignored(image.annotations[index]):
                dropped.setdefault(reason, []).append(image.annotations[index])
        for reason, objects in dropped.items():
            problem, remedy = _DROPPED[reason]
            more = f" (as {len(objects) - 1} more of this image)" if len(objects) > 1 else ""
            problem = f"{problem}{more}, so it is left out"
            yield self._wrong("warning", "object_dropped", image, objects[0], "", problem, remedy)

    def _wrong(
        self,
        severity: Severity,
        code: str,
        image: Image,
        annotation: Annotation,
        part: str,
        problem: str,
        remedy: str,
    ) -> Finding:
        return about_object(self.read, severity, code, image, annotation, part, problem, remedy)

    def _finding(self, severity: Severity, code: str, image: Image, part: str, problem: str, remedy: str) -> Finding:
        return about_image(self.read, severity, code, image, part, problem, remedy)


def about_object(
    read: Annotations,
    severity: Severity,
    code: str,
    image: Image,
    annotation: Annotation,
    part: str,
    problem: str,
    remedy: str,
) -> Finding:
    """A finding about an object; ``part`` is what of it is wrong."""
    field = _part(object_field(read, image, annotation), part)
    return _about(read, severity, code, image, image.file, field, problem, remedy)


def about_image(
    read: Annotations, severity: Severity, code: str, image: Image, part: str, problem: str, remedy: str
) -> Finding:
    """A finding about an image; ``part`` is what of it is wrong."""
    dataset = read.part(image.key)
    field = _part(dataset.image_field.format(image=image.position), part)
    file = dataset.file if dataset.label_files else image.file
    return _about(read, severity, code, image, file, field, problem, remedy)


def short_object(read: Annotations, of: Image, annotation: Annotation) -> str:
    """An object's field without the image that it lies in."""
    dataset = read.part(of.key)
    image, template = dataset.image_field, dataset.object_field
    return template.removeprefix(image).lstrip(".").format(image="", object=annotation.position)


def _about(
    read: Annotations,
    severity: Severity,
    code: str,
    image: Image,
    file: str | None,
    field: str,
    problem: str,
    remedy: str,
) -> Finding:
    # An export in another order has other positions, so the image is found by its name.
    where = field if image.key in problem else f"{image.file_name}: {field}"
    sentence = printable(f"{file or read.file}: {where} {problem}; {remedy}.")
    return Finding(severity, code, image.file_name, field, sentence)


def _is_ignored(annotation: Annotation) -> bool:
    """Whether the run chose to ignore an object's class: that is reported once, not for each object."""
    return annotation.iscrowd and annotation.class_id == IGNORED


def _part(field: str, part: str) -> str:
    """A part of what a field names: behind a dot where it is a path of a document."""
    if not part:
        return field
    return f"{field}.{part}" if field.endswith("]") else f"{field}: {part}"


#: What is said of an object that conversion drops, by its reason, and what to do.
_DROPPED = {
    "crowd": ("is a crowd region", "set iscrowd to 0 if it is one object"),
    "no area": ("has no width or no height", "draw it again or remove it"),
    "outside": ("lies at the image's border with nothing inside", "draw it again or remove it"),
    "no keypoint": ("has no labelled keypoint in the image", "set its keypoints or remove it"),
}


def _classes(read: Annotations) -> Iterator[Finding]:
    used = set(np.unique(column(read.objects, "class_id")).tolist())
    for index, class_ in enumerate(read.classes):
        if class_.id not in used:
            yield _warning(
                read,
                "empty_class",
                f"classes[{index}]",
                f"{shown(class_.name)} has no annotation",
                "label some, or remove the class",
            )
    if read.task != "pose":
        return
    lengths = {class_.id: len(class_.keypoints) for class_ in read.classes if class_.keypoints}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"class {key}: {count}" for key, count in sorted(lengths.items()))
        yield _error(
            read,
            "keypoints_differ",
            "classes[].keypoints",
            f"differ in number ({counts}), but a model has one number of keypoints",
            "give every class the same keypoints",
        )
    for index, class_ in enumerate(read.classes):
        pairs = class_.flip_pairs or ()
        indices = [number for pair in pairs for number in pair]
        count = len(class_.keypoints or ())
        if len(set(indices)) != len(indices) or (count and not all(0 <= number < count for number in indices)):
            yield _error(
                read,
                "flip_pairs",
                f"classes[{index}].flip_pairs",
                f"{[list(pair) for pair in pairs]} names a keypoint twice, or one that is not there",
                "name each of the class's keypoints, counted from 0, in at most one pair",
            )


def _warning(read: Annotations, code: str, field: str, problem: str, remedy: str) -> Finding:
    return Finding("warning", code, None, field, printable(f"{read.file}: {field} {problem}; {remedy}."))


def _error(read: Annotations, code: str, field: str, problem: str, remedy: str) -> Finding:
    return Finding("error", code, None, field, printable(f"{read.file}: {field} {problem}; {remedy}."))


def keypoints_by_class(read: Annotations) -> dict[int, int]:
    """How many keypoints an annotation of each class must have: as the classes declare, else as the first annotation has."""
    named = {entry.id: len(entry.keypoints) for entry in read.classes if entry.keypoints}
    default = next(iter(named.values()), None)
    if default is None:
        counts = pc.unique(pc.list_value_length(read.objects["keypoints"]).drop_null()).to_pylist()
        default = next((count // 3 for count in counts if count), None)
    return {} if default is None else {entry.id: named.get(entry.id, default) for entry in read.classes}


def _ids(classes: Mapping[int, Class]) -> str:
    """The class ids for a sentence: ``0 to 4`` where dense, else the first ones."""
    ids = sorted(classes)
    if len(ids) > 1 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    first = ", ".join(map(str, ids[:10]))
    return first if len(ids) <= 10 else f"{first} and {len(ids) - 10} more"
