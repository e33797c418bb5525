"""Reads images as their snapshot froze them: headers for validation, whole files through the node-wide cache.

The cache is shared by every process of a machine, filled whole or not at all, and kept under its limit by evicting what was
least recently used. An object's ETag and size name its file; neither says anything about the bytes (an ETag is opaque), so the
file's own SHA-256, computed while it was fetched, lies beside it and is checked before each use. A view of a dataset is made
of hard links, so an image that is evicted while in use stays until the view is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import struct
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from visionloop.core.errors import DatasetChanged, InvalidConfig, InvalidDataset, NotFound, SickMachine
from visionloop.core.files import atomic_write
from visionloop.core.pictures import MAX_PIXELS, UNREADABLE, open_picture
from visionloop.core.policy import CACHE_BYTES, CACHE_VARIABLE
from visionloop.core.processes import boot_id
from visionloop.core.storage import Prefix, writing
from visionloop.data.appearance import Appearance, appearance
from visionloop.data.decoding import Undecodable, decoded, shown_size
from visionloop.data.decoding import decode as decode  # the name that readers of images look for
from visionloop.data.headers import (
    ORIENTATIONS,
    QUARTER_TURNS,
    Header,
    Unsupported,
    exif_orientation,
    stated_orientation,
)
from visionloop.data.lfs import POINTER, REMEDY, is_pointer
from visionloop.data.locations import Location, located, uri_of
from visionloop.data.reduced import Reduction

#: Bytes read from an image's start to find its width and height; the whole image is read when they do not suffice.
HEADER_BYTES = 64 * 2**10

#: The number of EXIF's field (CIPA DC-008).
_ORIENTATION = 0x0112

#: The numbers of TIFF 6.0's fields, and SampleFormat's value for floating-point numbers.
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _FLOATS = 258, 339, 3

#: What other files begin with, where, and what they are.
_KINDS = (
    (0, b"GIF8", "a GIF picture"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "an icon file"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftyphev", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"v/1\1", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance picture"),
    *((0, b"P%d%c" % (number, space), "a PNM picture") for number in range(1, 8) for space in b"\n\r\t "),
)

#: How the name of a cached image's digest ends.
_DIGEST = ".json"

#: The length of a digest file, above that of any digest's JSON.
_DIGEST_BYTES = 512

#: How old a half-written file is that no process is writing any more: no image takes as long to fetch.
LEFTOVER_SECONDS = 3600.0

#: The environment variable that overrides CACHE_BYTES, in bytes.
CACHE_BYTES_VARIABLE = "VISIONLOOP_CACHE_BYTES"


class ImageRow(msgspec.Struct, frozen=True, gc=False):
    """One image of a snapshot.

    Attributes:
        file_name: Its name in every format.
        key: Its key relative to the dataset's prefix; of several datasets, with its dataset's name before it.
        size: In bytes; None where it is missing.
        etag: As its store declares it, in a folder its SHA-256; None where it is missing.
        version_id: The version in a store that keeps several.
        split: The split that it was given.
        width: In pixels, as it is shown; None where that is not known.
        height: The same.
        also: Another split that it counts for as well.
        reduction: How it is reduced in the cache; None keeps it as it is.
    """

    file_name: str
    key: str
    size: int | None
    etag: str | None
    version_id: str | None
    split: str
    width: int | None
    height: int | None
    also: str | None = None
    reduction: Reduction | None = None

    @property
    def room(self) -> int:
        """The bytes that it takes in the cache; an estimate where it is reduced."""
        if self.reduction is None or self.width is None or self.height is None:
            return self.size or 0
        return self.reduction.room(self.width, self.height)

    def fits(self, shown: tuple[int, int]) -> bool:
        """Whether width and height of the decoded file in the cache are those that the row says; where it says none, any are."""
        if not (self.width and self.height):
            return True
        size = (self.width, self.height)
        if self.reduction is not None and self.reduction.applies(*size):
            size = self.reduction.size(*size)
        return shown == size

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it counts for."""
        return (self.split,) if self.also is None else (self.split, self.also)


class OtherSize(ValueError):
    """A picture of another width and height than its labels were made for. The text says both."""


@dataclass(frozen=True)
class ImageCheck:
    """The result of inspecting one image: its header, what it is instead, or None if it can't be decoded; or why it differs from the frozen image.

    ``appearance`` is there where the image was decoded.
    """

    row: ImageRow
    header: Header | Unsupported | None
    missing: bool = False
    changed: bool = False
    appearance: Appearance | None = None


def inspect(
    location: Location, rows: Iterable[ImageRow], *, whole: bool, alive: Callable[[], None] = lambda: None
) -> Iterator[ImageCheck]:
    """Reads each image's header, or decodes the whole image (``whole``), and checks that it is still the frozen one."""

    def look(row: ImageRow) -> ImageCheck:
        if row.etag is None or row.size is None:
            return ImageCheck(row, None, missing=True)
        prefix, key = located(location, row.key)
        try:
            if whole or prefix.on_files or row.size <= HEADER_BYTES:
                data, changed = read_frozen(location, row)
            else:
                data, etag = prefix.read_start_with_etag(key, HEADER_BYTES)
                changed = etag != row.etag
        except NotFound:
            return ImageCheck(row, None, missing=True)
        if changed:
            return ImageCheck(row, None, changed=True)
        header, looks = examined(data, whole=whole)
        if header is None and not whole and len(data) < row.size:
            header = header_of(prefix.read(key), whole=False)
        return ImageCheck(row, header, appearance=looks)

    for result in location.map(look, rows):
        alive()
        yield result


def bytes_read(location: Location, rows: Iterable[ImageRow], *, whole: bool) -> int:
    """How many bytes ``inspect`` reads of images."""

    def read(row: ImageRow) -> int:
        size = row.size or 0
        return size if whole or located(location, row.key)[0].on_files else min(size, HEADER_BYTES)

    return sum(map(read, rows))


def read_frozen(location: Location, row: ImageRow) -> tuple[bytes, bool]:
    """An image's bytes, and whether they differ from the frozen ones. Raises NotFound."""
    prefix, key = located(location, row.key)
    data, etag = prefix.read_with_etag(key)
    identity = hashlib.sha256(data).hexdigest() if prefix.on_files else etag.strip('"')
    return data, len(data) != row.size or identity != row.etag


def header_of(data: bytes, *, whole: bool) -> Header | Unsupported | None:
    """What an image's first bytes say of it.

    Args:
        data: The bytes, all of them with ``whole``.
        whole: Whether to decode the picture too.

    Returns:
        The header; Unsupported for a file of a known kind that is not read; None for one that can't be decoded.
    """
    return examined(data, whole=whole)[0]


def examined(data: bytes, *, whole: bool) -> tuple[Header | Unsupported | None, Appearance | None]:
    """As ``header_of``, and what the picture looks like if it was decoded."""
    looks = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(data) as image:
                header = _header(image, data)
        if whole and isinstance(header, Header):
            with decoded(data) as pixels:
                looks = appearance(pixels)
                height, width = pixels.shape[:2]
            if (width, height) != (header.width, header.height):
                # Whatever the header was taken for, this is the picture that is trained on.
                header = dataclasses.replace(header, width=width, height=height, orientation=1)
    except UnidentifiedImageError:
        return _unsupported(data), None
    except PillowImage.DecompressionBombError:
        return Unsupported(f"a picture of more than {MAX_PIXELS:,} pixels", "shrink it, and label it again"), None
    except UNREADABLE:
        return None, None
    return header, looks


def _header(image: PillowImage.Image, data: bytes) -> Header | Unsupported:
    orientation, size = _orientation(image, data), image.size
    # Pillow turns a TIFF itself.
    turned = orientation in QUARTER_TURNS and image.format != "TIFF"
    bits, pictures = 8, 1 + bool(image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False))
    if image.format == "PNG":
        # PNG's first chunk: length, name, width, height of four bytes each, the bit depth.
        bits = max(8, data[24])
    elif image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = max(8, *tags.get(_BITS_PER_SAMPLE, (1,)))
        pictures = 1 + bool(getattr(tags, "next", 0))
        if bits > 16 or _FLOATS in tags.get(_SAMPLE_FORMAT, ()):
            numbers = "floating-point" if _FLOATS in tags.get(_SAMPLE_FORMAT, ()) else "whole"
            return Unsupported(f"a TIFF of {bits}-bit {numbers} numbers", "save it with 8 or 16 bits a channel")
    return Header(*(size[::-1] if turned else size), orientation, image.format, bits, pictures)


def _unsupported(data: bytes) -> Unsupported | None:
    """The kind of a file by its first or last bytes, where that is known."""
    if is_pointer(data):
        return Unsupported(POINTER, REMEDY)
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Unsupported("a web page", "upload the picture itself")
    for offset, mark, kind in _KINDS:
        if data[offset : offset + len(mark)] == mark:
            return Unsupported(kind)
    return Unsupported("a TGA picture") if data.endswith(b"TRUEVISION-XFILE.\0") else None


def _orientation(image: PillowImage.Image, data: bytes) -> int:
    """The EXIF orientation as browsers and OpenCV read it (no XMP); 1 where there is none, or none that counts."""
    if image.format == "TIFF":
        value = getattr(image, "tag_v2", {}).get(_ORIENTATION)
        return value if value in ORIENTATIONS else 1
    if image.format == "PNG" and "exif" not in image.info:
        return exif_orientation([_late_exif(data)])
    return stated_orientation(image)


def _late_exif(data: bytes) -> bytes:
    """A PNG's EXIF block that lies behind its pixels, where Pillow looks only once they are decoded; empty without one."""
    position = len(b"\x89PNG\r\n\x1a\n")
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += 12 + length
    return b""


class Seen(msgspec.Struct, frozen=True):
    """A file as it was when its digest was last checked: another file, or a changed one, differs in one of these.

    Not the ctime, which a hard link changes. ``boot`` is the id of the machine's boot: a disk may be damaged while it is off.
    """

    size: int
    mtime: int
    inode: int
    boot: str

    @classmethod
    def of(cls, path: Path | str) -> Seen:
        """The file as it is now. Raises OSError."""
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, boot_id())


class Digest(msgspec.Struct, frozen=True):
    """What lies beside a cached image: the SHA-256 of its bytes, the file at the last check, and width and height once it was decoded."""

    sha256: str
    seen: Seen
    shown: tuple[int, int] | None = None


#: Made before any thread decodes one: several that meet a type of msgspec's for the first time end the process.
_DIGESTS = msgspec.json.Decoder(Digest)


@dataclass(frozen=True)
class Entry:
    """An image in the cache: its file, its size in bytes, and when it was last used, in seconds since 1970."""

    path: Path
    size: int
    used: float


class ImageCache:
    """The node-wide cache: ``{folder}/objects/ab/abcd…``, and beside each image its ``Digest`` as ``….json``.

    The time of last use is the digest file's modification time, so that the image itself is never touched.
    """

    def __init__(self, folder: Path, limit: int = CACHE_BYTES) -> None:
        """``limit`` is in bytes."""
        self.folder, self.limit = folder, limit
        self.fetched = 0
        self.fetched_bytes = 0
        self._lock = threading.Lock()
        # The cache's size at the last look and what this process has fetched since; None before the first look.
        self._size: int | None = None
        # What this process is linking right now: evicting it would only have it fetched again.
        self._in_use: set[Path] = set()

    @classmethod
    def of_environment(cls) -> ImageCache:
        """The cache that VISIONLOOP_CACHE names, else one below the user's cache folder, else in the temporary folder.

        Raises:
            InvalidConfig: If VISIONLOOP_CACHE_BYTES is not a number of bytes.
        """
        named = os.environ.get(CACHE_VARIABLE)
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/tmp"), ".cache"))  # noqa: S108
        text = os.environ.get(CACHE_BYTES_VARIABLE, "").strip()
        if text and not (text.isascii() and text.isdigit()):
            raise InvalidConfig(f"{CACHE_BYTES_VARIABLE} is {text!r}; give a whole number of bytes.")
        return cls(Path(named) if named else home / "visionloop", int(text) if text else CACHE_BYTES)

    def path_of(self, row: ImageRow) -> Path:
        """The path of an image's file in the cache."""
        return Path(self._text_of(row))

    def _text_of(self, row: ImageRow) -> str:
        # A Path for each of a million files takes as long as all else that is done with it.
        identity = f"{row.etag}:{row.size}"
        if row.reduction is not None:
            identity = f"{identity}:{row.reduction.side}:{row.reduction.interpolation}"
        name = hashlib.sha256(identity.encode()).hexdigest()
        return f"{self.folder}/objects/{name[:2]}/{name}"

    def check_room(self, rows: Iterable[ImageRow]) -> None:
        """Refuses images that the disk can't hold before any of them is fetched; those of a view stay on it while it is used.

        Raises:
            InvalidConfig: If what is not here yet is more than the whole disk.
            SickMachine: If it is more than the disk has free now.
        """
        new = {path: row.room for row in rows if not os.path.exists(path := self._text_of(row))}
        needed = sum(new.values())
        disk = shutil.disk_usage(_existing(self.folder))
        fetched = f"{len(new):,} images with {needed / 1e6:,.1f} MB are to be fetched"
        if needed > disk.total:
            raise InvalidConfig(
                f"{fetched}, and the disk of the image cache ({self.folder}) has {disk.total / 1e6:,.1f} MB in all; give the stage "
                f"a larger one, name it in {CACHE_VARIABLE}, have images kept reduced (--set resize=SIDE), or train on fewer."
            )
        if needed > disk.free:
            raise SickMachine(
                f"{fetched}, but the machine's disk is full: {self.folder} has {disk.free / 1e6:,.1f} MB left; free some, "
                f"or name a larger disk in {CACHE_VARIABLE}."
            )

    def check_copies(self, folder: Path, rows: Iterable[ImageRow]) -> None:
        """Refuses a folder for a view that lies on another disk than the cache, where its images are copied, and can't hold them.

        Raises:
            InvalidConfig: If the images are more than the whole disk.
            SickMachine: If they are more than the disk has free now.
        """
        if os.stat(_existing(self.folder)).st_dev == os.stat(folder).st_dev:
            return  # they are linked
        size, disk = sum(row.room for row in rows), shutil.disk_usage(folder)
        if size <= disk.free:
            return
        error, left = (InvalidConfig, disk.total) if size > disk.total else (SickMachine, disk.free)
        raise error(
            f"{folder} lies on another disk than the image cache ({self.folder}), so that {size / 1e6:,.1f} MB of images are copied, and has "
            f"{left / 1e6:,.1f} MB {'in all' if left == disk.total else 'left'}: give TMPDIR a folder on the disk of {CACHE_VARIABLE}, where "
            "they are linked, or on a larger one."
        )

    def fetch(self, location: Location, row: ImageRow) -> Path:
        """The image's file in the cache; fetched and compared with the manifest if it is not there, or not what was fetched.

        Raises:
            DatasetChanged: If the image is gone or differs from the frozen one.
            Undecodable: If it is to be reduced, and can't be decoded.
            SickMachine: If the disk is full.
        """
        path = self.path_of(row)
        if self._is_intact(path):
            return path
        try:
            data, changed = self._frozen(location, row)
        except NotFound:
            raise DatasetChanged(
                f"{uri_of(location, row.key)}: the image is gone since its snapshot; restore it or take a new snapshot."
            ) from None
        if changed:
            raise DatasetChanged(
                f"{uri_of(location, row.key)}: the image changed since its snapshot; restore it or take a new snapshot."
            )
        if row.reduction is not None:
            data = row.reduction.picture(data)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                partial.write_bytes(data)
                _write_digest(path, Digest(hashlib.sha256(data).hexdigest(), Seen.of(partial)))
        with self._lock:
            self.fetched += 1
            self.fetched_bytes += len(data)
            if self._size is None:
                self._size = sum(entry.size for entry in self.entries())
            else:
                self._size += len(data)
            if self._size > self.limit:
                # Below the limit by a tenth, or the whole cache would be listed at each image from here on.
                self._trim(int(self.limit * 0.9))
        return path

    def _frozen(self, location: Location, row: ImageRow) -> tuple[bytes, bool]:
        """As ``read_frozen``; of an image that is to be reduced the file that lies here whole, if it is intact."""
        if row.reduction is not None and self._is_intact(
            whole := self.path_of(msgspec.structs.replace(row, reduction=None))
        ):
            with contextlib.suppress(FileNotFoundError):  # another process may evict it in between
                return whole.read_bytes(), False
        return read_frozen(location, row)

    def _is_intact(self, path: Path) -> bool:
        """Checks that a cached file still has the bytes that were fetched; hashes it unless nothing can have changed."""
        try:
            digest = _read_digest(path)
            seen = Seen.of(path)
            if seen == digest.seen and seen.boot:
                os.utime(_digest_path(path))
                return True
            if seen.size != digest.seen.size:
                return False
            with path.open("rb") as file:
                intact = hashlib.file_digest(file, "sha256").hexdigest() == digest.sha256
        except (OSError, msgspec.MsgspecError):
            return False
        if intact:
            with contextlib.suppress(OSError):
                _write_digest(path, msgspec.structs.replace(digest, seen=seen))
        return intact

    def fetch_picture(self, location: Location, row: ImageRow) -> Path:
        """``fetch``, and checks that the image can be decoded, once for a file, and has the size that its labels were made for.

        Raises:
            Undecodable: If the image can't be decoded.
            OtherSize: If its width and height are not the row's.
            FileNotFoundError: If another process evicted it in between.
        """
        path = self.fetch(location, row)
        digest = _read_digest(path)
        shown = digest.shown
        if shown is None:
            shown = shown_size(path.read_bytes())
            with contextlib.suppress(OSError):
                _write_digest(path, msgspec.structs.replace(digest, shown=shown))
        if not row.fits(shown):
            raise OtherSize(f"{shown[0]} × {shown[1]} and not {row.width} × {row.height}")
        return path

    def link_present(self, row: ImageRow, target: str | None) -> bool:
        """Puts an image into a view if it is here, was decoded once, and has not changed in this boot: tens of microseconds.

        Args:
            row: The image.
            target: As for ``link``; its folder must exist.

        Returns:
            Whether it is in the view now; False if it must be hashed, decoded or fetched first, or copied.
        """
        path = self._text_of(row)
        try:
            beside = os.open(f"{path}{_DIGEST}", os.O_RDONLY)  # a file object takes twice the time
        except OSError:
            return False
        try:
            digest = _DIGESTS.decode(os.read(beside, _DIGEST_BYTES))
            if digest.shown is None or not (
                row.fits(digest.shown) and digest.seen.boot and digest.seen == Seen.of(path)
            ):
                return False
            if target is not None:
                os.link(path, target)
            with contextlib.suppress(OSError):  # another user's file: it is linked, and looks unused
                os.utime(beside)
        except (OSError, msgspec.MsgspecError):
            return False
        finally:
            os.close(beside)
        return True

    def link(self, location: Location, row: ImageRow, target: Path | None) -> None:
        """Puts an image into a view: a hard link to the cache, a copy where the view lies on another file system.

        Args:
            location: Where it lies.
            row: The image.
            target: Its path in the view; None fetches it into the cache alone.

        Raises:
            Undecodable: If the image can't be decoded.
            OtherSize: If its width and height are not the row's.
        """
        path = self.path_of(row)
        with self._lock:
            self._in_use.add(path)
        try:
            while True:
                # Another process may evict the file in between.
                with contextlib.suppress(FileNotFoundError):
                    source = self.fetch_picture(location, row)
                    if target is not None:
                        _link_or_copy(source, target)
                    return
        finally:
            with self._lock:
                self._in_use.discard(path)

    def entries(self) -> Iterator[Entry]:
        """Every image in the cache, in no order."""
        for path in self.folder.glob("objects/*/*"):
            if path.suffix == _DIGEST or path.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                digest = _digest_path(path)
                used = digest.stat() if digest.exists() else path.stat()
                yield Entry(path, path.stat().st_size, used.st_mtime)

    def verify(self, entry: Entry) -> bool:
        """Hashes an image, whenever it was last checked; a damaged one is removed, and fetched again when it is next needed."""
        try:
            with entry.path.open("rb") as file:
                intact = hashlib.file_digest(file, "sha256").hexdigest() == _read_digest(entry.path).sha256
        except FileNotFoundError:
            # Another process evicted the image; without its digest nobody could use it.
            intact = not entry.path.exists()
        except (OSError, msgspec.MsgspecError):
            intact = False
        if not intact:
            _remove(entry.path)
        return intact

    def trim(self, limit: int | None = None) -> int:
        """Evicts the least recently used images until the cache fits a limit in bytes, its own if none is given.

        Returns:
            The number of bytes freed.
        """
        with self._lock:
            return self._trim(self.limit if limit is None else limit)

    def remove_leftovers(self) -> int:
        """Removes what killed processes left half-written more than an hour ago. Returns the number of bytes freed."""
        freed = 0
        for path in self.folder.glob("objects/*/.*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if time.time() - status.st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
                    freed += status.st_size
        return freed

    def _trim(self, limit: int) -> int:
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        size, freed = sum(entry.size for entry in entries), 0
        for entry in entries:
            if size - freed <= limit:
                break
            if entry.path not in self._in_use:
                _remove(entry.path)
                freed += entry.size
        self._size = size - freed
        return freed


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _digest_path(path).unlink(missing_ok=True)


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}{_DIGEST}")


def _link_or_copy(source: Path, target: Path) -> None:
    """Raises FileNotFoundError if the source is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        target.unlink(missing_ok=True)  # it may be a link to the very file
        with source.open("rb") as file, writing(target), target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def _read_digest(path: Path) -> Digest:
    """A cached image's digest. Raises OSError or MsgspecError."""
    return _DIGESTS.decode(_digest_path(path).read_bytes())


def _write_digest(path: Path, digest: Digest) -> None:
    """Writes a digest by one write of a fixed length, over the earlier one.

    Not by renaming a new file to it: replacing a file waits for the disk on ext4, longer than hashing an image takes. One that a
    kill left half-written is not JSON, and its image is fetched again.
    """
    file = os.open(_digest_path(path), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.write(file, msgspec.json.encode(digest).ljust(_DIGEST_BYTES))
    finally:
        os.close(file)


def materialise(
    location: Location,
    rows: Iterable[tuple[ImageRow, str | None]],
    cache: ImageCache,
    alive: Callable[[], None] = lambda: None,
) -> int:
    """Links each image to its path in a view, several at once; one without a path is fetched and decoded only.

    Returns:
        The number of images.

    Raises:
        InvalidConfig: If the images are more than the cache's disk.
        DatasetChanged: If an image is gone or differs from the frozen one.
        InvalidDataset: If images can't be decoded, or are of another size than their labels were made for; it names all of them.
        SickMachine: If the disk is full.
    """
    folders: set[str] = set()
    rest: list[tuple[ImageRow, str | None]] = []
    again: list[tuple[ImageRow, str | None]] = []
    count, undecodable, others = 0, dict[str, str](), dict[str, str]()
    for row, target in rows:
        if target is not None and (folder := target.rpartition("/")[0]) not in folders:
            folders.add(folder)
            with writing(Path(folder)):
                Path(folder).mkdir(parents=True, exist_ok=True)
        if cache.link_present(row, target):
            count += 1
            alive()
        elif rest and rest[-1][0].key == row.key:
            again.append((row, target))  # a repeated image: fetched once, then linked
        else:
            rest.append((row, target))
    cache.check_room(row for row, target in (*rest, *again) if target is not None)

    def work(pair: tuple[ImageRow, str | None]) -> None:
        row, target = pair
        try:
            cache.link(location, row, None if target is None else Path(target))
        except Undecodable as error:
            undecodable[row.key] = f"{row.key} is {error}"
        except OtherSize as error:
            others[row.key] = f"{row.key} is {error}"

    for _ in location.map(work, rest):
        count += 1
        alive()
    for row, target in again:
        if not cache.link_present(row, target):
            work((row, target))
        count += 1
        alive()
    if rest:
        cache.trim()
    if undecodable:
        images, them = _counted(undecodable)
        raise InvalidDataset(
            f"{location.uri}: {images} can't be decoded: {', '.join(sorted(undecodable.values()))}; replace {them}, or have {them} "
            "left out with --validate-mode full --on-error quarantine."
        )
    if others:
        images, them = _counted(others)
        raise InvalidDataset(
            f"{location.uri}: {images} of another width and height than the annotations say: {', '.join(sorted(others.values()))}; label {them} "
            f"as shown, or have {them} left out with --validate-mode full --on-error quarantine."
        )
    return count


def _counted(images: Collection[str]) -> tuple[str, str]:
    """The number of images in words, and the pronoun for them."""
    return ("an image", "it") if len(images) == 1 else (f"{len(images)} images", "them")


def sizes(
    prefix: Prefix, keys: list[str], alive: Callable[[], None] = lambda: None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Width and height of pictures as they are shown, read from the first bytes of each; 0 for one that can't be read."""
    widths, heights, _ = sizes_with_etags(prefix, keys, alive)
    return widths, heights


def sizes_with_etags(
    prefix: Prefix, keys: list[str], alive: Callable[[], None] = lambda: None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], list[str]]:
    """As ``sizes``, and the ETag of what was read of each; empty for one that is gone."""

    def look(key: str) -> tuple[int, int, str]:
        try:
            start, etag = prefix.read_start_with_etag(key, HEADER_BYTES)
            header = header_of(start, whole=False)
            if header is None and len(start) == HEADER_BYTES:
                whole, etag = prefix.read_with_etag(key)
                header, etag = header_of(whole, whole=False), etag.strip('"')
        except NotFound:
            return 0, 0, ""
        return (header.width, header.height, etag) if isinstance(header, Header) else (0, 0, etag)

    widths, heights = np.zeros(len(keys), np.int32), np.zeros(len(keys), np.int32)
    etags: list[str] = []
    for row, (width, height, etag) in enumerate(prefix.map(look, keys)):
        widths[row], heights[row] = width, height
        etags.append(etag)
        alive()
    return widths, heights, etags
