"""The keys of a dataset's objects: which are images, how a name leads to one, and what folders say of the split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from posixpath import splitext

from visionloop.core.errors import InvalidDataset, NotFound
from visionloop.data.formats.hints import near
from visionloop.data.formats.listing import END_BYTES, IMAGES, is_hidden, not_whole
from visionloop.data.formats.source import Source
from visionloop.data.formats.splits import SPLITS, stated_split
from visionloop.data.lfs import refuse_pointer
from visionloop.data.sentences import printable

#: A word for a split with a year behind it or not, as the whole name of a folder.
_SPLIT_FOLDER = re.compile(r"(train|validation|valid|val|test)\d{0,4}", re.IGNORECASE)


def file_name(key: str) -> str:
    """An image's name in every format: its key below the dataset's URI without a leading ``images/``."""
    return key.removeprefix("images/")


def extension(key: str) -> str:
    """A key's extension in small letters, with its dot."""
    return splitext(key)[1].lower()


def stem(key: str) -> str:
    """A key without its extension."""
    return splitext(key)[0]


def split_word(word: str) -> str | None:
    """The split that a word means (``valid``, ``train2017``), or None."""
    match = _SPLIT_FOLDER.fullmatch(word)
    return SPLITS[match[1].lower()] if match else None


def split_of_folders(key: str) -> str | None:
    """The split that the last of a key's folders with such a name says, or None."""
    words = (split_word(part) for part in reversed(key.split("/")[:-1]))
    return next((split for split in words if split), None)


def split_of_file(key: str) -> str | None:
    """The split of an annotation file: of the last part of its key in which a word for one stands by itself, or None."""
    stated = stated_split(stem(key))
    return stated[0] if stated else None


@dataclass
class Keys:
    """The keys of a dataset that are not hidden.

    Attributes:
        all: Every such key, in the order of their UTF-8 bytes: a folder is listed in another one than a bucket.
        hidden: How many are hidden.
        passed_over: Sentences about files that look like a format's and are not.
    """

    all: list[str]
    hidden: int = 0
    passed_over: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source) -> Keys:
        """The keys that a source lists."""
        keys = source.objects()["key"].to_pylist()
        visible = sorted(key for key in keys if not is_hidden(key))
        return cls(visible, len(keys) - len(visible))

    def exports(self, tool: str, ending: str, source: Source, is_export: Callable[[bytes], bool]) -> list[str]:
        """The files of an extension that are exports of a tool by their first bytes; the others are told.

        A single one whatever it is: then it is said what is wrong in it.

        Raises:
            InvalidDataset: If one of several is not whole, so that nothing tells what it was.
        """
        documents = [key for key in self.all if extension(key) == ending]
        if len(documents) == 1:
            return documents
        exports, others = [], []
        for key in documents:
            try:
                start = source.prefix.read_start(key, END_BYTES)
                if is_export(start):
                    exports.append(key)
                    continue
                end = source.prefix.read_end(key, END_BYTES) if len(start) == END_BYTES else b""
            except NotFound:
                continue  # gone since it was listed
            refuse_pointer(start, key)
            if reason := not_whole(start, end):
                raise InvalidDataset(printable(f"{key}: {reason}; export it again, or remove it."))
            others.append(key)
        self.passed_over += other_files(others, ending[1:].upper(), tool)
        return exports

    @cached_property
    def images(self) -> dict[str, None]:
        """The keys with an image's extension."""
        return {key: None for key in self.all if extension(key) in IMAGES}

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """The images by their keys without extension."""
        stems: dict[str, list[str]] = {}
        for key in self.images:
            stems.setdefault(stem(key), []).append(key)
        return stems

    @cached_property
    def image_folders(self) -> frozenset[str]:
        """The folders that hold images, each with its slash."""
        return frozenset(key[: key.rfind("/") + 1] for key in self.images)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The images by the last part of their keys."""
        names: dict[str, list[str]] = {}
        for key in self.images:
            names.setdefault(key.rpartition("/")[2], []).append(key)
        return names

    @cached_property
    def nearly(self) -> frozenset[str]:
        """What the names of the images share with those that are nearly equal to them, for hints."""
        return frozenset(map(near, self.images))

    def notices(self) -> Iterator[str]:
        """What is passed over."""
        yield from self.passed_over
        if self.hidden:
            yield f"{counted(self.hidden, 'hidden file is', 'hidden files are')} passed over."


def other_files(keys: Sequence[str], kind: str, tool: str) -> list[str]:
    """A sentence about files that are not of a format, if there are any: ``1 JSON file is not of COCO and passed over (a.json).``"""
    if not keys:
        return []
    words = counted(len(keys), f"{kind} file is", f"{kind} files are")
    return [printable(f"{words} not of {tool} and passed over ({named(keys)}).")]


def named(keys: Sequence[str]) -> str:
    """The first of some keys, and how many more there are."""
    first = ", ".join(keys[:3])
    return first if len(keys) <= 3 else f"{first} and {len(keys) - 3} more"


def counted(number: int, singular: str, plural: str) -> str:
    """A number with its words: ``1 image is``, ``2,000 images are``."""
    return f"{number:,} {singular if number == 1 else plural}"
