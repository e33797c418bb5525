"""The hash of each stage's logic, beside its version: what ``logic.json`` records and the test compares.

A change that can give other results from equal inputs must raise the stage's ``logic_version``, or every workspace keeps the
old results under the same keys. Comments, docstrings and formatting are no logic.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

from visionloop.components import catalog

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("logic.json")

#: What decides a stage's result, beside the folder of its own name.
SHARED = {
    "snapshot": ("components/dice",),
    "validate": ("components/dice", "components/images.py"),
    "convert": ("components/dice",),
    "train": ("components/trainers/ultralytics", "components/configuration"),
    "evaluate": ("components/trainers/ultralytics",),
    "register": ("components/registry",),
}


def logic_hash(stage: str) -> str:
    """SHA-256 over the syntax trees of a stage's modules, without docstrings."""
    digest = hashlib.sha256()
    for place in (f"components/{stage}", *SHARED[stage]):
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if file.name == "component.py":
                continue  # the engine's wrapper
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                    value = body[0].value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        body[0] = ast.Expr(ast.Constant(""))
            digest.update(f"{file.relative_to(ROOT)}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def current() -> dict[str, dict[str, object]]:
    """Version and hash of each stage as the code is."""
    return {
        stage: {"logic_version": catalog.stage(stage).logic_version, "sha256": logic_hash(stage)} for stage in SHARED
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current(), indent=2) + "\n")
    sys.exit(0)
