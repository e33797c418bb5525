"""Run-length masks of single objects become polygons."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.masks import outlines
from visionloop.data.annotations.tables import HUNDREDTHS, OBJECTS
from visionloop.data.dice import format as dice

#: How many masks are held as Python objects.
_AT_ONCE = 5_000


class _Mask(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


def with_polygons(
    objects: pa.Table, images: pa.Table, file: str, alive: Callable[[], None]
) -> tuple[pa.Table, list[Finding], list[str]]:
    """Objects whose run-length masks are polygons, those of crowds excepted; a mask that is wrong stays, with a finding.

    Args:
        objects: With ``image`` as the row among ``images``.
        images: The file's.
        file: Its key.
        alive: Called now and then.
    """
    single = pc.and_(objects["mask"].is_valid(), pc.invert(objects["iscrowd"]))
    masked = objects.filter(single)
    if not len(masked):
        return objects, [], []
    tables, findings = [objects.filter(pc.invert(single))], []
    parts = holes = 0
    for start in range(0, len(masked), _AT_ONCE):
        some = masked.slice(start, _AT_ONCE)
        of = images.select(["file_name", "width", "height"]).take(some["image"])
        polygons: list[list[list[int]] | None] = []
        for row, (text, image) in enumerate(zip(some["mask"].to_pylist(), of.to_pylist(), strict=True)):
            try:
                mask = msgspec.json.decode(text, type=_Mask)
                height, width = mask.size
                if image["width"] and image["height"] and (width, height) != (image["width"], image["height"]):
                    raise ValueError(
                        f"its size is {width} × {height}, not the image's {image['width']} × {image['height']}"
                    )
                outline = outlines(mask.counts, height, width)
                if not outline.polygons:
                    raise ValueError("it holds no pixel")
            except ValueError as error:
                polygons.append(None)
                field = f"annotations[{some['position'][row].as_py()}].segmentation"
                sentence = f"{file}: {image['file_name']}: {field} is not a mask of this image: {error}; draw the object again."
                findings.append(Finding("error", "mask", image["file_name"], field, dice.printable(sentence)))
                continue
            parts += len(outline.polygons) > 1
            holes += outline.holes > 0
            polygons.append([[number * HUNDREDTHS for number in polygon] for polygon in outline.polygons])
        tables.append(_replaced(some, polygons))
        alive()
    notice = f"{file}: {len(masked) - len(findings):,} run-length masks became polygons along the edges of their pixels"
    if parts or holes:
        notice += (
            f"; {parts:,} have several parts and {holes:,} have holes, which one line of YOLO joins by cuts of no width"
        )
    return pa.concat_tables(tables), findings, [f"{notice}."]


def _replaced(objects: pa.Table, polygons: list[list[list[int]] | None]) -> pa.Table:
    """Objects with polygons in place of their masks; where there are none the mask stays."""
    at = OBJECTS.get_field_index("polygons")
    column = pa.array(polygons, OBJECTS.field(at).type)
    objects = objects.set_column(at, OBJECTS.field(at), column)
    at = OBJECTS.get_field_index("mask")
    mask = pc.if_else(column.is_valid(), pa.scalar(None, pa.string()), objects["mask"])
    return objects.set_column(at, OBJECTS.field(at), mask)
