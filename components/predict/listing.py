"""The images of a prediction: all below a folder or a prefix, in the order of their keys, with what tells one of them from another."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.predict.images import Picture, is_image
from visionloop.core.errors import DatasetChanged, DatasetNotFound, NotFound
from visionloop.core.stage import Context
from visionloop.core.storage import ObjectInfo, Prefix
from visionloop.data.declared import sha256_of
from visionloop.data.headers import IMAGE_EXTENSIONS
from visionloop.data.sentences import passed_over_notice

#: One row for each image.
SCHEMA = pa.schema(
    [
        # Below the prefix; the image's name in the predictions.
        pa.field("key", pa.string(), nullable=False),
        # In bytes.
        pa.field("size", pa.int64(), nullable=False),
        # As its store declares it; in a folder its SHA-256.
        pa.field("etag", pa.string(), nullable=False),
    ]
)

#: How many images are Python objects at once.
AT_ONCE = 10_000

#: How many files a thread hashes before it reports them.
_HASHED_AT_ONCE = 16


@dataclass(frozen=True)
class Listing:
    """Images as they lie now.

    Attributes:
        prefix: Where they lie.
        table: As SCHEMA, in the order of the keys' UTF-8 bytes.
        passed_over: The keys of images that can't be read, each with what it is.
    """

    prefix: Prefix
    table: pa.Table
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def notices(self) -> list[str]:
        """What a person has to know of it; a sentence each."""
        passed = passed_over_notice(self.passed_over)
        return [passed] if passed else []

    def __len__(self) -> int:
        """The number of images."""
        return len(self.table)

    def digest(self, first: int = 0, last: int | None = None) -> str:
        """SHA-256 over key, size and ETag of some of the images: a JSON list of the three a line."""
        digest = hashlib.sha256()
        for rows in self._rows(first, last):
            digest.update(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        return digest.hexdigest()

    def pictures(self, first: int, last: int) -> Iterator[Picture]:
        """Some of the images."""
        for rows in self._rows(first, last):
            for key, size, etag in rows:
                yield Picture(key, self.prefix, key, size, etag)

    def keys(self) -> Iterator[str]:
        """The keys of all."""
        for batch in self.table.to_batches(max_chunksize=AT_ONCE):
            yield from batch["key"].to_pylist()

    def _rows(self, first: int, last: int | None) -> Iterator[list[tuple[str, int, str]]]:
        length = len(self.table) if last is None else last
        for batch in self.table.slice(first, length - first).to_batches(max_chunksize=AT_ONCE):
            yield list(zip(*(batch[name].to_pylist() for name in SCHEMA.names), strict=True))


def listed(prefix: Prefix, context: Context) -> Listing:
    """The images below a prefix. Files that can't be read are passed over.

    Args:
        prefix: Where they lie.
        context: Told how far it is.

    Raises:
        DatasetNotFound: If there are none.
        DatasetChanged: If a file goes while it is read.
        AccessDenied: If a store refuses the keys.
        Transient: If a store does not answer.
    """
    passed: dict[str, str] = {}

    def passed_over(key: str, kind: str) -> None:
        if is_image(key):
            passed[key] = kind

    parts: list[pa.Table] = []
    infos: list[ObjectInfo] = []
    number = size = 0

    def pack() -> None:
        columns = ([info.key for info in infos], [info.size for info in infos], [info.etag for info in infos])
        parts.append(
            pa.table([pa.array(values, entry.type) for values, entry in zip(columns, SCHEMA, strict=True)], SCHEMA)
        )
        infos.clear()

    try:
        for info in prefix.objects(passed_over=passed_over):
            if not is_image(info.key):
                continue
            infos.append(info)
            number, size = number + 1, size + info.size
            context.listed(number, size)
            if len(infos) == AT_ONCE:
                pack()
    except NotFound:
        raise DatasetNotFound(f"{prefix.uri}: there is no such bucket; correct the URI.") from None
    pack()
    if not number:
        extensions = ", ".join(sorted(IMAGE_EXTENSIONS))
        unread = f" ({notice.rstrip('.')})" if (notice := passed_over_notice(passed)) else ""
        raise DatasetNotFound(
            f"{prefix.uri}: no image lies there ({extensions}){unread}; name the folder or prefix of some."
        )
    table = pa.concat_tables(parts).combine_chunks()
    table = table.take(pc.sort_indices(table["key"]))
    return Listing(prefix, _hashed(prefix, table, context) if prefix.on_files else table, passed)


def _hashed(prefix: Prefix, table: pa.Table, context: Context) -> pa.Table:
    """The same with each file's SHA-256 for its ETag."""
    chunks, done = [], 0
    try:
        for batch in table.to_batches(max_chunksize=AT_ONCE):
            keys, hashes = batch["key"].to_pylist(), list[str]()
            parts = [keys[first : first + _HASHED_AT_ONCE] for first in range(0, len(keys), _HASHED_AT_ONCE)]
            for some in prefix.map(functools.partial(_hashes, prefix), parts):
                hashes += some
                context.advanced(done + len(hashes), len(table), "files")
            done += len(hashes)
            chunks.append(pa.array(hashes, pa.string()))
    except FileNotFoundError as error:
        raise DatasetChanged(f"{error.filename}: the image is gone since the images were listed; run again.") from None
    return table.set_column(2, SCHEMA.field("etag"), pa.chunked_array(chunks, pa.string()))


def _hashes(prefix: Prefix, keys: Sequence[str]) -> list[str]:
    """SHA-256 of files; empty for one that may not be read, which is told when its turn comes."""
    hashes = []
    for key in keys:
        try:
            hashes += sha256_of(prefix, [key])
        except PermissionError:
            hashes.append("")
    return hashes
