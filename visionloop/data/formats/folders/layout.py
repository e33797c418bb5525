"""How class folders lie: CLASS/…, or below a folder for each split, train/CLASS/…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visionloop.data.formats.keys import split_word
from visionloop.data.formats.listing import is_hidden


@dataclass(frozen=True)
class Entry:
    """An image: its key, its class, its split where a folder says it, and the folders between the class and the image."""

    key: str
    name: str
    split: str | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The images in class folders, and the keys of those that lie in none."""

    entries: tuple[Entry, ...]
    outside: tuple[str, ...]

    @classmethod
    def of(cls, images: Sequence[str]) -> Layout:
        """The layout of images by their keys.

        Folders for splits are those with a split's name that hold folders; then every class lies in one of them.
        """
        visible = [key for key in images if not is_hidden(key)]
        splits = any(key.count("/") > 1 and split_word(key.partition("/")[0]) for key in visible)
        entries, outside = [], []
        for key in visible:
            *folders, _ = key.split("/")
            split = split_word(folders[0]) if splits and folders else None
            if splits:
                folders = folders[1:] if split else []
            if folders:
                entries.append(Entry(key, folders[0], split, tuple(folders[1:])))
            else:
                outside.append(key)
        return cls(tuple(entries), tuple(outside))

    @property
    def names(self) -> list[str]:
        """The classes of all splits, sorted: a class that one split lacks moves no other."""
        return sorted({entry.name for entry in self.entries})
