"""The image of a task: the key that ends with the longest tail of what the task says."""

from __future__ import annotations

import re
from functools import cached_property
from urllib.parse import parse_qs, unquote, urlsplit

from visionloop.core.errors import InvalidDataset
from visionloop.data.formats.hints import near
from visionloop.data.formats.keys import Keys
from visionloop.data.formats.names import checked
from visionloop.data.sentences import shown

#: What an upload puts before a file's name.
_UPLOAD = re.compile(r"[0-9a-f]{8}-")

#: The path of images that the server reads from its own disk.
_LOCAL_FILES = "/data/local-files"


class Images:
    """Finds the images of tasks among a dataset's keys."""

    def __init__(self, keys: Keys) -> None:
        """``keys`` are the dataset's."""
        self.keys = keys
        self.without_upload: dict[str, list[str]] = {}
        for name, same in keys.by_name.items():
            if match := _UPLOAD.match(name):
                self.without_upload.setdefault(name[match.end() :], []).extend(same)

    def key(self, value: str, where: str) -> str:
        """The key of a task's image, which may be one that does not exist.

        Args:
            value: What the task says: a URL, a path of the server's disk, or the path of an upload.
            where: Where it stands, for errors.

        Raises:
            InvalidDataset: If two keys fit equally, or it holds the image itself or nothing.
        """
        parts = parts_of(value, where)
        name = parts[-1]
        bare = name[match.end() :] if (match := _UPLOAD.match(name)) else name
        for candidates in (
            self.keys.by_name.get(name),
            self.keys.by_name.get(bare),
            self.without_upload.get(bare),
        ):
            if candidates:
                return self._longest(candidates, parts, value, where)
        return self._nearly(checked(name, where)) or self._nearly(bare) or name

    def _nearly(self, name: str) -> str | None:
        """A key with this name in the folder of an image that is nearly called so, for the hint; None without one."""
        existing = self._near.get(near(name))
        return None if existing is None else f"{existing.rpartition('/')[0]}/{name}".removeprefix("/")

    @cached_property
    def _near(self) -> dict[str, str]:
        return {near(name): keys[0] for name, keys in self.keys.by_name.items()}

    def _longest(self, candidates: list[str], parts: list[str], value: str, where: str) -> str:
        lengths = [_common(key.split("/")[:-1], parts[:-1]) for key in candidates]
        best = [key for key, length in zip(candidates, lengths, strict=True) if length == max(lengths)]
        if len(best) > 1:
            raise InvalidDataset(
                f"{where}: {shown(value)} could be {best[0]} or {best[1]}; remove one of them, or rename it in both."
            )
        return best[0]


def parts_of(value: str, where: str) -> list[str]:
    """The parts of an image's path, without scheme, host and query. Raises InvalidDataset where there are none."""
    if value[:5].lower() == "data:":
        raise InvalidDataset(f"{where}: it holds the image itself; put the image beside the export as a file.")
    try:
        address = urlsplit(value)
    except ValueError:
        raise InvalidDataset(f"{where}: {shown(value)} is not an address; correct it and export again.") from None
    path = address.path
    if path.rstrip("/").endswith(_LOCAL_FILES) and (local := parse_qs(address.query).get("d")):
        path = local[0]
    else:
        # A file's name may hold what ends the path of an address.
        path = unquote(path)
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or parts[-1] == "..":
        raise InvalidDataset(f"{where}: {shown(value)} names no file; correct it and export again.")
    return parts


def _common(folders: list[str], others: list[str]) -> int:
    """How many of the last folders are equal."""
    length = 0
    for folder, other in zip(reversed(folders), reversed(others), strict=False):
        if folder != other:
            break
        length += 1
    return length
