"""When a bare training's first batch was done, in seconds since the benchmark started the process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


class Clock:
    """Writes the first call's time into the file that BENCH_FIRST names."""

    def __init__(self) -> None:
        self._told = False

    def batch(self, *_: object) -> None:
        """A batch is done."""
        if not self._told:
            self._told = True
            seconds = time.time() - float(os.environ["BENCH_START"])
            Path(os.environ["BENCH_FIRST"]).write_text(json.dumps(seconds))
