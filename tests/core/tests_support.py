"""What the core's tests share."""

from __future__ import annotations

from visionloop.core.errors import VisionloopError


def is_one_sentence(error: VisionloopError, *named: str) -> bool:
    """Whether an error's text is one line that ends with a full stop and names what it should."""
    text = str(error)
    return "\n" not in text and text.endswith(".") and len(text) < 500 and all(name in text for name in named)
