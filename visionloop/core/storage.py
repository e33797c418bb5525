"""The one storage module: a prefix on S3 or in a folder, asked for by role.

Datasets (read only) and results may lie in different stores with their own endpoint and keys (docs/contract.md,
"Stores"). Everything that reads or writes an object goes through here, so errors, retries and conditions are decided once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import obstore
from obstore import exceptions as store_errors
from obstore.store import LocalStore

from visionloop.core.errors import (
    AccessDenied,
    Defect,
    InvalidConfig,
    InvalidDataset,
    NotFound,
    PreconditionFailed,
    SickMachine,
    Transient,
    VisionloopError,
    shortened,
)
from visionloop.core.files import atomic_write
from visionloop.core.listings import PARTIAL, PassedOver, bucket_pages, copy_object, level, unheld, walk
from visionloop.core.parallel import parallel_map
from visionloop.core.stores import VARIABLES, Role, endpoint_of, local_path, normalise_uri, s3_store, split_uri

Item = TypeVar("Item")
Made = TypeVar("Made")

#: Objects above this size are sent in parts of this size, in bytes.
PART_BYTES = 16 * 2**20
PARALLEL_TRANSFERS = 16

#: How often a call is made whose answer is cut off or does not come, and what the client says of one.
CALL_TRIES = 4
LOST_ANSWER = re.compile("HTTP error: request or response body error")

#: How a page of HTML begins, and the endings of the names of objects that may be one.
HTML = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
PAGES = (".html", ".htm", ".xhtml")


class ObjectInfo(msgspec.Struct, frozen=True, gc=False):
    """An object's metadata as its store declares it: key relative to the prefix, size in bytes, ETag, version id."""

    key: str
    size: int
    etag: str
    version: str | None = None
    modified: float = 0.0


@dataclass(frozen=True)
class Sent:
    """An uploaded object: its size in bytes and the SHA-256 of its bytes in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Prefix:
    """A prefix of a bucket, or a folder, that holds objects. ``uri`` has no trailing slash."""

    uri: str
    role: Role
    store: Any = field(repr=False, compare=False)
    path: str = ""

    @property
    def on_files(self) -> bool:
        """Whether this is a folder rather than an object store."""
        return isinstance(self.store, LocalStore)

    def child(self, key: str) -> Prefix:
        """The prefix one or more levels below."""
        key = key.strip("/")
        path = self._key(key)
        uri = Path(f"/{path}").as_uri() if self.on_files else f"{self.uri}/{key}"
        return Prefix(uri, self.role, self.store, path)

    def _key(self, key: str) -> str:
        return f"{self.path}/{key}" if self.path else key

    def exists(self, key: str) -> bool:
        """Whether ``key`` exists."""
        try:
            self.head(key)
        except NotFound:
            return False
        return True

    def head(self, key: str) -> ObjectInfo:
        """The metadata of ``key``. Raises NotFound."""
        self._refuse_special(key)  # the client opens a file to tell its size
        with self._errors("read", key):
            meta = obstore.head(self.store, self._key(key))
        return self._info(key, meta)

    def read(self, key: str) -> bytes:
        """The bytes at ``key``. Raises NotFound."""
        return self.read_with_etag(key)[0]

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """The bytes at ``key`` and their ETag, for a conditional write. Raises NotFound."""
        self._refuse_special(key)
        with self._errors("read", key):
            answer = _asked(lambda: obstore.get(self.store, self._key(key)))
            data = bytes(answer.bytes())
            self._refuse_page(key, data)
            return data, str(answer.meta["e_tag"] or "")

    def read_start(self, key: str, size: int) -> bytes:
        """The first ``size`` bytes at ``key``, fewer if the object is smaller. Raises NotFound."""
        return self.read_start_with_etag(key, size)[0]

    def read_start_with_etag(self, key: str, size: int) -> tuple[bytes, str]:
        """As ``read_start``, and the object's ETag, which the same answer holds. Raises NotFound."""
        self._refuse_special(key)
        with self._errors("read", key):
            try:
                answer = _asked(lambda: obstore.get(self.store, self._key(key), options={"range": (0, size)}))
            except store_errors.BaseError:
                # A store refuses a range of an empty object.
                meta = obstore.head(self.store, self._key(key))
                if int(meta["size"]) == 0:
                    return b"", self._info(key, meta).etag
                raise
            data = bytes(answer.bytes())
            self._refuse_page(key, data)
            return data, self._info(key, answer.meta).etag

    def read_end(self, key: str, size: int) -> bytes:
        """The last ``size`` bytes at ``key``, fewer if the object is smaller. Raises NotFound."""
        whole = self.head(key).size
        if not whole:
            return b""
        with self._errors("read", key):
            start = max(0, whole - size)
            return bytes(_asked(lambda: obstore.get_range(self.store, self._key(key), start=start, end=whole)))

    def write(self, key: str, data: bytes) -> Sent:
        """Writes ``data`` at ``key``, replacing any object."""
        with self._errors("write", key):
            obstore.put(self.store, self._key(key), io.BytesIO(data), use_multipart=False)
        return Sent(len(data), hashlib.sha256(data).hexdigest())

    def create(self, key: str, data: bytes) -> bool:
        """Writes ``data`` at ``key`` only if ``key`` does not exist (``If-None-Match: *``; ``link`` on files).

        False may also follow a write of one's own whose answer was lost: who needs to know reads the object.
        """
        try:
            self._write_if(key, data, "create")
        except PreconditionFailed:
            return False
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Writes ``data`` at ``key`` only if its ETag still is ``etag``.

        On files the check and the rename are two steps, under a lock on the folder.

        Raises:
            PreconditionFailed: If the object has changed or is gone, perhaps by this very call, whose first answer was lost.
        """
        try:
            if not self.on_files:
                self._write_if(key, data, {"e_tag": etag})
                return
            with self._errors("write", key), _locked(Path(f"/{self._key(key)}").parent):
                if self.read_with_etag(key)[1] != etag:
                    raise PreconditionFailed(key)
                self.write(key, data)
        except NotFound:
            raise PreconditionFailed(key) from None

    def _write_if(self, key: str, data: bytes, condition: Any) -> None:
        with self._errors("write", key):
            _asked(
                lambda: obstore.put(self.store, self._key(key), io.BytesIO(data), mode=condition, use_multipart=False)
            )

    def upload(self, local: Path, key: str, alive: Callable[[], None] = lambda: None) -> Sent:
        """Sends a file in parts; ``alive`` is called after each part. Returns size and SHA-256 of what was sent."""
        digest = hashlib.sha256()
        size = 0
        if not local.is_file():
            raise Defect(f"{local}: there is no such file to send as {key}")

        def parts() -> Iterator[bytes]:
            nonlocal size
            with local.open("rb") as file:
                while block := file.read(PART_BYTES):
                    digest.update(block)
                    size += len(block)
                    yield block
                    alive()

        with self._errors("write", key):
            if local.stat().st_size <= PART_BYTES:
                data = b"".join(parts())
                obstore.put(self.store, self._key(key), io.BytesIO(data), use_multipart=False)
            else:
                obstore.put(self.store, self._key(key), parts(), chunk_size=PART_BYTES)
        return Sent(size, digest.hexdigest())

    def download(self, key: str, local: Path, alive: Callable[[], None] = lambda: None) -> Sent:
        """Fetches ``key`` into a file, whole or not at all. Raises NotFound; SickMachine if the disk is full."""
        digest = hashlib.sha256()
        size = 0
        with writing(local):
            local.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_special(key)
        with self._errors("read", key):
            blocks = self._blocks(key)
            with writing(local), atomic_write(local) as partial, partial.open("wb") as file:
                for data in blocks:
                    file.write(data)
                    digest.update(data)
                    size += len(data)
                    alive()
        return Sent(size, digest.hexdigest())

    def checksum(self, key: str, alive: Callable[[int], None] = lambda size: None) -> Sent:
        """Reads ``key`` whole and keeps nothing of it; ``alive`` is called with the bytes of each block. Raises NotFound."""
        digest = hashlib.sha256()
        size = 0
        self._refuse_special(key)
        with self._errors("read", key):
            for data in self._blocks(key):
                digest.update(data)
                size += len(data)
                alive(len(data))
        return Sent(size, digest.hexdigest())

    def _blocks(self, key: str) -> Iterator[bytes]:
        """The bytes at ``key`` in blocks, asked for at once; errors are the client's own."""
        answer = _asked(lambda: obstore.get(self.store, self._key(key)))

        def blocks() -> Iterator[bytes]:
            for number, block in enumerate(answer.stream(min_chunk_size=2**20)):
                data = bytes(block)
                if not number:
                    self._refuse_page(key, data)
                yield data

        return blocks()

    def link(self, key: str, seconds: int) -> str:
        """A link to an object for somebody without keys: presigned for so many seconds; of a folder the file's own URI."""
        if self.on_files:
            return self.child(key).uri
        with self._errors("read", key):
            return str(obstore.sign(self.store, "GET", self._key(key), timedelta(seconds=seconds)))

    def objects(self, under: str = "", passed_over: PassedOver = lambda key, kind: None) -> Iterator[ObjectInfo]:
        """Every object below ``under``, in the store's order; keys are relative to this prefix.

        ``passed_over`` is called with each that can't be read: of a folder pipes, devices and links in a circle; of a bucket keys that no
        path holds, such as ``a//b``.
        """
        start = self._key(under.strip("/")) if under else self.path
        empty = True
        with self._errors("list", under or "."):
            if self.on_files:
                if under and unheld(under):
                    raise _bad_key(f"{self.uri}/{under}")
                above = f"{under.strip('/')}/" if under else ""
                for path, status in walk(Path("/", start), lambda path, kind: passed_over(above + path, kind)):
                    yield _file_info(above + path, status)
                return
            last, lost = "", 0
            try:
                while True:
                    try:
                        for batch in obstore.list(
                            self.store, prefix=start or None, offset=last or None, chunk_size=1000
                        ):
                            for meta in batch:
                                empty = False
                                last = str(meta["path"])
                                yield self._info(self._relative(last), meta)
                            lost = 0
                        break
                    except store_errors.GenericError as error:
                        lost += 1
                        if lost == CALL_TRIES or not LOST_ANSWER.search(str(error)):
                            raise
                if empty:
                    self._refuse_pages(start)
                return
            except store_errors.InvalidPathError:
                pass  # one key that no path holds; the client refuses the whole listing
            for answer in self._pages(start, last):
                yield from self._held(answer, passed_over)

    def children(self, under: str = "") -> tuple[list[str], list[ObjectInfo]]:
        """One level: the names of the folders below ``under``, and the objects directly in it."""
        start = self._key(under.strip("/")) if under else self.path
        with self._errors("list", under or "."):
            if self.on_files:
                folders, files = level(Path("/", start))
                above = f"{under.strip('/')}/" if under else ""
                return folders, [_file_info(above + name, status) for name, status in files]
            try:
                answer = _asked(lambda: obstore.list_with_delimiter(self.store, prefix=start or None))
            except store_errors.InvalidPathError:
                pages = list(self._pages(start, "", delimiter="/"))
                prefixes = {str(entry["Prefix"]) for page in pages for entry in page.get("CommonPrefixes", ())}
                names = {prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in prefixes if not unheld(prefix)}
                return sorted(names), [info for page in pages for info in self._held(page, lambda key, kind: None)]
            if not answer["common_prefixes"] and not answer["objects"]:
                self._refuse_pages(start)
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in answer["common_prefixes"]}
        return sorted(names), [self._info(self._relative(str(meta["path"])), meta) for meta in answer["objects"]]

    def _pages(self, start: str, after: str, delimiter: str = "") -> Iterator[Mapping[str, Any]]:
        """A listing as the store itself gives it, behind the key ``after``."""
        return bucket_pages(self._bucket, f"{start}/" if start else "", self.role, after, delimiter)

    def _held(self, page: Mapping[str, Any], passed_over: PassedOver) -> Iterator[ObjectInfo]:
        """The objects of a page that a path holds; ``passed_over`` is called with the others."""
        for entry in page.get("Contents", ()):
            key = str(entry["Key"])
            if unheld(key):
                passed_over(self._relative(key), "a key with an empty part, '.', '..' or a control character")
            elif not key.endswith("/"):
                etag = str(entry.get("ETag") or "").strip('"')
                modified = entry["LastModified"].timestamp()
                yield ObjectInfo(self._relative(key), int(entry["Size"]), etag, None, modified)

    def _relative(self, path: str) -> str:
        return path[len(self.path) + 1 :] if self.path else path

    def delete(self, keys: Iterable[str]) -> int:
        """Removes objects; a missing one counts as removed. Returns the number of keys."""
        paths = [self._key(key) for key in keys]
        for path in paths:
            with contextlib.suppress(NotFound), self._errors("delete", path):
                _asked(functools.partial(obstore.delete, self.store, path))
        return len(paths)

    def discard_partial(self, under: str = "") -> tuple[int, int]:
        """Removes the files that killed writes left in a folder; only for a prefix that nothing writes to meanwhile.

        A folder's client writes to ``name#1``, which no listing shows, and then renames it. An object store hides the parts
        of an interrupted upload; its own lifecycle rule removes them.

        Returns:
            The number of removed files, and their size in bytes.

        Raises:
            InvalidDataset: If ``under`` leads out of this prefix.
        """
        if not self.on_files:
            return 0, 0
        if ".." in under.split("/"):
            raise _bad_key(under)
        count = size = 0
        for path in Path("/", self.path, under.strip("/")).rglob("*#*"):
            if PARTIAL.search(path.name) and path.is_file():
                with contextlib.suppress(NotFound), self._errors("delete", path.name):
                    size += path.stat().st_size
                    path.unlink()
                    count += 1
        return count, size

    def copy(self, source: str, target: str) -> None:
        """Copies an object within this prefix. Raises NotFound."""
        with self._errors("copy", source):
            _asked(lambda: obstore.copy(self.store, self._key(source), self._key(target)))

    def copy_from(self, source: Prefix, key_there: str, key: str) -> None:
        """Puts an object of another prefix here without changing it.

        Between folders it is a hard link, or a copy where the file system has no link; within a store the store copies it;
        else its bytes are fetched and written.

        Raises:
            NotFound: If the source has no such object.
            InvalidDataset: If it is a pipe, a socket or a device.
        """
        if self.on_files and source.on_files:
            source._refuse_special(key_there)
            with self._errors("copy", key):
                _link(Path(f"/{source._key(key_there)}"), Path(f"/{self._key(key)}"))
        elif self.on_files or source.on_files or self.role != source.role:
            self.write(key, source.read(key_there))
        elif self._bucket == source._bucket:
            with self._errors("copy", key_there):
                _asked(lambda: obstore.copy(self.store, source._key(key_there), self._key(key)))
        else:
            with self._errors("copy", key_there):
                copy_object(source._bucket, source._key(key_there), self._bucket, self._key(key), self.role)

    @property
    def _bucket(self) -> str:
        return self.uri.removeprefix("s3://").partition("/")[0]

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """Runs ``work`` on each item (a key, say) with several transfers at once; results in the items' order.

        At the first error, or when the caller stops taking results, items that have not begun are dropped.
        """
        return parallel_map(work, items, PARALLEL_TRANSFERS)

    def _refuse_special(self, key: str) -> None:
        """Refuses a pipe, socket or device in a folder before it is opened: reading one waits for ever, or never ends.

        Raises:
            InvalidDataset: If it is one, and this is a dataset.
            InvalidConfig: If it is one, and this is not.
        """
        if not self.on_files:
            return
        try:
            mode = os.stat(f"/{self._key(key)}").st_mode
        except (OSError, ValueError):
            return  # the client's own error says what is wrong
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            error = InvalidDataset if self.role == "dataset" else InvalidConfig
            raise error(f"{self.uri}/{key}: this is not a file but a pipe, a socket or a device; put a file there.")

    def _refuse_pages(self, path: str) -> None:
        """Sees that an empty list came from a store: the client takes any XML, also a page in XHTML, for a list of nothing.

        A store has no object of a random name; a proxy or a login that answers everything with its page has.

        Raises:
            Transient: If it has.
        """
        if self.on_files:
            return
        try:
            obstore.head(self.store, f"{path}/{uuid.uuid4().hex}".lstrip("/"))
        except (store_errors.BaseError, OSError):
            return
        raise self._page(path)

    def _refuse_page(self, key: str, start: bytes) -> None:
        """Raises Transient for a page of HTML in place of an object of another kind; ``start`` is its first bytes."""
        if not self.on_files and not key.lower().endswith(PAGES) and HTML.match(start[:1024]):
            raise self._page(key)

    def _page(self, key: str) -> Transient:
        return Transient(
            f"{self.uri}/{key}: {endpoint_of(self.role)} answers with a web page instead of the {self.role} store's data; "
            "see whether a proxy or a login stands before the store."
        )

    def _info(self, key: str, meta: Mapping[str, Any]) -> ObjectInfo:
        etag = str(meta["e_tag"] or "").strip('"')
        return ObjectInfo(key, int(meta["size"]), etag, meta.get("version"), meta["last_modified"].timestamp())

    @contextlib.contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        """Turns the exceptions of the store's client into the errors of ``visionloop.core.errors``."""
        where = f"{self.uri}/{key}" if not key.startswith(self.path + "/") or not self.path else f"{self.uri} ({key})"
        try:
            yield
        except (VisionloopError, NotFound, PreconditionFailed):
            raise
        except FileNotFoundError as error:
            raise NotFound(where) from error
        except (store_errors.AlreadyExistsError, store_errors.PreconditionError) as error:
            raise PreconditionFailed(where) from error
        except (store_errors.PermissionDeniedError, store_errors.UnauthenticatedError, PermissionError) as error:
            raise self._denied(action, where) from error
        except (store_errors.InvalidPathError, UnicodeEncodeError) as error:
            raise _bad_key(where) from error
        except (ValueError, TypeError) as error:
            if not re.match(r"Could not parse path|Expected string path", str(error)):
                raise
            raise _bad_key(where) from error
        except (store_errors.BaseError, OSError) as error:
            raise self._unexpected(action, where, error) from error

    def _denied(self, action: str, where: str) -> AccessDenied:
        keys = "the folder's permissions" if self.on_files else f"{VARIABLES[self.role][0]}ACCESS_KEY and …SECRET_KEY"
        return AccessDenied(f"{where}: the {self.role} store refused to {action}; check {keys}.")

    def _unexpected(self, action: str, where: str, error: Exception) -> Exception:
        """The error for an exception without a class of its own: by HTTP status and S3 code, or by the system's errno."""
        text = " ".join(str(error).split())
        # The client's message contains the object's key, which may hold any text: only patterns of the client's own count.
        match = re.search(r"status code: (\d{3})", text)
        status = int(match.group(1)) if match else 0
        match = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
        code = (match.group(1) or match.group(2)) if match else ""
        match = re.search(r"\(os error (\d+)\)", text)
        number = int(match.group(1)) if match else getattr(error, "errno", None)
        below_a_file = number == errno.ENOTDIR and action != "write"
        if status == 404 or code in ("NoSuchBucket", "NoSuchKey") or below_a_file:
            return NotFound(where)
        if status in (409, 412):
            return PreconditionFailed(where)
        if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "AccessDenied"):
            return self._denied(action, where)
        if status == 507 or number in (errno.ENOSPC, errno.EDQUOT):
            return Transient(f"{where}: no space is left in the {self.role} store; free some and run again.")
        if number in _NEVER or (number == errno.ENOENT and action == "write" and self.on_files):
            return AccessDenied(
                f"{where}: the {self.role} store can't {action} there; choose a folder that can be written."
            )
        if number == errno.ENAMETOOLONG or code == "KeyTooLongError" or "Filenames containing trailing" in text:
            return _bad_key(where)
        endpoint = "" if self.on_files else f" at {endpoint_of(self.role)}"
        if status == 500:
            # Stores have no code for a full disk: SeaweedFS, for example, only answers InternalError.
            space = " and see that it has space left" if action in ("write", "copy") else ""
            return Transient(
                f"{where}: the {self.role} store{endpoint} fails to {action} ({_cause(text)}); look into its log{space}."
            )
        return Transient(
            f"{where}: the {self.role} store{endpoint} does not answer ({_cause(text)}); see that it runs and is reached."
        )


def _asked(call: Callable[[], Made]) -> Made:
    """Makes a call, again if its answer is lost: the client itself does so for plain writes and for the bytes of an object that it reads.

    What is called may so be done twice, which makes no difference to a deletion, to a copy, or to a write under a condition.
    """
    for _ in range(CALL_TRIES - 1):
        try:
            return call()
        except store_errors.GenericError as error:
            if not LOST_ANSWER.search(str(error)):
                raise
    return call()


def _link(source: Path, target: Path) -> None:
    """A hard link to what a path leads to, or a copy where there can't be one."""
    # A link to a link would lead nowhere once that is moved.
    source = source.resolve(strict=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        with atomic_write(target) as partial:
            shutil.copyfile(source, partial)


def _file_info(key: str, status: os.stat_result) -> ObjectInfo:
    """A file's metadata; its ETag is in the form of the client's own: inode, time in microseconds and size."""
    etag = f"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, etag, None, status.st_mtime_ns // 1000 / 1e6)


#: What a folder answers for good: it is a file, read-only, forbidden, a loop of links, or of a kind that holds no files.
_NEVER = (
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.EOPNOTSUPP,
    errno.ENXIO,
    errno.ENODEV,
)


def _bad_key(where: str) -> InvalidDataset:
    return InvalidDataset(
        f"{where[:300]}: the object key is not allowed; rename it to one without '..', empty parts and control characters,"
        " at most 255 bytes a part and no '#' and digits at its end."
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks a folder for this thread, where its file system supports locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _cause(text: str) -> str:
    """The part of a client's message that a person can use, without its retry statistics."""
    # From the specific to the general: a refused connection is also a "tcp connect error".
    for cause in ("Connection refused", "Connection reset", "dns error", r"\w+ timed out", "tcp connect error"):
        if match := re.search(cause, text, re.IGNORECASE):
            return match.group()
    match = re.search(r"(?<=status code: )\d{3} [\w ]+", text)
    if match:
        return match.group().strip()
    return shortened(text.partition(" Debug source")[0].rpartition(" - ")[2], 160)


@contextlib.contextmanager
def writing(local: Path) -> Iterator[None]:
    """Turns an OSError about a full or unwritable disk of this machine into a Visionloop error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SickMachine(f"{local}: the machine's disk is full; free space or choose another TMPDIR.") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENOENT):
            raise AccessDenied(f"{local}: the folder can't be written; choose another TMPDIR.") from error
        if error.errno == errno.EIO:
            raise SickMachine(f"{local}: the machine's disk fails to write; replace it or use another node.") from error
        raise


def open_prefix(uri: str, role: Role) -> Prefix:
    """Opens the prefix that ``uri`` names; no request is made yet.

    Raises:
        InvalidConfig: If the URI is of an unknown kind.
        AccessDenied: If there are no keys, or only one of the pair.
    """
    uri = normalise_uri(uri)
    folder = local_path(uri)
    if folder is not None:
        # The store is rooted at / so that a folder that does not exist yet counts as empty.
        return Prefix(uri, role, LocalStore("/"), str(folder).strip("/"))
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    return Prefix(uri, role, s3_store(bucket, role), path)


def read_uri(uri: str, role: Role) -> bytes:
    """The bytes of one object named by its full URI. Raises NotFound."""
    parent, name = split_uri(uri)
    return open_prefix(parent, role).read(name)
