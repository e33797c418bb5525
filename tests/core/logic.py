"""The hash of each stage's logic, next to its version: what ``logic.json`` records and the test compares.

A change that can give other results from equal inputs must raise the stage's ``logic_version``, or every workspace keeps the
old results under the same keys. Comments, docstrings and formatting do not count.

A stage's logic is its own folder, and what that imports of data, training and registry and of a few modules of core: all
modules that decide bytes. Modules count by the names that they are imported by.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from imports import below, closure, tree  # noqa: E402 - a script of docs/

from visionloop.components.calls import CALLS, PREDICTED  # noqa: E402
from visionloop.core import catalog  # noqa: E402

RECORD = Path(__file__).with_name("logic.json")

#: Where results are decided, besides a stage's own folder.
DECIDING = ("visionloop.data", "visionloop.training", "visionloop.registry")
DECIDING_OF_CORE = ("visionloop.core.canonical", "visionloop.core.names", "visionloop.core.stores")

#: Of a stage's own folder: the engine's wrapper, and what decides whether a run goes on, and what it is compared with, rather than what it computes.
NO_LOGIC = ("component", "retraining", "preflight", "baseline")

#: A stage that looks trainers up by name depends on each of them.
TRAINERS = "visionloop.training.catalog"


def logic(stage: str) -> list[str]:
    """The modules that decide a stage's result."""
    package = f"visionloop.components.{stage}"
    ignored = tuple(f"{package}.{name}" for name in NO_LOGIC)

    def decides(module: str) -> bool:
        if module.startswith(f"{package}."):
            return not module.startswith(ignored)
        return module in DECIDING_OF_CORE or module.startswith(DECIDING)

    own = [module for module in below(package) if module == package or decides(module)]
    result = closure(own, decides)
    if TRAINERS in result:
        result = closure([*result, *below("visionloop.training.trainers")], decides)
    return result


def logic_hash(stage: str) -> str:
    """SHA-256 over the syntax trees of the modules that decide a stage's result, without docstrings."""
    digest = hashlib.sha256()
    for module in logic(stage):
        for node in ast.walk(tree(module)):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                value = body[0].value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    body[0] = ast.Expr(ast.Constant(""))
        digest.update(f"{module}\n{ast.dump(tree(module))}\n".encode())
    return digest.hexdigest()


def stages() -> list[str]:
    """The stages that have a result."""
    return [*CALLS, *PREDICTED]


def current() -> dict[str, dict[str, object]]:
    """Version and hash of each stage as the code is."""
    return {
        stage: {"logic_version": catalog.stage(stage).logic_version, "sha256": logic_hash(stage)} for stage in stages()
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current(), indent=2) + "\n")
    sys.exit(0)
