"""What stands for the bytes of files in a folder, of which no store declares an ETag."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from visionloop.core.errors import InvalidDataset
from visionloop.core.storage import Prefix
from visionloop.core.stores import local_path


def sha256_of(prefix: Prefix, keys: Sequence[str]) -> list[str]:
    """SHA-256 of files in a folder, which serves as their ETag.

    Raises:
        InvalidDataset: If it is no folder.
        OSError: If a file can't be read.
    """
    folder = local_path(prefix.uri)
    if folder is None:
        raise InvalidDataset(f"{prefix.uri} is not a folder.")
    hashes = []
    for key in keys:
        with open(f"{folder}/{key}", "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes
