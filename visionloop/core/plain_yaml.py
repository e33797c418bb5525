"""How YAML that holds plain values is read: by libyaml where it is built in, in a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

#: A safe loader: it makes texts, numbers, lists and mappings alone.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(text: str) -> Iterator[Any]:
    """The documents of a text, one after the other. Raises yaml.YAMLError."""
    yield from yaml.load_all(text, Loader=LOADER)


def document(text: str) -> Any:
    """The only document of a text. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe one
