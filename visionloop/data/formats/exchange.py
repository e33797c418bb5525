"""Writes a dataset in a format where nothing lies yet: its images first, then its annotations.

In a folder all is written beside it, and renamed at the end, so that what a kill leaves has another name; who writes there next removes that.
A store can't rename: there a file says from the first byte to the last that the dataset is not complete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound
from visionloop.core.folders import hold, remove_if_abandoned
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import Role, local_path
from visionloop.core.workspace import relation_of
from visionloop.data.annotations.tables import Annotations
from visionloop.data.formats import writer
from visionloop.data.formats.keys import counted
from visionloop.data.locations import Location, located
from visionloop.data.sentences import printable, shown

#: What lies in a store as long as a dataset there is not complete.
INCOMPLETE = "INCOMPLETE.txt"

#: How many images are on their way as Python objects.
_AT_ONCE = 10_000

#: How many small files are written at once.
_FILES_AT_ONCE = 1_000

#: The most bytes of a file that are held; above them it goes to the disk first.
_HELD = 2**24


@dataclass(frozen=True)
class Report:
    """What was written: how many images and files of annotations, and a sentence for each kind of thing that was not."""

    images: int
    files: int
    notices: tuple[str, ...]


def check_empty(uri: str, *sources: str, workspace: str | None = None) -> Prefix:
    """The destination of a dataset, where nothing lies.

    Args:
        uri: The destination's.
        sources: The URIs of the datasets that are read.
        workspace: That of the workspace that is read, if one is.

    Raises:
        InvalidConfig: If something lies there, or it lies in one of the others, or around it.
    """
    target = open_prefix(uri, "dataset")
    others: list[tuple[str, Role]] = [(source, "dataset") for source in sources]
    if workspace is not None:
        others.append((workspace, "results"))
    for other, role in others:
        if relation := relation_of(target.uri, "dataset", other, role):
            raise InvalidConfig(
                f"{target.uri} is {relation} {other}, which is only read; choose a destination beside it."
            )
    path = local_path(target.uri)
    if path is not None and (path.is_symlink() or (path.exists() and not path.is_dir())):
        raise InvalidConfig(
            f"{target.uri}: a file or a link lies there; choose a folder that is empty or does not exist."
        )
    with _denied(target.uri):
        first = next(iter(os.listdir(path)), None) if path is not None and path.exists() else None
    if path is None:
        try:
            first = next((info.key for info in target.objects()), None)
        except NotFound:
            raise InvalidConfig(f"{target.uri}: there is no such bucket; create it, or correct the URI.") from None
    if first == INCOMPLETE:
        raise InvalidConfig(
            f"{target.uri}: a dataset lies there that was not written to its end; remove it, or choose another destination."
        )
    if first is not None:
        raise InvalidConfig(
            printable(
                f"{target.uri}: {shown(first)} lies there, and nothing is overwritten; choose an empty destination."
            )
        )
    return target


def write_dataset(
    read: Annotations,
    source: Location,
    target: Prefix,
    name: str,
    work: Path,
    advanced: Callable[[str, int], None] = lambda kind, done: None,
) -> Report:
    """Writes a dataset; what lies at the destination was checked before.

    Args:
        read: The annotations; the keys of their images are those below ``source``.
        source: Where the images lie.
        target: Where the dataset is written.
        name: The format's.
        work: A folder for large files on this machine.
        advanced: Called with ``images`` or ``files`` and how many of these are written.

    Raises:
        InvalidConfig: If the format is not written, or does not hold the task.
        InvalidDataset: If the format can't hold a name.
    """
    written = writer(name)(read)
    removed = [
        f"{path.name} was left by a command that was interrupted: removed." for path in _remove_abandoned(target)
    ]
    with _destination(target) as destination:
        keys = read.images["key"].to_pylist()
        pairs = ((keys[row], key) for row, key in written.images)
        missing = _put_images(source, destination, pairs, functools.partial(advanced, "images"))
        files = _put_files(written.files, destination, work, functools.partial(advanced, "files"))
    notices = [*removed, *written.losses.notices()]
    if missing:
        words = counted(len(missing), "image does", "images do")
        notices.append(
            printable(f"{words} not exist ({missing[0]}): named without a picture, where the format names images.")
        )
    return Report(len(written.images) - len(missing), files, tuple(notices))


def _put_images(
    source: Location, target: Prefix, pairs: Iterator[tuple[str, str]], advanced: Callable[[int], None]
) -> list[str]:
    """Puts images to their keys; the keys of those that do not exist."""

    def put(pair: tuple[str, str]) -> str | None:
        try:
            target.copy_from(*located(source, pair[0]), pair[1])
        except NotFound:
            return pair[0]
        return None

    missing: list[str] = []
    done = 0
    while some := list(itertools.islice(pairs, _AT_ONCE)):
        for key in target.map(put, some):
            if key is not None:
                missing.append(key)
            done += 1
            advanced(done)
    return missing


def _put_files(
    files: Iterable[tuple[str, Iterable[bytes]]], target: Prefix, work: Path, advanced: Callable[[int], None]
) -> int:
    """Writes files of annotations, small ones several at once, the last one behind all others; returns their number."""
    small: list[tuple[str, bytes]] = []
    done = 0

    def flush(kept: int) -> None:
        nonlocal done
        some, small[:] = small[: len(small) - kept], small[len(small) - kept :]
        for _ in target.map(lambda file: target.write(*file), some):
            done += 1
            advanced(done)

    for key, parts in files:
        content = _content(parts, work)
        if isinstance(content, bytes):
            small.append((key, content))
            if len(small) > _FILES_AT_ONCE:
                flush(1)
            continue
        flush(0)
        target.upload(content, key)
        content.unlink()
        done += 1
        advanced(done)
    flush(1)
    flush(0)
    return done


def _content(parts: Iterable[bytes], work: Path) -> bytes | Path:
    """A file's bytes, or where they lie on the disk if they are many."""
    held = bytearray()
    large: Path | None = None
    for part in parts:
        held += part
        if len(held) > _HELD:
            large = work / "annotations"
            with large.open("ab") as file:
                file.write(held)
            held.clear()
    if large is None:
        return bytes(held)
    with large.open("ab") as file:
        file.write(held)
    return large


@contextlib.contextmanager
def _destination(target: Prefix) -> Iterator[Prefix]:
    """Where files are written so that a dataset that is not complete is seen to be so."""
    path = local_path(target.uri)
    if path is None:
        sentence = f"This dataset is not complete: its writing is going on, or was interrupted ({target.uri}).\n"
        if not target.create(INCOMPLETE, sentence.encode()):
            raise InvalidConfig(f"{target.uri}: another command writes there; choose another destination.")
        yield target
        target.delete([INCOMPLETE])
        return
    partial = path.with_name(f".{path.name}.{_host()}-{secrets.token_hex(4)}.partial")
    with _denied(target.uri):
        partial.mkdir(parents=True)
        held = hold(partial)
    try:
        yield open_prefix(partial.as_uri(), target.role)
        with _denied(target.uri):
            # An empty folder is replaced; one that was filled meanwhile is not.
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)


def _remove_abandoned(target: Prefix) -> list[Path]:
    """Removes what commands that are gone left beside a folder. One that is empty may be about to be filled: it stays."""
    path = local_path(target.uri)
    if path is None:
        return []
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{_host()}-[0-9a-f]{{8}}\.partial")
    removed = []
    with contextlib.suppress(OSError):  # what can't be listed is not removed either
        for name in sorted(os.listdir(path.parent)):
            folder = path.with_name(name)
            if pattern.fullmatch(name) and os.listdir(folder) and remove_if_abandoned(folder):
                removed.append(folder)
    return removed


def _host() -> str:
    """This host's name as 8 hex digits: on a network file system a lock may mean nothing to another host."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextlib.contextmanager
def _denied(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AccessDenied(f"{uri}: it can't be written ({error.strerror}); choose a folder that can.") from error
