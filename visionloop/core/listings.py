"""Listings that the stores' client can't make: of a folder with links and pipes in it, and of a bucket with a key that no path can hold."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from visionloop.core.stores import AWS, Role, credentials_of, endpoint_of

#: Told of each key that is passed over, with what it is, as in "a link to a folder above it".
PassedOver = Callable[[str, str], None]

#: Ending of the name of a file that a folder's client has not renamed yet (object_store, ``LocalFileSystem``).
PARTIAL = re.compile(r"#\d+$")

#: What the client can't hold as a path: an empty part, a relative folder, a control character, half of a surrogate pair.
_NO_PATH = re.compile(r"(^|/)(|\.|\.\.)(/|$)|[\x00-\x1f\x7f\ud800-\udfff]")


def walk(folder: Path, passed_over: PassedOver) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file below a folder by its path relative to it, in the order of names; links are followed, but never in a circle.

    A folder that does not exist is empty.

    Raises:
        OSError: If a folder can't be read.
    """
    # Folders that are still to be listed: the path, and the identities of the folders from the first down to it.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while waiting:
        path, above = waiting.pop()
        inner: list[tuple[str, tuple[tuple[int, int], ...]]] = []
        for entry, status in _level(folder / path):
            name = f"{path}/{entry.name}" if path else entry.name
            if isinstance(status, str):
                passed_over(name, status)
                continue
            if stat.S_ISREG(status.st_mode):
                yield name, status
                continue
            identity = (status.st_dev, status.st_ino)
            if identity in above or identity == _identity(folder):
                passed_over(name, "a link to a folder above it")
            else:
                inner.append((name, (*above, identity)))
        waiting += reversed(inner)


def level(folder: Path) -> tuple[list[str], list[tuple[str, os.stat_result]]]:
    """One level of a folder: the names of the folders in it, and its regular files; both are empty where it does not exist.

    Raises:
        OSError: If it can't be read.
    """
    entries = [(entry.name, status) for entry, status in _level(folder) if isinstance(status, os.stat_result)]
    files = [(name, status) for name, status in entries if stat.S_ISREG(status.st_mode)]
    return [name for name, status in entries if stat.S_ISDIR(status.st_mode)], files


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _level(folder: Path) -> list[tuple[os.DirEntry[str], os.stat_result | str]]:
    """A folder's entries by name, each with the status of what it leads to, or what it is that can't be read."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    whole = [entry for entry in entries if "#" not in entry.name or not PARTIAL.search(entry.name) or entry.is_dir()]
    return [(entry, status) for entry in whole if (status := _look(entry))]


def _look(entry: os.DirEntry[str]) -> os.stat_result | str:
    """The status of what an entry leads to, or what it is that can't be read; "" for one that is gone."""
    try:
        entry.name.encode()
        status = entry.stat()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    except FileNotFoundError:
        return "a link that leads nowhere" if entry.is_symlink() else ""
    except OSError:
        return "a link that leads in a circle, or to what can't be read"
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return status
    return "a pipe, a socket or a device"


def s3_client(role: Role) -> Any:
    """A client of a role's store that speaks S3 itself, for what the stores' client can't say."""
    import boto3
    from botocore.config import Config

    endpoint, pair = endpoint_of(role), credentials_of(role)
    config = Config(signature_version="s3v4", s3={"addressing_style": "auto" if endpoint == AWS else "path"})
    access, secret = pair or (None, None)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.client(
        "s3",
        endpoint_url=None if endpoint == AWS else endpoint,
        region_name=region,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=config,
    )


def bucket_pages(bucket: str, prefix: str, role: Role, after: str, delimiter: str) -> Iterator[Any]:
    """The answers of a store to a listing, as S3 gives them, page by page, behind the key ``after``.

    Raises:
        OSError: If the store does not answer, with the status code in its text.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = s3_client(role)
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": delimiter, "StartAfter": after}
    pages = client.get_paginator("list_objects_v2").paginate(**{name: value for name, value in asked.items() if value})
    try:
        yield from pages
    except ClientError as error:
        raise _answer(error) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error


def _answer(error: Any) -> OSError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return OSError(f"status code: {status:03d} {error}")


def copy_object(source_bucket: str, source: str, bucket: str, key: str, role: Role) -> None:
    """Has a store copy an object from one of its buckets to another.

    Raises:
        OSError: If it does not, with the status code in its text.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3_client(role).copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": source_bucket, "Key": source})
    except ClientError as error:
        raise _answer(error) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error


def unheld(key: str) -> bool:
    """Whether no path of the client can hold an object's key."""
    return bool(_NO_PATH.search(key.removesuffix("/")))
