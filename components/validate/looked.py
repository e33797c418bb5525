"""What is seen of each image by itself: of all at once, or of a shard's, whose results are put together again."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import DatasetChanged, InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.core.stage import Context
from visionloop.data import images
from visionloop.data.annotations import parquet, presence, quality
from visionloop.data.annotations.checks import Headers, keypoints_by_class, of_images
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.images import objects_of
from visionloop.data.annotations.presence import Outcomes
from visionloop.data.annotations.tables import Annotations, Whole, offsets
from visionloop.data.headers import MISSING, Header, Missing, Unsupported
from visionloop.data.locations import uri_of
from visionloop.data.sharding import rows_of_shard

#: The name of a shard's only output: nobody takes it for a report.
PART = "part"

#: One row for each image of a shard.
_SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string(), nullable=False),
        # What becomes of each of its objects (``Outcomes``).
        pa.field("reasons", pa.list_(pa.int8()), nullable=False),
        # The findings about it, a JSON array of arrays; null without any.
        pa.field("findings", pa.string()),
        # What ``Pictures`` says of it; null throughout where no pixels were read.
        pa.field("hash", pa.uint64()),
        pa.field("brightness", pa.float32()),
        pa.field("spread", pa.int16()),
    ]
)


@dataclass(frozen=True)
class Looked:
    """What is seen of some images.

    Attributes:
        objects: What becomes of each object; where shards have looked, not which other one it repeats.
        findings: What is wrong with each image by itself, in the order of the images.
        pictures: What they look like; None where no pixels were read.
    """

    objects: Outcomes
    findings: Sequence[Finding]
    pictures: quality.Pictures | None


def look(snapshot: Snapshot, mode: str, context: Context) -> Looked:
    """Looks at all images of a snapshot.

    Raises:
        DatasetChanged: If images are not the frozen ones.
    """
    read = snapshot.annotations
    return _look(snapshot, read, snapshot.table, mode, context, None)


def look_at_shard(snapshot: Snapshot, mode: str, number: int, count: int, context: Context) -> bytes:
    """Looks at the images of a shard.

    Returns:
        The bytes of its output.

    Raises:
        DatasetChanged: If images are not the frozen ones.
    """
    rows = rows_of_shard(snapshot.table["file_name"], number, count)
    read = snapshot.read_annotations()
    keypoints = keypoints_by_class(read) if read.task == "pose" else {}
    part = read.only(rows)
    del read
    return _encode(part, _look(snapshot, part, snapshot.table.take(pa.array(rows)), mode, context, keypoints))


def merged(snapshot: Snapshot, parts: Sequence[Result], mode: str) -> Looked:
    """What all shards of a snapshot saw, as ``look`` would have seen it.

    Raises:
        InvalidReceipt: If a shard's output is gone or damaged, or the shards are not those of this snapshot.
    """
    bounds = offsets(snapshot.annotations)
    reasons = np.full(bounds[-1], presence.KEPT, np.int8)
    findings: dict[int, list[Finding]] = {}
    count = len(snapshot.table)
    pictures = quality.Pictures.of(count) if mode == "full" else None
    seen = np.zeros(count, bool)
    for result in parts:
        table = _decode(result)
        rows = _rows_of(table, snapshot.table, result)
        seen[rows] = True
        at, counts = objects_of(bounds, rows)
        if pc.list_value_length(table["reasons"]).to_pylist() != counts.tolist():
            raise _other(result)
        reasons[at] = table["reasons"].combine_chunks().flatten().to_numpy()
        findings.update(_findings(table["findings"], rows))
        if pictures is not None:
            _put(pictures, table, rows)
    if not seen.all():
        raise _other(parts[0])
    ordered = [finding for row in sorted(findings) for finding in findings[row]]
    return Looked(Outcomes(reasons), ordered, pictures)


def _look(
    snapshot: Snapshot,
    read: Annotations,
    table: pa.Table,
    mode: str,
    context: Context,
    keypoints: dict[int, int] | None,
) -> Looked:
    """Looks at images: ``read`` and ``table`` are those of a part, or of all of them."""
    seen, pictures = _inspect(snapshot, table, mode, context)
    if changed := sorted(looked_at.row.key for looked_at in seen if looked_at.changed):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise DatasetChanged(
            f"{uri_of(snapshot.open_images(), changed[0])}{more}: changed since the snapshot; restore it or take a new snapshot."
        )
    headers = _stated(table) if mode == "annotations" else {c.row.file_name: _seen(c) for c in seen}
    objects = presence.outcomes(read)
    return Looked(objects, list(of_images(read, headers, objects, keypoints)), pictures)


def _inspect(
    snapshot: Snapshot, table: pa.Table, mode: str, context: Context
) -> tuple[list[images.ImageCheck], quality.Pictures | None]:
    """What is seen of each image, and in the mode ``full`` what they look like."""
    if mode == "annotations":
        return [], None
    prefix = snapshot.open_images()
    rows = snapshot.rows_of(table)
    seen: list[images.ImageCheck] = []
    size, total = 0, images.bytes_read(prefix, rows, whole=mode == "full")
    pictures = quality.Pictures.of(len(rows)) if mode == "full" else None
    for looked_at in images.inspect(prefix, rows, whole=mode == "full", alive=context.alive):
        if pictures is not None:
            pictures.put(len(seen), looked_at.appearance)
        seen.append(replace(looked_at, appearance=None))
        size += images.bytes_read(prefix, [looked_at.row], whole=mode == "full")
        context.fetched(len(seen), len(rows), size, total)
    return seen, pictures


def _seen(looked_at: images.ImageCheck) -> Header | Unsupported | Missing | None:
    return MISSING if looked_at.missing else looked_at.header


def _stated(table: pa.Table) -> Headers:
    """What is known without reading an image: which are missing, and of which no size could be read."""
    missing = table.filter(pc.is_null(table["etag"]))["file_name"].to_pylist()
    unread = table.filter(pc.is_null(table["width"]))["file_name"].to_pylist()
    return {**dict.fromkeys(unread), **dict.fromkeys(missing, MISSING)}


def _encode(read: Annotations, looked: Looked) -> bytes:
    """A shard's output: equal content gives equal bytes."""
    names = read.images["file_name"].to_pylist()
    by_image: dict[str | None, list[tuple[object, ...]]] = {}
    for finding in looked.findings:
        by_image.setdefault(finding.file_name, []).append(astuple(finding))
    findings = [msgspec.json.encode(by_image[name]).decode() if name in by_image else None for name in names]
    columns: dict[str, pa.Array] = {
        "file_name": pa.array(names, pa.string()),
        "reasons": pa.ListArray.from_arrays(
            pa.array(offsets(read), pa.int32()), pa.array(looked.objects.reasons, pa.int8())
        ),
        "findings": pa.array(findings, pa.string()),
    }
    pictures = looked.pictures
    if pictures is None:
        columns |= {entry.name: pa.nulls(len(names), entry.type) for entry in _SCHEMA if entry.name not in columns}
    else:
        columns |= {
            "hash": pa.array(pictures.hashes, pa.uint64(), mask=~pictures.hashed),
            "brightness": pa.array(pictures.brightness, pa.float32(), from_pandas=True),
            "spread": pa.array(pictures.spread, pa.int16()),
        }
    return parquet.encode_table(pa.table([columns[name] for name in _SCHEMA.names], schema=_SCHEMA))


def _decode(result: Result) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(result.read(PART)))
    except pa.ArrowException as error:
        raise InvalidReceipt(f"{result.uri}: its output is not that of a shard ({error}); validate again.") from error
    if table.schema.names != _SCHEMA.names:
        raise _other(result)
    return table


def _rows_of(table: pa.Table, manifest: pa.Table, result: Result) -> Whole:
    """The rows of a shard's images in the manifest."""
    rows = pc.index_in(table["file_name"], manifest["file_name"])
    if rows.null_count:
        raise _other(result)
    return np.asarray(rows.to_numpy(), dtype=np.int64)


def _findings(column: pa.ChunkedArray, rows: Whole) -> Iterator[tuple[int, list[Finding]]]:
    for position in np.flatnonzero(np.asarray(pc.is_valid(column))).tolist():
        encoded = msgspec.json.decode(column[position].as_py(), type=list[tuple[str, str, str | None, str, str]])
        yield int(rows[position]), [Finding(*values) for values in encoded]  # type: ignore[arg-type]


def _put(pictures: quality.Pictures, table: pa.Table, rows: Whole) -> None:
    """Notes what a shard's pictures look like."""
    hashed = np.asarray(pc.is_valid(table["hash"]))
    pictures.hashed[rows] = hashed
    pictures.hashes[rows] = pc.fill_null(table["hash"], 0).to_numpy()
    pictures.brightness[rows] = table["brightness"].to_numpy()
    pictures.spread[rows] = pc.fill_null(table["spread"], -1).to_numpy()


def _other(result: Result) -> InvalidReceipt:
    return InvalidReceipt(f"{result.uri}: a shard of other images than the snapshot's; validate again.")
