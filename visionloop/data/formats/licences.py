"""The licences under which a dataset says that it may be used, as sentences and cards show them."""

from __future__ import annotations

from collections.abc import Iterable

from visionloop.data.sentences import printable

#: How many licences of a dataset are kept, and how many characters of each.
MOST, LONGEST = 20, 200


def stated(entries: Iterable[tuple[object, object]]) -> tuple[str, ...]:
    """Licences by name and address, each once in the order of the file; entries with neither are left out.

    Args:
        entries: What the file holds in place of a name and of an address: anything, of which texts alone count.
    """
    texts = (_text(name, address) for name, address in entries)
    return tuple(dict.fromkeys(text for text in texts if text))[:MOST]


def _text(name: object, address: object) -> str:
    name, address = (" ".join(value.split()) if isinstance(value, str) else "" for value in (name, address))
    text = f"{name} ({address})" if name and address and name != address else name or address
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
