"""``{workspace}/read/{digest}.parquet``: what reading a dataset took from its store, so that the next snapshot reads only what changed.

Beside it ``{digest}.json`` says how many objects were listed, so that the next listing can show how far it is.

Formats with a file for each image, or without sizes, need one request an image or two. A store says which objects changed since:
what has the same ETag is taken from here. In a folder everything is read: its ETags say nothing.
"""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionloop.core.canonical import sha256
from visionloop.core.errors import NotFound
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix
from visionloop.data.annotations import parquet
from visionloop.data.formats.source import Sizes, Source
from visionloop.data.images import sizes_with_etags

FOLDER = "read"

#: A row for each object: a picture with its sides in pixels (0 where it can't be read), or a small file with its bytes.
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("data", pa.binary()),
    ]
)

#: The largest file that is kept, and the most that is kept of files, in bytes.
LARGEST_FILE = 64 * 2**10
MOST_BYTES = 256 * 2**20


class Kept:
    """What was read of a dataset in a store, by earlier snapshots and by this one."""

    def __init__(self, workspace: Prefix, source: Source) -> None:
        """Takes what the workspace has of the dataset; a file that can't be read counts as none."""
        self._key = f"{_name(source.prefix.uri)}.parquet"
        self._workspace, self._source = workspace, source
        self._lock = threading.Lock()
        self._bytes = 0
        self._made: list[pa.Table] = []
        self._files: dict[str, tuple[str, bytes]] = {}
        self._before = self._unchanged()
        files = self._before.filter(pc.is_valid(self._before["data"]))
        columns = (files[name].to_pylist() for name in ("key", "etag", "data"))
        self._earlier: dict[str, tuple[str, bytes]] = {
            key: (etag, data) for key, etag, data in zip(*columns, strict=True)
        }

    def sizes(self, keys: pa.Array) -> Sizes:
        """Width and height of pictures; those that did not change are not read."""
        at = pc.index_in(keys, value_set=self._before["key"].combine_chunks())
        kept = {name: self._before[name].take(at).combine_chunks() for name in ("width", "height", "etag")}
        widths, heights = (np.array(pc.fill_null(kept[name], 0), np.int32) for name in ("width", "height"))
        new = np.flatnonzero(np.asarray(kept["width"].is_null()))
        wanted = keys.take(pa.array(new)).to_pylist()
        widths[new], heights[new], read = sizes_with_etags(self._source.prefix, wanted, self._source.alive)
        etags = np.array(kept["etag"].to_pylist(), object)
        etags[new] = read
        self._add({"key": keys, "etag": pa.array(etags, pa.string()), "width": widths, "height": heights})
        return widths, heights

    def file(self, key: str) -> bytes:
        """A small file's bytes; one that did not change is not read. Raises NotFound."""
        if key in self._earlier:
            etag, data = self._earlier[key]
        else:
            data, etag = self._source.prefix.read_with_etag(key)
        with self._lock:
            if len(data) <= LARGEST_FILE and self._bytes + len(data) <= MOST_BYTES:
                self._files[key] = etag.strip('"'), data
                self._bytes += len(data)
        return data

    def write(self) -> None:
        """Writes what this snapshot read, or took from the one before."""
        if self._files:
            etags, data = zip(*self._files.values(), strict=True)
            self._add({"key": list(self._files), "etag": etags, "data": data})
        if self._made:
            self._workspace.write(self._key, parquet.encode_table(pa.concat_tables(self._made)))

    def _unchanged(self) -> pa.Table:
        """The rows of the objects that are the same now."""
        try:
            table = pq.read_table(io.BytesIO(self._workspace.read(self._key))).select(SCHEMA.names).cast(SCHEMA)
        except (NotFound, pa.ArrowException, KeyError):
            return SCHEMA.empty_table()
        return table.filter(self._are_listed(table)).combine_chunks()

    def _add(self, columns: dict[str, Any]) -> None:
        """Keeps rows of what was read, but for objects that changed since they were listed."""
        length = len(columns["key"])
        arrays = [
            pa.nulls(length, field.type) if field.name not in columns else _array(columns[field.name], field.type)
            for field in SCHEMA
        ]
        table = pa.table(arrays, names=SCHEMA.names)
        self._made.append(table.filter(self._are_listed(table)).cast(SCHEMA))

    def _are_listed(self, table: pa.Table) -> pa.ChunkedArray:
        """Whether each object has the ETag that was read; an empty one, of a store that declares none, says nothing."""
        listed = self._source.objects()
        at = pc.index_in(table["key"], value_set=listed["key"].combine_chunks())
        same = pc.and_(pc.equal(table["etag"], listed["etag"].take(at)), pc.not_equal(table["etag"], ""))
        return pc.fill_null(same, False)


def listed_before(workspace: Prefix, dataset: str) -> int:
    """How many objects a dataset had when it was last frozen; 0 if unknown."""
    try:
        return max(0, msgspec.json.decode(workspace.read(f"{_name(dataset)}.json"), type=dict[str, int])["objects"])
    except (NotFound, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return 0


def listing_of(context: Context, dataset: str) -> Callable[[int, int], None]:
    """Shows how far a dataset's listing is: called with the number of objects that are listed so far, and their bytes."""
    return functools.partial(context.listed, before=listed_before(context.workspace, dataset))


def keep_listed(workspace: Prefix, dataset: str, number: int) -> None:
    """Keeps how many objects a dataset has."""
    workspace.write(f"{_name(dataset)}.json", msgspec.json.encode({"objects": number}))


def _name(dataset: str) -> str:
    return f"{FOLDER}/{sha256(dataset.encode())[:32]}"


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)
