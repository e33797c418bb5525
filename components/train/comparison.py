"""Compares the images that a trainer uses with those of the converted dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from visionloop.components.convert.converted import IndexEntry
from visionloop.core.errors import InvalidDataset
from visionloop.training.supervision.channel import Images

#: How many images a sentence names.
NAMED = 10


class ImageComparison:
    """What a trainer says of the images that it uses, split by split.

    Attributes:
        reported: The splits of which the trainer has said all.
        images: How many images each of these splits has.
    """

    def __init__(self, trainer: str, index: Callable[[], Iterable[IndexEntry]]) -> None:
        """``index`` reads the converted dataset's index."""
        self.reported: set[str] = set()
        self.images: dict[str, int] = {}
        self._trainer = trainer
        self._index = index
        self._used: dict[str, set[str]] = {}

    def add(self, images: Images) -> None:
        """Adds a part of a split's images, and compares them once they are all there.

        Raises:
            InvalidDataset: If images of the split are not used; it names them.
        """
        used = self._used.setdefault(images.split, set())
        used.update(images.paths)
        if not images.complete:
            return
        self.reported.add(images.split)
        del self._used[images.split]
        of_split = [entry for entry in self._index() if entry.split == images.split]
        self.images[images.split] = len(of_split)
        missing = sorted(entry.file_name for entry in of_split if entry.path not in used)
        if missing:
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise InvalidDataset(
                f"The trainer {self._trainer} uses {len(of_split) - len(missing)} of the {len(of_split)} images of the split "
                f"{images.split} and leaves out {', '.join(missing[:NAMED])}{more}; correct them, or remove them and export again."
            )
