"""The library's environment: offline, quiet and without telemetry. `library` is the only way in which transformers is imported."""

from __future__ import annotations

import functools
import os
from typing import Any

#: Read by the library and the hub's client, which it brings: nothing is fetched or sent, and no bar is drawn.
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


@functools.cache
def library() -> Any:
    """The transformers package, imported into a prepared environment."""
    os.environ.update(VARIABLES)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers
