"""Where the images of a YOLO dataset lie: folders, lists and patterns, looked up among the listed keys and nowhere else."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidDataset, NotFound
from visionloop.core.stores import local_path
from visionloop.data.formats.keys import counted
from visionloop.data.formats.listing import IMAGES
from visionloop.data.formats.names import hostile
from visionloop.data.formats.source import Source
from visionloop.data.sentences import shown

#: Extensions of pictures; of those too that no trainer reads, which validate names.
_PICTURE = r"(?i)\.(" + "|".join(sorted(extension[1:] for extension in IMAGES)) + "|avif|dng|heif|jp2|mpo|pfm)$"

#: Folders and files that systems hide.
_HIDDEN = r"(^|/)(\.[^/]*|__MACOSX)(/|$)"

#: The longest list, in bytes.
_LONGEST = 256 * 2**20

_PATTERN = re.compile(r"[*?\[]")


class Places:
    """Finds images from what data.yaml says of a split."""

    def __init__(self, source: Source, file: str) -> None:
        """``file`` is the key of data.yaml."""
        self.source, self.file = source, file
        listed = source.objects()
        hidden = pc.match_substring_regex(listed["key"], _HIDDEN)
        self.keys: pa.ChunkedArray = listed["key"].filter(pc.invert(hidden))
        self.images: pa.ChunkedArray = self.keys.filter(pc.match_substring_regex(self.keys, _PICTURE))
        number = len(listed) - len(self.keys)
        self.notices = [f"{counted(number, 'hidden file is', 'hidden files are')} passed over."] if number else []
        folder = local_path(source.prefix.uri)
        self._local = None if folder is None else Path(folder)

    def root(self, path: str) -> str:
        """The folder from which places are counted, without a slash at its end; one that is not there counts as the file's own."""
        if not path:
            return ""
        root = self._inside("", path, f"{self.file}: path")
        if root and not self._exists(root):
            self.notices.append(f"{self.file}: path: {shown(path)} is not there, so the file's own folder counts.")
            return ""
        return root

    def of(self, root: str, entry: str, split: str) -> pa.Array:
        """The keys of the images that an entry names, sorted.

        Raises:
            InvalidDataset: If it leads outside the dataset, or nothing lies there.
        """
        where = f"{self.file}: {split}"
        key = self._inside(root, entry, where)
        if self._exists(key):
            if key.lower().endswith(".txt"):
                return self._listed(root, key)
            keys = self._below(key)
        elif _PATTERN.search(key):
            keys = self.images.filter(pc.match_substring_regex(self.images, _expression(key)))
        else:
            raise InvalidDataset(f"{where}: nothing lies at {shown(entry)} ({key}); correct the path.")
        if not len(keys):
            raise InvalidDataset(f"{where}: no image lies at {shown(entry)} ({key or '.'}); correct the path.")
        return keys.take(pc.sort_indices(keys)).combine_chunks()

    def refuse_links(self, keys: pa.Array) -> None:
        """Raises InvalidDataset if a key of a folder on this machine leads outside the dataset through a link."""
        if self._local is None:
            return
        base = os.path.realpath(self._local)
        names = keys.to_pylist()
        folders = {os.path.dirname(name) for name in names}
        linked = (name for name in names if os.path.islink(f"{base}/{name}"))
        for name in itertools.chain(sorted(folders), linked):
            target = os.path.realpath(f"{base}/{name}")
            if os.path.commonpath([base, target]) != base:
                raise InvalidDataset(
                    f"{self.file}: {shown(name)} leads outside the dataset through a link; put the files themselves there."
                )

    def _below(self, key: str) -> pa.ChunkedArray:
        if not key:
            return self.images
        chosen = pc.or_(pc.starts_with(self.images, f"{key}/"), pc.equal(self.images, key))
        return self.images.filter(chosen)

    def _exists(self, key: str) -> bool:
        if not key:
            return True
        either = pc.or_(pc.starts_with(self.keys, f"{key}/"), pc.equal(self.keys, key))
        return bool(pc.any(either, min_count=0).as_py())

    def _inside(self, root: str, entry: str, where: str) -> str:
        """A path as a key below the dataset. Raises InvalidDataset if it leads outside."""
        parts = self._parts(root, entry, where)
        above = entry.startswith("../")
        if (key := _normal(parts)) is not None and (self._exists(key) or not above):
            return key
        # Some tools write ../ before each path although the file lies beside the folders.
        cut = _normal(self._parts(root, entry[3:], where)) if above else None
        if cut is not None and (self._exists(cut) or key is not None):
            return cut
        raise InvalidDataset(
            f"{where}: {shown(entry)} leads outside the dataset; write paths below the folder of {self.file}."
        )

    def _parts(self, root: str, entry: str, where: str) -> list[str]:
        if "\\" in entry or any(ord(character) < 32 for character in entry):
            raise InvalidDataset(
                f"{where}: {shown(entry)} holds a backslash or a control character; write the path with slashes."
            )
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", entry):
            raise InvalidDataset(
                f"{where}: {shown(entry)} is a URL or a drive, which is not followed; write a path below the dataset."
            )
        if not entry.startswith("/"):
            return [*root.split("/"), *entry.split("/")]
        if self._local is not None:
            inside = _normal(entry.split("/"))
            base = self._local.as_posix().strip("/")
            if inside is not None and (inside == base or inside.startswith(f"{base}/")):
                return inside[len(base) :].split("/")
        raise InvalidDataset(
            f"{where}: {shown(entry)} is an absolute path outside the dataset; write paths below the folder of "
            f"{self.file} (path: .)."
        )

    def _listed(self, root: str, key: str) -> pa.Array:
        """The images that a list names, in its order."""
        self.refuse_links(pa.array([key]))
        size = pc.sum(pc.if_else(pc.equal(self.source.objects()["key"], key), self.source.objects()["size"], 0)).as_py()
        if size > _LONGEST:
            raise InvalidDataset(f"{key}: {size:,} bytes are more than a list has; name folders in its place.")
        try:
            lines = decoded(self.source.read(key)).splitlines()
        except NotFound:
            raise InvalidDataset(f"{key}: the file is gone; correct {self.file}.") from None
        except UnicodeDecodeError as error:
            raise InvalidDataset(f"{key}: the file is not UTF-8 text (byte {error.start}); write it again.") from None
        folder = key.rpartition("/")[0]
        names: list[str] = []
        for number, line in enumerate(lines, 1):
            if text := line.strip():
                names.append(self._line(root, folder, text, f"{key}: line {number}"))
        if not names:
            raise InvalidDataset(f"{key}: the list is empty; name the images, a line for each.")
        keys = pa.array(dict.fromkeys(names), pa.string())
        if folder == root:
            return keys
        # Without ./ a line counts from the dataset's root; some tools count it from the list.
        beside = pc.binary_join_element_wise(f"{folder}/" if folder else "", keys.cast(pa.string()), "")
        existing = pc.is_in(keys, value_set=self.images)
        other = pc.and_(pc.invert(existing), pc.is_in(beside, value_set=self.images))
        return pc.if_else(other, beside, keys)

    def _line(self, root: str, folder: str, text: str, where: str) -> str:
        start = folder if text.startswith("./") else root
        key = _normal(self._parts(start, text, where))
        if key is None and text.startswith("../"):
            key = _normal(self._parts(start, text[3:], where))
        reason = "leads outside the dataset" if key is None else hostile(key)
        if reason or not key:
            raise InvalidDataset(f"{where}: {shown(text)} {reason}; name images below the dataset's folder.")
        return key


def _normal(parts: list[str]) -> str | None:
    """Parts of a path as a key; None if it leads above its begin."""
    kept: list[str] = []
    for part in parts:
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def _expression(pattern: str) -> str:
    """A pattern of the shell as a regular expression that keys match: those it names, and those in folders that it names."""
    text = ""
    for part in re.findall(r"\*\*/|\*+|\?|\[!?\]?[^\]]*\]|.", pattern):
        if part == "**/":
            text += "(?:[^/]+/)*"
        elif part.startswith("*"):
            text += "[^/]*"
        elif part == "?":
            text += "[^/]"
        elif part.startswith("[") and len(part) > 1:
            inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
            text += f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
        else:
            text += re.escape(part)
    return f"^{text}(/|$)"
