"""The lists of ImageSets/Main: which XML file belongs to which split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidDataset, NotFound
from visionloop.data.formats.keys import Keys, counted, extension, split_of_folders, stem
from visionloop.data.formats.source import Source
from visionloop.data.sentences import printable, shown

_LISTS = {f"ImageSets/Main/{split}.txt": split for split in ("train", "val", "test")}

#: A name with the mark that a list of a class puts behind it.
_MARKED = re.compile(r"(.*\S)\s+(?:1|-1|0)")

#: The longest list that is read, in bytes.
_LONGEST = 256 * 2**20


@dataclass
class Lists:
    """The splits of XML files by the lists beside them.

    Attributes:
        entries: The split, and the key of its list, by the folder of ImageSets and the name in the list.
        without: How many XML files are in no list where there are lists.
    """

    entries: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    bases: set[str] = field(default_factory=set)
    without: int = 0
    used: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def read(cls, source: Source, keys: Keys) -> Lists:
        """Reads all lists. Raises InvalidDataset if one is not text, or a name stands in the lists of two splits."""
        lists = cls()
        named = {stem(key).rpartition("/")[2] for key in keys.all if extension(key) == ".xml"}
        sizes = dict(zip(*(source.objects()[name].to_pylist() for name in ("key", "size")), strict=True))
        for key in keys.all:
            base, split = next(
                (
                    (key[: -len(end)], split)
                    for end, split in _LISTS.items()
                    if f"/{key}".lower().endswith(f"/{end.lower()}")
                ),
                ("", None),
            )
            if split is None:
                continue
            if sizes[key] > _LONGEST:
                raise InvalidDataset(f"{key}: larger than {_LONGEST // 2**20} MiB; split the dataset.")
            lists.bases.add(base)
            for name in _names(source, key, named):
                other = lists.entries.setdefault((base, name), (split, key))
                if other[0] != split:
                    raise InvalidDataset(
                        f"{key}: {shown(name)} stands in {other[1]} too; leave it in one of the two lists."
                    )
        return lists

    def split(self, key: str) -> str | None:
        """The split of an XML file: of the lists beside its folder, else the one that its folders say; None without."""
        parts = stem(key).split("/")
        for level in range(len(parts) - 1, -1, -1):
            base = "".join(f"{part}/" for part in parts[:level])
            if base not in self.bases:
                continue
            # The name in a list is the path below Annotations/, or the file's own name.
            for name in ("/".join(parts[level + 1 :]), parts[-1]):
                if entry := self.entries.get((base, name)):
                    self.used.add((base, name))
                    return entry[0]
            self.without += 1
            return None
        return split_of_folders(key)

    def notices(self) -> Iterator[str]:
        """The files that no list names, and the names without a file."""
        if self.without:
            yield f"{counted(self.without, 'XML file stands', 'XML files stand')} in no list of ImageSets/Main: no split is stated."
        unused = sorted(self.entries.keys() - self.used)
        if unused:
            name = unused[0]
            yield printable(
                f"{counted(len(unused), 'name', 'names')} in the lists of ImageSets/Main without an XML file "
                f"({shown(name[1])} in {self.entries[name][1]}): passed over."
            )


def _names(source: Source, key: str, named: set[str]) -> Iterator[str]:
    """The names in a list, one a line; ``named`` are those of the XML files."""
    try:
        text = decoded(source.read(key))
    except NotFound:
        return
    except UnicodeDecodeError as error:
        raise InvalidDataset(
            f"{key}: the file is not UTF-8 text (byte {error.start}); write it again as UTF-8."
        ) from None
    for line in text.splitlines():
        name = line.strip()
        # A list of a class has 1 or -1 behind the name; a name itself may hold spaces, and end as that does.
        marked = _MARKED.fullmatch(name)
        if marked and name.rpartition("/")[2] not in named:
            name = marked[1]
        if name:
            yield name
