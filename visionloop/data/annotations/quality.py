"""What is suspicious of a dataset as a whole: equal files, classes out of proportion, boxes that are too small, too large or twice there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.checks import about_image, about_object, short_object
from visionloop.data.annotations.codes import Checks
from visionloop.data.annotations.drift import brightness_levels, relative_sides
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.images import images
from visionloop.data.annotations.near import near_duplicates, near_pairs
from visionloop.data.annotations.presence import KEPT, LabelCounts, Outcomes
from visionloop.data.annotations.tables import BOX, SPLITS, Annotations, Whole, column, in_parts, offsets
from visionloop.data.appearance import Appearance
from visionloop.data.sentences import printable, shown

#: The size to which trainings scale images where nobody says another one.
IMGSZ = 640

#: A box with a shorter side, in pixels at the training's size, is tiny: the finest grid of the usual detectors has cells of 8 pixels.
TINY_SIDE = 8

#: A box whose side is above this share of the training's size is huge.
HUGE_SHARE = 0.9

#: The boxes below which nothing is said of their sizes.
FEWEST_BOXES = 20

#: The objects whose boxes are compared at a time.
_AT_ONCE = 2**20

#: Of files with the same bytes the one in the split that stands first here is kept.
_KEPT_FIRST = ("test", "val", "train")


def split_masks(manifest: pa.Table) -> npt.NDArray[np.uint8]:
    """The splits that each image counts for, as bits: 1 train, 2 val, 4 test.

    Args:
        manifest: The columns ``split`` and ``also`` of each image.
    """
    masks = np.zeros(len(manifest), np.uint8)
    for bit, split in enumerate(SPLITS):
        for name in ("split", "also"):
            belongs = pc.fill_null(pc.equal(manifest[name], split), False)
            masks |= np.asarray(belongs).astype(np.uint8) << np.uint8(bit)
    return masks


def same_bytes(read: Annotations, manifest: pa.Table) -> Iterator[Finding]:
    """Images whose file is that of another image: an error where the two are in different splits, else a warning.

    Of equal files the one in test, else in val, is kept; each other one has a finding, so that quarantine leaves it out.

    Args:
        read: The annotations.
        manifest: ``size``, ``etag``, ``split`` and ``also`` of each image, in the order of the annotations' images. In a
            folder the ETag is the SHA-256 of the bytes. Images without an ETag are equal to none.
    """
    repeated, first = _equal_files(manifest)
    masks = split_masks(manifest)
    names = read.images["key"]
    splits = manifest["split"]
    for row, other, image in zip(repeated.tolist(), first.tolist(), images(read, repeated), strict=True):
        theirs, own, shared = names[other].as_py(), splits[row].as_py(), splits[other].as_py()
        if masks[row] & masks[other]:
            problem = f"{image.key} has the same bytes as {theirs} of the same split, {own}, so it counts twice"
            yield about_image(read, "warning", "same_bytes", image, "file_name", problem, "remove one of them")
        else:
            problem = (
                f"{image.key} of {own} has the same bytes as {theirs} of {shared}, so what is measured was seen before"
            )
            remedy = "put both into one split, or remove one of them"
            yield about_image(read, "error", "same_bytes", image, "file_name", problem, remedy)


def _equal_files(manifest: pa.Table) -> tuple[Whole, Whole]:
    """The rows of files whose bytes an earlier kept file has, in ascending order, and the row of that file."""
    etags = manifest["etag"].combine_chunks()
    counted = np.flatnonzero(np.asarray(pc.fill_null(pc.not_equal(etags, ""), False)))
    numbers = etags.take(pa.array(counted)).dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    alike = np.bincount(numbers)[numbers] > 1 if len(numbers) else np.zeros(0, bool)
    rows, numbers = counted[alike], numbers[alike]
    if not len(rows):
        return rows, rows
    chosen = manifest.take(pa.array(rows))
    size = column(chosen, "size", -1)
    rank = np.asarray(pc.index_in(chosen["split"], pa.array(_KEPT_FIRST)))
    order = np.lexsort((rows, rank, size, numbers))
    rows, numbers, size = rows[order], numbers[order], size[order]
    begins = np.ones(len(rows), bool)
    begins[1:] = (numbers[1:] != numbers[:-1]) | (size[1:] != size[:-1])
    first = rows[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    repeated, first = rows[~begins], first[~begins]
    ascending = np.argsort(repeated)
    return repeated[ascending], first[ascending]


def class_imbalance(read: Annotations, counts: LabelCounts, checks: Checks) -> Iterator[Finding]:
    """One finding where train has too many labels of its commonest class for each label of its rarest one."""
    most = checks.threshold("class_imbalance")
    train = {entry.id: counts.kept["train"][entry.id] for entry in read.classes}
    labelled = {class_id: count for class_id, count in train.items() if count}
    if not labelled:
        return
    largest = max(labelled, key=lambda class_id: labelled[class_id])
    rare = sorted(
        (class_id for class_id, count in labelled.items() if labelled[largest] > most * count),
        key=lambda class_id: (labelled[class_id], class_id),
    )
    if not rare:
        return
    positions = {entry.id: (index, shown(entry.name)) for index, entry in enumerate(read.classes)}
    index, name = positions[rare[0]]
    more = f" (and {len(rare) - 1:,} more classes are as rare)" if len(rare) > 1 else ""
    times = labelled[largest] / labelled[rare[0]]
    problem = (
        f"{name} has {labelled[rare[0]]:,} of train's labels and {positions[largest][1]} {labelled[largest]:,}, "
        f"{times:,.0f} for each one, more than {most:g}{more}"
    )
    remedy = "label more of the rare ones, or merge classes that mean the same"
    yield _general(read, "class_imbalance", f"classes[{index}]", f"{problem}; {remedy}")


def box_sizes(read: Annotations, imgsz: int, checks: Checks) -> list[Finding]:
    """What is said of boxes that are tiny, or huge, at the size to which a training scales images.

    Args:
        read: The annotations.
        imgsz: That size in pixels: the longer side of an image becomes so long.
        checks: The greatest shares of tiny and of huge boxes.
    """
    sides = relative_sides(read)
    if len(sides) < FEWEST_BOXES:
        return []
    findings = []
    tiny = float((sides < TINY_SIDE / imgsz).mean())
    if tiny > checks.threshold("tiny_boxes") and not checks.off("tiny_boxes"):
        larger = float((sides < TINY_SIDE / (2 * imgsz)).mean())
        problem = (
            f"{tiny:.0%} of the boxes are under {TINY_SIDE} px at {imgsz} ({larger:.0%} at {2 * imgsz}); "
            "raise imgsz, or cut the images into tiles"
        )
        findings.append(_general(read, "tiny_boxes", "bbox:", problem))
    huge = float((sides > HUGE_SHARE).mean())
    if huge > checks.threshold("huge_boxes") and not checks.off("huge_boxes"):
        problem = (
            f"{huge:.0%} of the boxes are above {HUGE_SHARE * imgsz:.0f} px at {imgsz}, nearly the whole image; "
            "label larger views, or train a classification"
        )
        findings.append(_general(read, "huge_boxes", "bbox:", problem))
    return findings


def close_boxes(read: Annotations, objects: Outcomes, least: float) -> Iterator[Finding]:
    """Objects whose box nearly coincides with an earlier one of their class and image.

    Args:
        read: The annotations.
        objects: What becomes of each object; those that become no label, exact repetitions among them, are passed over.
        least: The IoU from which two boxes count as one.
    """
    pairs = close_pairs(read, objects, least)
    if not len(pairs.image):
        return
    bounds = offsets(read)
    rows, starts = np.unique(pairs.image, return_index=True)
    ends = np.append(starts[1:], len(pairs.image))
    for image, start, end in zip(images(read, rows), starts.tolist(), ends.tolist(), strict=True):
        first = int(bounds[image.row])
        for at in range(start, end):
            later, earlier = (image.annotations[int(side[at]) - first] for side in (pairs.later, pairs.earlier))
            problem = (
                f"nearly coincides with {short_object(read, image, earlier)} of its class (IoU {pairs.iou[at]:.2f})"
            )
            remedy = "remove one of them if both are one object"
            yield about_object(read, "warning", "close_boxes", image, later, "bbox", problem, remedy)


#: By code and file name, the image that another one is the same as, or like.
Twins = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Pictures:
    """What images look like, by row.

    Attributes:
        hashes: Perceptual hashes; 0 where there is none.
        hashed: Whether there is a hash.
        brightness: The mean of the pixels, 0 to 255; NaN where they could not be read.
        spread: The levels between the least and the greatest value of the channel that varies most; -1 where unread.
    """

    hashes: npt.NDArray[np.uint64]
    hashed: npt.NDArray[np.bool_]
    brightness: npt.NDArray[np.float32]
    spread: npt.NDArray[np.int16]

    @classmethod
    def of(cls, count: int) -> Pictures:
        """So many images of which nothing is known yet."""
        return cls(
            np.zeros(count, np.uint64),
            np.zeros(count, bool),
            np.full(count, np.nan, np.float32),
            np.full(count, -1, np.int16),
        )

    def levels(self) -> list[int]:
        """The images by brightness, as ``drift.brightness_levels`` counts them."""
        return brightness_levels(self.brightness[~np.isnan(self.brightness)])

    def put(self, row: int, looks: Appearance | None) -> None:
        """Notes what one looks like; None where its pixels could not be read."""
        if looks is None:
            return
        self.brightness[row], self.spread[row] = looks.brightness, looks.spread
        if looks.hash is not None:
            self.hashes[row], self.hashed[row] = looks.hash, True


def of_boxes(read: Annotations, objects: Outcomes, imgsz: int, checks: Checks) -> list[Finding]:
    """The findings about boxes, with their default severities; arguments as those of ``box_sizes`` and ``close_boxes``."""
    close = [] if checks.off("close_boxes") else close_boxes(read, objects, checks.threshold("close_boxes"))
    return [*close, *box_sizes(read, imgsz, checks)]


def of_images(
    read: Annotations,
    manifest: pa.Table,
    pictures: Pictures | None,
    checks: Checks,
    alive: Callable[[], None] = lambda: None,
) -> tuple[list[Finding], Twins]:
    """The findings about images, with their default severities, and which image each is the same as, or like.

    Args:
        read: The annotations.
        manifest: ``size``, ``etag``, ``split`` and ``also`` of each image, in the order of the annotations' images.
        pictures: What the images look like; None where no pixels were read.
        checks: What is off is not looked for.
        alive: Called now and then.
    """
    findings: list[Finding] = []
    names, twins = read.images["file_name"], Twins()
    repeated, first = _equal_files(manifest)
    if not checks.off("same_bytes"):
        findings += same_bytes(read, manifest)
        pairs = zip(repeated.tolist(), first.tolist(), strict=True)
        twins |= {("same_bytes", names[row].as_py()): names[other].as_py() for row, other in pairs}
    if pictures is None:
        return findings, twins
    if not checks.off("blank_image"):
        findings += blank_images(read, pictures.spread, checks.threshold("blank_image"))
    if not checks.off("near_duplicate"):
        distance, masks = int(checks.threshold("near_duplicate")), split_masks(manifest)
        compared = pictures.hashed.copy()
        compared[repeated] = False
        rows = np.flatnonzero(compared)
        near = near_pairs(pictures.hashes[rows], rows, masks[rows], distance, alive)
        findings += near_duplicates(read, near, masks, distance)
        for row, other in reversed(near.ordered(masks)):  # the nearest one counts
            twins["near_duplicate", names[row].as_py()] = names[other].as_py()
    return findings, twins


@dataclass(frozen=True)
class ClosePairs:
    """Boxes that nearly coincide, in the order of their objects: by pair the image's row, both objects' rows, and the IoU."""

    image: Whole
    later: Whole
    earlier: Whole
    iou: npt.NDArray[np.float64]


def close_pairs(read: Annotations, objects: Outcomes, least: float) -> ClosePairs:
    """For each object whose box nearly coincides with one before it: the nearest such object by the order of their left sides."""
    bounds = offsets(read)
    parts = []
    for first, last in in_parts(bounds, _AT_ONCE):
        begin, end = int(bounds[first]), int(bounds[last])
        part = read.objects.slice(begin, end - begin)
        chosen = np.flatnonzero(objects.reasons[begin:end] == KEPT)
        if len(chosen):
            parts.append(_pairs_of(part, chosen, begin, least))
    if not parts:
        nothing = np.zeros(0, np.int64)
        return ClosePairs(nothing, nothing, nothing, np.zeros(0))
    image, later, earlier = (np.concatenate([part[index] for part in parts]) for index in range(3))
    return ClosePairs(image, later, earlier, np.concatenate([part[3] for part in parts]))


def _pairs_of(
    objects: pa.Table, chosen: Whole, begin: int, least: float
) -> tuple[Whole, Whole, Whole, npt.NDArray[np.float64]]:
    """The pairs among some objects of whole images; ``begin`` is the row of the first object."""
    x, y, width, height = (column(objects, name, -1)[chosen] for name in BOX)
    boxed = (width > 0) & (height > 0)
    chosen, x, y, width, height = (values[boxed] for values in (chosen, x, y, width, height))
    image, class_id = column(objects, "image")[chosen], column(objects, "class_id")[chosen]
    order = np.lexsort((chosen, x, class_id, image))
    image, class_id, x, y, width, height, rows = (
        values[order] for values in (image, class_id, x, y, width, height, chosen + begin)
    )
    matched = np.full(len(rows), -1, np.int64)
    iou = np.zeros(len(rows))
    # With an IoU of t the left sides are at most (1 - t) of the first box's width apart.
    reach = x + np.ceil(width * (1 - least)).astype(np.int64)
    at = np.arange(len(rows))
    step = 1
    while len(at):
        at = at[at + step < len(rows)]
        other = at + step
        near = (image[at] == image[other]) & (class_id[at] == class_id[other]) & (x[other] <= reach[at])
        # What lies further to the right is not near either: the rows are sorted.
        at = at[near]
        other = at + step
        overlap = _iou(at, other, x, y, width, height)
        close = (overlap >= least) & (overlap > iou[other])
        matched[other[close]], iou[other[close]] = at[close], overlap[close]
        step += 1
    paired = np.flatnonzero(matched >= 0)
    pair = np.sort(np.stack([rows[paired], rows[matched[paired]]]), axis=0)
    ascending = np.lexsort((pair[0], pair[1]))
    return image[paired][ascending], pair[1][ascending], pair[0][ascending], iou[paired][ascending]


def _iou(first: Whole, second: Whole, x: Whole, y: Whole, width: Whole, height: Whole) -> npt.NDArray[np.float64]:
    """Intersection over union of pairs of boxes."""
    across = np.minimum(x[first] + width[first], x[second] + width[second]) - np.maximum(x[first], x[second])
    down = np.minimum(y[first] + height[first], y[second] + height[second]) - np.maximum(y[first], y[second])
    shared = np.maximum(across, 0).astype(np.float64) * np.maximum(down, 0)
    areas = width.astype(np.float64) * height
    return np.asarray(shared / (areas[first] + areas[second] - shared))


def blank_images(read: Annotations, spread: npt.ArrayLike, most: float) -> Iterator[Finding]:
    """Images of one colour.

    Args:
        read: The annotations.
        spread: By row, the levels between the darkest and the brightest value of the channel that varies most; -1 where the
            pixels could not be read.
        most: The levels up to which an image counts as of one colour.
    """
    levels = np.asarray(spread, np.int64)
    for image in images(read, np.flatnonzero((levels >= 0) & (levels <= most))):
        objects = f", but {len(image.annotations):,} of its objects are labelled" if image.annotations else ""
        problem = f"{image.key} is of one colour ({levels[image.row]} of 255 levels){objects}"
        yield about_image(
            read,
            "warning",
            "blank_image",
            image,
            "file_name",
            problem,
            "look at the image, and leave it out if it is blank",
        )


def _general(read: Annotations, code: str, field: str, problem: str) -> Finding:
    return Finding("warning", code, None, field.rstrip(":"), printable(f"{read.file}: {field} {problem}."))
