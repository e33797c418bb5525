"""Every code that a finding can have: its severity, what it says, its threshold, and what of it ``--checks`` may change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.findings import Finding, Severity

Wanted = Literal["off", "warning", "error"]

#: What ``--checks`` can say of a code.
WANTED: tuple[Wanted, ...] = ("off", "warning", "error")

#: The fields of a code's object in ``--checks``.
FIELDS = ("severity", "threshold")


@dataclass(frozen=True)
class Threshold:
    """A check's threshold: its default, the least and the greatest value that it may have, and what it is."""

    default: float
    least: float
    most: float
    meaning: str
    whole: bool = False

    @property
    def allowed(self) -> str:
        """The values that it takes, for people."""
        return f"a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Code:
    """One kind of finding.

    Attributes:
        severities: The severities that its findings have by default.
        meaning: What it says.
        threshold: Its threshold, where it has one.
        fixed: Why a training is impossible with it: it can't be lowered or switched off.
    """

    severities: tuple[Severity, ...]
    meaning: str
    threshold: Threshold | None = None
    fixed: str | None = None


def _error(meaning: str, fixed: str | None = None) -> Code:
    return Code(("error",), meaning, fixed=fixed)


def _warning(meaning: str, threshold: Threshold | None = None) -> Code:
    return Code(("warning",), meaning, threshold)


_UNREAD = "no trainer reads such an image"

CODES: Mapping[str, Code] = {
    "missing_image": _error("the store has no such image", "there is nothing to train on"),
    "unreadable_image": _error("the bytes can't be read as an image", _UNREAD),
    "image_format": _error(
        "a GIF, HEIC, AVIF, PostScript … or a TIFF of 32-bit numbers, whatever it is called", _UNREAD
    ),
    "frames": Code(
        ("error", "warning"),
        "error: a TIFF with several pages; warning: of an animated PNG or WebP the first picture counts",
        fixed="no trainer reads a TIFF with several pages",
    ),
    "image_size": _error("the file is not width × height as the annotations say"),
    "orientation": _error("labelled as it is stored, but EXIF's orientation shows it turned"),
    "exif_orientation": _warning(
        "it is shown turned or mirrored, and its size does not tell whether it was labelled so"
    ),
    "bit_depth": _warning("more than 8 bits a channel: training sees the upper 8"),
    "extension": _warning("another of the accepted formats than its name says"),
    "image_extension": _error("trainers would pass the file over", _UNREAD),
    "image_id": _error("the annotation's `image_id` is not that of its image"),
    "unknown_class": _error("no class has this id", "a label needs a class"),
    "class_name": _error("the name disagrees with the id"),
    "missing_bbox": _error("detection and pose need a box"),
    "empty_bbox": _error("the box has a negative width or height"),
    "bbox_outside": _error("the box reaches more than one pixel outside its image"),
    "missing_segmentation": _error("segmentation needs a polygon"),
    "mask": _error(
        "a run-length mask without `iscrowd` 1 that can't be decoded, holds no pixel, or is not of its image's size"
    ),
    "run_length_mask": _error("a run-length mask without `iscrowd` 1 that did not become polygons; `mask` says why"),
    "polygon_points": _error("fewer than 3 points, or an odd number of values"),
    "polygon_outside": _error("a point more than one pixel outside"),
    "missing_keypoints": _error("pose needs keypoints"),
    "keypoints_length": _error("another number of keypoints than the class has", "labels must be of one length"),
    "keypoints_visibility": _error("a visibility other than 0, 1, 2", "no trainer reads such a label"),
    "keypoints_differ": _error(
        "classes with different numbers of keypoints; a model has one", "a model has one number"
    ),
    "flip_pairs": _error("a keypoint in two pairs, or one that is not there", "a mirrored image would have no label"),
    "several_classes": _error("a classification image with more than one class", "an image has one class"),
    "no_labels": Code(
        ("error", "warning"),
        "error: train has no label, nothing is left to learn; warning: val has none, so the best epoch is the last one, or test "
        "has none, so nothing is measured",
        fixed="there is nothing to learn",
    ),
    "same_bytes": Code(
        ("error", "warning"),
        "an image has the same bytes as another: error in two splits, warning in one. Equal SHA-256 in folders, equal size "
        "and ETag in a store. Not of an image that is given to two splits by name",
    ),
    "near_duplicate": _warning(
        "an image looks like one of another split (mode `full`)",
        Threshold(4, 0, 7, "the most bits in which the 64 bits of two images' hashes differ", whole=True),
    ),
    "blank_image": _warning(
        "an image of one colour (mode `full`)",
        Threshold(
            3, 0, 254, "the most levels of 255 between the darkest and the brightest value of each channel", whole=True
        ),
    ),
    "class_absent": _warning("a class that train never shows, or that val or test lacks"),
    "class_imbalance": _warning(
        "train has many more labels of one class than of another",
        Threshold(100, 1, 100_000, "the most labels of the commonest class for each label of the rarest one"),
    ),
    "tiny_boxes": _warning(
        "many boxes are under 8 pixels at `imgsz` (from 20 boxes on)",
        Threshold(0.1, 0, 1, "the greatest share of the boxes"),
    ),
    "huge_boxes": _warning(
        "many boxes are above 90 % of `imgsz` (from 20 boxes on)",
        Threshold(0.5, 0, 1, "the greatest share of the boxes"),
    ),
    "close_boxes": _warning(
        "two boxes of one class in one image nearly coincide",
        Threshold(0.9, 0.5, 1, "the IoU from which two boxes count as one"),
    ),
    "drift": _warning(
        "classes, box sizes or brightness are not those of the champion's snapshot (brightness in the mode `full`)",
        Threshold(0.1, 0, 1, "the greatest distance, 0 (equal) to 1 (disjoint)"),
    ),
    "object_dropped": _warning(
        "an object that becomes no label: a crowd region, without area, at the border with nothing inside, without a labelled "
        "keypoint"
    ),
    "keypoint_outside": _warning("more than one pixel outside its image; counts as not labelled"),
    "image_too_small": _warning("a side is under 10 pixels: the trainers leave such images out, so convert does"),
    "image_without_annotations": _warning(
        "background for detection, segmentation and pose; left out for classification"
    ),
    "duplicate": _warning("gives the same label as another annotation of its image, and is left out"),
    "area": _warning("not width × height"),
    "empty_class": _warning("a class without an annotation"),
    "label_without_image": _warning("a label file whose image is not there"),
    "statistics": _warning("not what was counted"),
    "missing_metadata": _warning("no `dataset_id` or no `dataset_name`"),
}


@dataclass(frozen=True)
class Checks:
    """What a run wants of the checks, where that is not the default.

    Attributes:
        severities: By code, the severity that its findings get, or ``off``.
        thresholds: By code, the threshold.
    """

    severities: Mapping[str, Wanted] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def threshold(self, code: str) -> float:
        """The threshold of a code that has one."""
        default = CODES[code].threshold
        if default is None:
            raise KeyError(code)
        return self.thresholds.get(code, default.default)

    def severity(self, code: str) -> Severity:
        """The severity of a code that has one by default, and is not off."""
        wanted = self.severities.get(code)
        return CODES[code].severities[0] if wanted is None or wanted == "off" else wanted

    def off(self, code: str) -> bool:
        """Whether nothing is found of a code."""
        return self.severities.get(code) == "off"

    def applied(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings with the severities that are wanted, without those that are off."""
        kept = []
        for finding in findings:
            wanted = self.severities.get(finding.code)
            if wanted is None or wanted == finding.severity:
                kept.append(finding)
            elif wanted != "off":
                kept.append(replace(finding, severity=wanted))
        return kept

    def content(self) -> dict[str, Any]:
        """What differs from the defaults, as it is part of the key; empty if nothing does."""
        codes = sorted({*self.severities, *self.thresholds})
        return {
            code: {
                name: values[code]
                for name, values in (("severity", self.severities), ("threshold", self.thresholds))
                if code in values
            }
            for code in codes
        }


#: The checks of a run that wants nothing else.
DEFAULTS = Checks()


def parse_checks(value: object, where: str) -> Checks:
    """What an object says of the checks.

    Args:
        value: By code ``off``, ``warning``, ``error``, or an object with ``severity`` and ``threshold``, each optional.
        where: What it is called in sentences.

    Raises:
        InvalidConfig: If a code or a field does not exist, a value is of another type or out of its range, or a check without
            which a training is impossible is lowered.
    """
    if not isinstance(value, Mapping):
        raise InvalidConfig(f'{where}: not an object; write the codes as in {{"same_bytes": "warning"}}.')
    severities: dict[str, Wanted] = {}
    thresholds: dict[str, float] = {}
    for name, wanted in value.items():
        code = _code(name, where)
        fields = wanted if isinstance(wanted, Mapping) else {"severity": wanted}
        if unknown := [entry for entry in fields if entry not in FIELDS]:
            raise InvalidConfig(f"{where}: {code}.{unknown[0]} does not exist; the fields are {', '.join(FIELDS)}.")
        if "severity" in fields:
            severity = _severity(code, fields["severity"], where)
            if CODES[code].severities != (severity,):
                severities[code] = severity
        if "threshold" in fields:
            threshold = _threshold(code, fields["threshold"], where)
            if threshold != DEFAULTS.threshold(code):
                thresholds[code] = threshold
    return Checks(severities, thresholds)


def _code(name: object, where: str) -> str:
    if name in CODES:
        return str(name)
    near = difflib.get_close_matches(str(name), CODES, 1, 0.0)[0]
    raise InvalidConfig(f"{where}: {str(name)[:80]} is not a code of a finding; the nearest one is {near}.")


def _severity(code: str, value: object, where: str) -> Wanted:
    # YAML reads the word off as false.
    value = "off" if value is False else value
    if value not in WANTED:
        raise InvalidConfig(f"{where}: the severity of {code} is {_shown(value)}; give one of {', '.join(WANTED)}.")
    fixed = CODES[code].fixed
    if fixed is not None and value != "error":
        raise InvalidConfig(f"{where}: {code} can't be {_shown(value)}, because {fixed}; leave it out of the checks.")
    return next(wanted for wanted in WANTED if wanted == value)


def _threshold(code: str, value: object, where: str) -> float:
    threshold = CODES[code].threshold
    if threshold is None:
        raise InvalidConfig(f"{where}: {code} has no threshold; give it a severity alone.")
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not threshold.least <= number <= threshold.most or (threshold.whole and number != int(number)):
        raise InvalidConfig(
            f"{where}: the threshold of {code} is {_shown(value)}; give {threshold.allowed} ({threshold.meaning})."
        )
    return int(number) if number == int(number) else float(number)


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
