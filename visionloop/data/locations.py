"""Where images lie: in a dataset, or in several of which each key names its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from visionloop.core.errors import NotFound
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.datasets import RunDataset, alone, listed

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Prefixes:
    """Several datasets by name: the key of an image begins with the name of its dataset and a slash."""

    by_name: Mapping[str, Prefix]

    @property
    def uri(self) -> str:
        """Their URIs, for sentences."""
        return listed([prefix.uri for prefix in self.by_name.values()])

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """As ``Prefix.map``."""
        return next(iter(self.by_name.values())).map(work, items)


#: What images are read from.
Location = Prefix | Prefixes


def open_images(datasets: tuple[RunDataset, ...]) -> Location:
    """Where the images of a run's datasets lie."""
    if alone(datasets):
        return open_prefix(datasets[0].uri, "dataset")
    return Prefixes({dataset.name: open_prefix(dataset.uri, "dataset") for dataset in datasets})


def located(location: Location, key: str) -> tuple[Prefix, str]:
    """The dataset that an image lies in, and its key there. Raises NotFound for any other dataset."""
    if not isinstance(location, Prefixes):
        return location, key
    name, _, rest = key.partition("/")
    if name not in location.by_name:
        raise NotFound(f"{key}: {name} is not one of the datasets.")
    return location.by_name[name], rest


def uri_of(location: Location, key: str) -> str:
    """An image's URI, for sentences."""
    prefix, rest = located(location, key)
    return f"{prefix.uri}/{rest}"
