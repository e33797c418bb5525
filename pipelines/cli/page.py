"""The option ``--page`` of commands that write a page where they are asked to."""

from __future__ import annotations

import os
from pathlib import Path

from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.core.files import atomic_write


def check_page(page: Path) -> None:
    """Refuses a page that can't be written, before anything is compared. Raises InvalidConfig or AccessDenied."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise InvalidConfig(f"--page {page}: not a name of a page; give one that ends with .html.")
    if page.is_dir() or not page.absolute().parent.is_dir():
        raise InvalidConfig(f"--page {page}: no file can lie there; give one in a folder that exists.")
    if not os.access(page if page.exists() else page.absolute().parent, os.W_OK):
        raise AccessDenied(f"--page {page}: this user can't write there; give another one.")


def write_page(page: Path, content: bytes) -> None:
    """Writes a page as a whole. Raises AccessDenied where it can't be."""
    try:
        with atomic_write(page) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise AccessDenied(f"--page {page}: it can't be written ({error.strerror}); give another one.") from error
