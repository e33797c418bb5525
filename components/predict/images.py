"""The images that a person names: files, folders, patterns of names, and prefixes of a store."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visionloop.core.encodings import is_half
from visionloop.core.errors import AccessDenied, DatasetChanged, InvalidConfig, InvalidDataset, NotFound
from visionloop.core.storage import ObjectInfo, Prefix, open_prefix
from visionloop.core.stores import local_path, normalise_uri, split_uri
from visionloop.data.headers import IMAGE_EXTENSIONS

#: The largest file that is read as an image, in bytes.
MAX_BYTES = 2**30

#: Called with a sentence about each image that can't be taken.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Picture:
    """An image that was named; it is read when its turn comes.

    Attributes:
        name: As the person named it, or below the folder or prefix that was named.
        prefix: Where it lies.
        key: Its key there.
        size: In bytes.
        etag: What it was listed with, as ``Listing`` has it; None takes whatever lies there.
    """

    name: str
    prefix: Prefix
    key: str
    size: int
    etag: str | None = None

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidDataset: If it is gone, too large, or a file that may not be read.
            DatasetChanged: If it has an ETag, and is gone or another one by now.
            AccessDenied: If its store refuses the keys.
        """
        if self.size > MAX_BYTES:
            raise InvalidDataset(
                f"{self.name}: {self.size:,} bytes are more than the {MAX_BYTES:,} of an image; shrink it."
            )
        try:
            data, etag = self.prefix.read_with_etag(self.key)
        except NotFound as error:
            if self.etag is not None:
                raise self._changed("gone") from error
            raise InvalidDataset(f"{self.name}: it is gone; put it back or leave it out.") from error
        except AccessDenied as error:
            if not self.prefix.on_files:
                raise
            raise InvalidDataset(f"{self.name}: it may not be read; give this user the right to.") from error
        if self.etag is not None:
            found = hashlib.sha256(data).hexdigest() if self.prefix.on_files else etag.strip('"')
            if len(data) != self.size or found != self.etag:
                raise self._changed("another one")
        return data

    def _changed(self, what: str) -> DatasetChanged:
        return DatasetChanged(
            f"{self.prefix.uri}/{self.key}: the image is {what} since the images were listed; run again: shards that are done stay."
        )


def named(arguments: Iterable[str], tell: Tell) -> list[Picture]:
    """The images that arguments name, each once, in the order of the arguments and there of their names.

    A file is taken whatever it is called; of a folder, a pattern (``photos/**/*.jpg``) and an ``s3://`` prefix those with the
    extension of an image.

    Args:
        arguments: Files, folders, patterns, ``file://`` and ``s3://`` URIs.
        tell: Told of each argument that leads to no image.

    Raises:
        AccessDenied: If a store refuses the keys.
        Transient: If a store does not answer.
    """
    found: dict[str, Picture] = {}
    for argument in arguments:
        try:
            pictures = list(_of(argument, tell))
        except (InvalidConfig, InvalidDataset) as error:
            tell(error.sentence)
            continue
        for picture in pictures:
            found.setdefault(picture.prefix.child(picture.key).uri, picture)
    return list(found.values())


def _of(argument: str, tell: Tell) -> Iterator[Picture]:
    """The images of one argument.

    Raises:
        InvalidDataset: If there are none.
        InvalidConfig: If it is neither a path nor a URI.
    """
    if is_half(argument):
        raise InvalidDataset(f"{argument!r}: its name is not UTF-8; rename it.")
    uri = normalise_uri(argument)
    path = local_path(uri)
    if path is None:
        one = _object(argument, uri)
        yield from (one,) if one else _below(argument, open_prefix(uri, "dataset"), tell)
    elif os.path.isdir(path):
        yield from _below(argument, open_prefix(uri, "dataset"), tell)
    elif os.path.exists(path):
        yield _file(argument, path)
    elif glob.has_magic(argument):
        yield from _matching(argument, path)
    else:
        raise InvalidDataset(f"{argument}: there is no such file or folder; correct the path.")


def _object(argument: str, uri: str) -> Picture | None:
    """The one object with this URI; None where there is none."""
    parent, key = split_uri(uri)
    if parent == "s3:/":  # a bucket alone
        return None
    prefix = open_prefix(parent, "dataset")
    try:
        return Picture(argument, prefix, key, prefix.head(key).size)
    except NotFound:
        return None


def _below(argument: str, prefix: Prefix, tell: Tell) -> Iterator[Picture]:
    """The images below a folder or a prefix, in the order of their keys."""
    base = argument.rstrip("/") or "/"

    def passed_over(key: str, kind: str) -> None:
        if is_image(key):
            tell(f"{base}/{key}: {kind}; it is passed over.")

    def found() -> list[ObjectInfo]:
        try:
            return [info for info in prefix.objects(passed_over=passed_over) if is_image(info.key)]
        except NotFound:
            return []

    listed = sorted(found(), key=lambda info: info.key)
    if not listed:
        raise InvalidDataset(
            f"{argument}: no image lies there ({', '.join(sorted(IMAGE_EXTENSIONS))}); name another place."
        )
    yield from (Picture(f"{base}/{info.key}", prefix, info.key, info.size) for info in listed)


def _matching(argument: str, pattern: Path) -> Iterator[Picture]:
    """The images whose paths a pattern fits, in the order of their names."""
    paths = sorted(path for path in glob.glob(str(pattern), recursive=True) if is_image(path) and os.path.isfile(path))
    if not paths:
        raise InvalidDataset(f"{argument}: no image has a name like that; correct the pattern.")
    for path in paths:
        if is_half(path):
            raise InvalidDataset(f"{path!r}: its name is not UTF-8; rename it.")
        yield _file(os.path.relpath(path) if not os.path.isabs(os.path.expanduser(argument)) else path, Path(path))


def _file(name: str, path: Path) -> Picture:
    """A file of this machine."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidDataset(f"{name}: it can't be read ({error.strerror}); correct the path.") from error
    return Picture(name, open_prefix(path.parent.as_uri(), "dataset"), path.name, size)


def is_image(key: str) -> bool:
    """Whether a key has the extension of an image."""
    return PurePosixPath(key).suffix.lower() in IMAGE_EXTENSIONS
