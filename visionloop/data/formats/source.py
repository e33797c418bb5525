"""A dataset as it lies in its store, as a format's reader sees it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import DatasetNotFound, NotFound
from visionloop.core.storage import Prefix
from visionloop.core.stores import local_path
from visionloop.data.lfs import refuse_pointer

#: What is listed: keys relative to the dataset's URI, and what the store declares of each. In a folder the ETag says nothing.
LISTED = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("version", pa.string()),
    ]
)

#: How many objects of a listing are held as Python objects.
_AT_ONCE = 20_000

#: How much of a large file is looked at before it is read.
_SEEN_BYTES = 256

#: Width and height in pixels of pictures, by row; 0 where a picture can't be read.
Sizes = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


@dataclass
class Source:
    """A dataset's objects, and what is asked of its reader.

    Attributes:
        prefix: Where it lies. A reader reads there and never writes.
        work: A folder on this machine for large files; its maker removes it.
        task: The task that is asked for; None takes what the dataset has.
        group: The field of the images whose value decides their split; None without such a rule.
        option: What names that field in the rule: ``group``, or ``time`` for dates.
        alive: Called while work goes on, as a sign of life.
        listing: Called with the number of objects that are listed so far, and their bytes.
        passed_over: The keys of objects that can't be read, each with what it is; filled by listing.
        pictures: Gives the sizes of pictures by key, as they are shown; for formats that state none.
        files: Gives small files' bytes by key, in place of reading them.
    """

    prefix: Prefix
    work: Path
    task: str | None = None
    group: str | None = None
    option: str = "group"
    alive: Callable[[], None] = lambda: None
    listing: Callable[[int, int], None] = lambda number, size: None
    passed_over: dict[str, str] = field(default_factory=dict)
    pictures: Callable[[pa.Array], Sizes] | None = None
    files: Callable[[str], bytes] | None = None
    _listed: dict[str, pa.Table] = field(default_factory=dict)
    _local: dict[str, Path] = field(default_factory=dict)

    @property
    def grouping(self) -> str:
        """The part of the split's rule that names the field, for errors: ``group=patient``."""
        return f"{self.option}={self.group}"

    def objects(self, below: str = "") -> pa.Table:
        """The objects below a key, as LISTED, in the store's order; listed once. Keys are relative to the dataset's URI."""
        if below and "" in self._listed and below not in self._listed:
            whole = self._listed[""]
            self._listed[below] = whole.filter(pc.starts_with(whole["key"], f"{below}/"))
        if below not in self._listed:
            prefix, above = (self.prefix.child(below), f"{below}/") if below else (self.prefix, "")
            infos = prefix.objects(passed_over=lambda key, kind: self.passed_over.__setitem__(above + key, kind))
            batches, number, size = [], 0, 0
            while listed := list(itertools.islice(infos, _AT_ONCE)):
                columns = (
                    [above + info.key for info in listed],
                    [info.size for info in listed],
                    [info.etag for info in listed],
                    [info.version for info in listed],
                )
                arrays = [pa.array(values, entry.type) for values, entry in zip(columns, LISTED, strict=True)]
                batches.append(pa.record_batch(arrays, schema=LISTED))
                number += len(listed)
                size += sum(info.size for info in listed)
                self.alive()
                self.listing(number, size)
            self._listed[below] = pa.Table.from_batches(batches, LISTED)
        return self._listed[below]

    @property
    def listed(self) -> int:
        """How many objects are listed."""
        return max(map(len, self._listed.values()), default=0)

    def read(self, key: str) -> bytes:
        """A small file's bytes.

        Raises:
            NotFound: If it is gone.
            InvalidDataset: If it is a Git LFS pointer.
        """
        data = self.prefix.read(key) if self.files is None else self.files(key)
        refuse_pointer(data, key)
        return data

    def local(self, key: str) -> Path:
        """A file on this machine with the bytes of a listed key, for files that may be larger than memory.

        Raises:
            DatasetNotFound: If it is gone.
            InvalidDataset: If it is a Git LFS pointer.
        """
        if key not in self._local:
            folder = local_path(self.prefix.uri)
            if folder is not None and (path := Path(folder, key)).is_file():
                self._local[key] = path
            else:
                target = self.work / f"source-{len(self._local)}"
                try:
                    self.prefix.download(key, target, self.alive)
                except NotFound:
                    raise DatasetNotFound(
                        f"{self.prefix.uri}/{key}: the file is gone; export the dataset again."
                    ) from None
                self._local[key] = target
            with self._local[key].open("rb") as file:
                refuse_pointer(file.read(_SEEN_BYTES), key)
        return self._local[key]

    def sizes(self, keys: pa.Array) -> Sizes:
        """Width and height of pictures, as they are shown, for a format that states none."""
        if self.pictures is not None:
            return self.pictures(keys)
        from visionloop.data.images import sizes

        return sizes(self.prefix, keys.to_pylist(), self.alive)
