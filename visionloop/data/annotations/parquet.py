"""The canonical annotations in Parquet: equal tables give equal bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from visionloop.core import structs
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.findings import Finding
from visionloop.data.annotations.tables import OBJECTS, Annotations, Part

#: How many rows a row group has: small enough to be read one at a time.
ROW_GROUP = 2**20

#: Columns whose values repeat: for others a dictionary takes half the time of writing, and no fewer bytes.
_REPEATED = frozenset({"class_id", "split", "file", "group", "attributes"})

#: Where the file keeps what is not a column.
_KEY = b"visionloop"


@dataclass(frozen=True)
class _Header:
    """What ``Annotations`` holds besides its tables."""

    format: str
    task: str
    file: str
    classes: tuple[Class, ...]
    below: str
    image_field: str
    object_field: str
    class_field: str
    findings: tuple[Finding, ...]
    notices: tuple[str, ...]
    metadata: dict[str, Any]
    label_files: bool = False
    parts: tuple[Part, ...] = ()


def encode_table(table: pa.Table) -> bytes:
    """A table's Parquet bytes."""
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        row_group_size=ROW_GROUP,
        version="2.6",
        use_dictionary=[name for name in table.column_names if name in _REPEATED],
    )
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def encode(read: Annotations) -> bytes:
    """The objects as Parquet; its metadata holds what the annotations hold besides their tables. The images are not in it."""
    header = {name: getattr(read, name) for name in _Header.__dataclass_fields__ if name != "parts" or read.parts}
    text = msgspec.json.encode({**header, "metadata": dict(read.metadata)}, order="sorted")
    return encode_table(read.objects.replace_schema_metadata({_KEY: text}))


def decode(data: bytes, images: pa.Table) -> Annotations:
    """The annotations from what ``encode`` gave, and their images."""
    table = pq.read_table(pa.BufferReader(data))
    header = structs.decode(table.schema.metadata[_KEY], _Header)
    columns = [table[entry.name] for entry in OBJECTS]
    del table
    # One column after the other, so that only one is held twice.
    arrays = [columns.pop(0).cast(entry.type).combine_chunks() for entry in OBJECTS]
    objects = pa.table(arrays, schema=OBJECTS)
    fields = {name: getattr(header, name) for name in _Header.__dataclass_fields__}
    return Annotations(images=images, objects=objects, **fields)


def formats(data: bytes) -> str | dict[str, str]:
    """The format that annotations came in, or of several datasets each one's by its name, from what ``encode`` gave: no object is decoded."""
    header = structs.decode(pq.read_metadata(pa.BufferReader(data)).metadata[_KEY], _Header)
    return {part.name: part.format for part in header.parts} or header.format


def footer_length(end: bytes) -> int:
    """How many of a Parquet file's last bytes ``summary`` needs, from the last eight.

    Raises:
        ValueError: If it is not a Parquet file.
    """
    if len(end) != 8 or end[4:] != b"PAR1":
        raise ValueError("not a Parquet file")
    return int.from_bytes(end[:4], "little") + 8


def summary(footer: bytes) -> tuple[str, int]:
    """The format that annotations came in, and the number of their objects, from the last bytes of what ``encode`` gave.

    Raises:
        ValueError: If they are not the end of one.
    """
    try:
        stated = pq.read_metadata(pa.BufferReader(footer))
        return structs.decode(stated.metadata[_KEY], _Header).format, stated.num_rows
    except (pa.ArrowException, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"not the end of annotations ({error})") from error
