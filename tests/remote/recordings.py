"""Workflows as a real Argo 4.0.7 stored them, without what nobody reads (inputs, resources)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("recorded")
NAMES = sorted(path.stem for path in FOLDER.glob("argo-*.json"))


def workflow(name: str) -> dict[str, Any]:
    """A recorded workflow."""
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))
