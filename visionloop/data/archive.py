"""The labels' archive: a tar written and read as a stream, with nothing in it that differs from run to run."""

from __future__ import annotations

import itertools
import mmap
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from visionloop.core.storage import writing

#: Where a header holds the size, the checksum and the type (POSIX.1-1988, "ustar"), and how many bytes of a name it takes.
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 156)
_TYPE = 156
_NAME_BYTES = 100

#: How many members are written at once.
_AT_ONCE = 5_000


def write_archive(path: Path, labels: Iterable[tuple[str, str]], alive: Callable[[], None] = lambda: None) -> None:
    """Writes label files into a tar in the order in which they come, byte for byte as ``tarfile`` does, at a tenth of its time.

    Args:
        path: The tar's path.
        labels: Name in the tar and text of each label file.
        alive: Called now and then, as a sign of life.

    Raises:
        SickMachine: If the disk is full.
    """
    members = iter(labels)
    with writing(path), path.open("wb") as file:
        while batch := list(itertools.islice(members, _AT_ONCE)):
            parts: list[bytes] = []
            for name, text in batch:
                data = text.encode()
                parts += (_header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE))
            file.write(b"".join(parts))
            alive()
        file.write(bytes(2 * tarfile.BLOCKSIZE))
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE))


def _of_library(name: str, size: int) -> bytes:
    """A member's header as the library writes it, slowly; with a second one before it for a name that is long or not ASCII."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


#: A header without a name, of an empty file, and the sum of its bytes with spaces in place of the checksum.
_TEMPLATE = _of_library("", 0)
_SUM = sum(_TEMPLATE) - sum(_TEMPLATE[_CHECKSUM]) + 8 * ord(" ")


def _header(name: str, size: int) -> bytes:
    if not name.isascii() or len(name) > _NAME_BYTES:
        return _of_library(name, size)
    encoded, digits = name.encode(), b"%011o" % size
    checksum = _SUM + sum(encoded) + sum(digits) - len(digits) * ord("0")
    return b"".join(
        (
            encoded.ljust(_NAME_BYTES, b"\0"),
            _TEMPLATE[_NAME_BYTES : _SIZE.start],
            digits,
            _TEMPLATE[_SIZE.stop : _CHECKSUM.start],
            b"%06o\0 " % checksum,
            _TEMPLATE[_CHECKSUM.stop :],
        )
    )


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name and text of each label file in a tar that ``write_archive`` wrote, in its order; a tenth of ``tarfile``'s time.

    Raises:
        ValueError: If it is not such a tar.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, long_name = 0, ""
        while at + tarfile.BLOCKSIZE <= len(data) and data[at]:
            kind, size = data[at + _TYPE : at + _TYPE + 1], int(data[at + _SIZE.start : at + _SIZE.stop], 8)
            begin = at + tarfile.BLOCKSIZE
            at = begin + size + -size % tarfile.BLOCKSIZE
            if kind == tarfile.XHDTYPE:
                long_name = _path_record(data[begin : begin + size])
                continue
            if kind != tarfile.REGTYPE:
                raise ValueError(f"{path.name}: a member of the type {kind!r}")
            header = begin - tarfile.BLOCKSIZE
            name = long_name or data[header : header + _NAME_BYTES].rstrip(b"\0").decode()
            long_name = ""
            yield name, data[begin : begin + size]


def _path_record(records: bytes) -> str:
    """The name in an extended header, whose records are ``LENGTH KEY=VALUE`` and a line feed (POSIX.1-2001, "pax")."""
    while records:
        length = int(records.partition(b" ")[0])
        key, _, value = records[:length].partition(b" ")[2].partition(b"=")
        if key == b"path":
            return value[:-1].decode("utf-8", "surrogateescape")
        records = records[length:]
    return ""
