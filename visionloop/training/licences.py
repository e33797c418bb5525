"""The licence of an installed distribution, as its metadata states it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

_CLASSIFIER = "License :: "


def licence_of(distribution: str) -> str | None:
    """The licence of an installed distribution; None where it is not installed, or states none.

    The SPDX expression comes first (https://peps.python.org/pep-0639/), then the short text of older metadata, then the classifiers.

    Args:
        distribution: Its name, as pip knows it.
    """
    try:
        stated = metadata(distribution)
    except PackageNotFoundError:
        return None
    if "License-Expression" in stated:
        return stated["License-Expression"]
    text = stated["License"].strip() if "License" in stated else ""
    if text and "\n" not in text and text.upper() != "UNKNOWN":
        return text
    classifiers = [entry for entry in stated.get_all("Classifier") or () if entry.startswith(_CLASSIFIER)]
    return ", ".join(entry.rpartition(" :: ")[2] for entry in classifiers) or None
