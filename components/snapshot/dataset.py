"""Reads a dataset from its store, whatever its format: the canonical annotations, and what the store declares of each image."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.snapshot.kept import Kept
from visionloop.components.snapshot.recognise import no_dataset
from visionloop.core.encodings import without_mark
from visionloop.core.errors import DatasetNotFound, InvalidDataset, NotFound
from visionloop.core.storage import Prefix
from visionloop.data.annotations.content import dataset_hash, digests
from visionloop.data.annotations.tables import SPLITS, Annotations
from visionloop.data.declared import sha256_of
from visionloop.data.dice.tasks import METADATA
from visionloop.data.formats import Source, formats
from visionloop.data.formats.nesting import DEEPEST, depth
from visionloop.data.formats.recognised import choose, folder_below
from visionloop.data.lfs import refuse_pointer
from visionloop.data.sentences import passed_over_notice, printable

#: The largest metadata.json that is read, in bytes.
LARGEST_METADATA = 16 * 2**20

#: How many files a thread hashes before it reports them.
_HASHED_AT_ONCE = 16

#: What a store declares of an image, by row; null for one that is missing.
DECLARED = pa.schema([("size", pa.int64()), ("etag", pa.string()), ("version", pa.string())])

#: Called with the number of images done and the total, and both in bytes, as a sign of life.
Advanced = Callable[[int, int, int, int], None]


@dataclass(frozen=True)
class SourceDataset:
    """A dataset as it is now.

    Attributes:
        read: Its annotations, the images in the order of their file names.
        declared: What the store declares of each image, as DECLARED.
        evidence: What showed the format; None where it was asked for.
        passed_over: The keys that can't be read, each with what it is.
    """

    read: Annotations
    declared: pa.Table
    evidence: str | None = None
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content(self) -> pa.FixedSizeBinaryArray:
        """The digest of each image."""
        return digests(self.read, self.declared)

    @property
    def dataset_hash(self) -> str:
        """The hash of the whole."""
        return dataset_hash(self.read, self.content)

    def notices(self) -> list[str]:
        """What it was read as, what reading it assumed, and what was passed over; a sentence each."""
        read = self.read
        lines = []
        if read.format != "dice":
            evidence = f" ({self.evidence})" if self.evidence else ""
            counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(read.images["split"]).to_pylist()}
            present = [split for split in (*SPLITS, None) if split in counted]
            counts = ", ".join(f"{split or 'without a split'} {counted[split]:,}" for split in present)
            lines.append(printable(f"read as {formats()[read.format].title}{evidence}, {read.task}: {counts}."))
        lines += read.notices
        if passed := passed_over_notice(self.passed_over):
            lines.append(passed)
        return lines


@contextlib.contextmanager
def opened(
    prefix: Prefix,
    task: str | None,
    alive: Callable[[], None] = lambda: None,
    listing: Callable[[int, int], None] = lambda number, size: None,
) -> Iterator[Source]:
    """A dataset's source, with a folder for large files that lasts as long as the context."""
    with tempfile.TemporaryDirectory(prefix="visionloop-") as work:
        yield Source(prefix, Path(work), task=task, alive=alive, listing=listing)


def remember(source: Source, workspace: Prefix) -> Kept | None:
    """Lets a source take from the workspace what did not change since it was read; None in a folder."""
    if source.prefix.on_files:
        return None
    kept = Kept(workspace, source)
    source.pictures, source.files = kept.sizes, kept.file
    return kept


def format_of(
    source: Source, name: str | None, option: str = "--dataset-format", *, again: bool = False
) -> tuple[str, str | None]:
    """The name of the format that a dataset is read as, and what shows it (None where it was asked for).

    Args:
        source: The dataset.
        name: The format that is asked for; None recognises it.
        option: The option that names one, for errors.
        again: Whether the name is what was recognised before: it counts as long as it fits.

    Raises:
        DatasetNotFound: If no dataset lies there; the sentence says what does.
        InvalidConfig: If several formats fit, or the requested one is not a format that is read.
    """
    try:
        chosen = choose(source, name, option, again=again)
        if chosen is not None:
            return chosen
        if folder := folder_below(source):
            uri = source.prefix.uri
            raise DatasetNotFound(f"{uri}: the dataset lies in a folder below; give {uri}/{folder}.")
        raise no_dataset(source.prefix, option)
    except NotFound:
        raise DatasetNotFound(f"{source.prefix.uri}: there is no such bucket; correct the URI.") from None


def declared_of(
    source: Source, keys: pa.ChunkedArray, below: str = "", advanced: Advanced = lambda done, total, size, whole: None
) -> pa.Table:
    """What the store declares of images, as DECLARED, by row. On files the ETag is the bytes' SHA-256.

    Args:
        source: The dataset.
        keys: The images' keys.
        below: A key below which all of them lie.
        advanced: Called with the number of images done, listed or on files hashed, and the total, and both in bytes.
    """
    listed = source.objects(below)
    at = pc.index_in(keys, value_set=listed["key"].combine_chunks())
    table = listed.select(DECLARED.names).take(at).combine_chunks()
    sizes = np.cumsum(pc.fill_null(table["size"], 0).to_numpy())
    whole = int(sizes[-1]) if len(sizes) else 0
    if source.prefix.on_files:
        present = np.flatnonzero(np.asarray(at.is_valid()))
        etags: list[str | None] = [None] * len(table)
        names = keys.take(pa.array(present)).to_pylist()
        parts = [names[first : first + _HASHED_AT_ONCE] for first in range(0, len(names), _HASHED_AT_ONCE)]
        done = 0
        for hashes in source.prefix.map(functools.partial(sha256_of, source.prefix), parts):
            for row, etag in zip(present[done : done + len(hashes)].tolist(), hashes, strict=True):
                etags[row] = etag
            done += len(hashes)
            advanced(done, len(present), int(sizes[present[done - 1]]), whole)
        table = table.set_column(1, "etag", pa.array(etags, pa.string()))
    else:
        advanced(len(table), len(table), whole, whole)
    return pa.table([table[name] for name in DECLARED.names], schema=DECLARED)


def read_metadata(prefix: Prefix) -> dict[str, Any]:
    """Reads DICE's ``metadata.json`` if it exists; any object is accepted, because its content was never specified."""
    try:
        size = prefix.head(METADATA).size
        if size > LARGEST_METADATA:
            raise InvalidDataset(
                f"{METADATA}: {size:,} bytes are more than the {LARGEST_METADATA:,} that are read; export the dataset again."
            )
        data = prefix.read(METADATA)
        refuse_pointer(data, METADATA)
        value = msgspec.json.decode(without_mark(data))
    except NotFound:
        return {}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{METADATA}: not JSON ({error}); export the dataset again.") from error
    except RecursionError:
        value = None
    if value is None or depth(value) > DEEPEST:
        raise InvalidDataset(f"{METADATA}: nested deeper than {DEEPEST} levels; export the dataset again.")
    if not isinstance(value, dict):
        raise InvalidDataset(f"{METADATA}: not a JSON object; export the dataset again.")
    return value
