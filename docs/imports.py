"""What imports what in the package, read from its sources: for the picture of the layers, the hashes of the stages' logic, and the
components' pages."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The top-level folders that hold the package; ``components`` and ``pipelines`` are links in ``visionloop``.
FOLDERS = {"visionloop": "visionloop", "components": "visionloop.components", "pipelines": "visionloop.pipelines"}


@cache
def modules() -> dict[str, Path]:
    """Every module's file by its import name."""
    paths = {}
    for folder, name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            # Older Pythons follow the links, newer ones don't: each file counts under its own folder alone.
            if folder != "visionloop" or parts[:1] not in (("components",), ("pipelines",)):
                paths[".".join((name, *parts))] = path
    return paths


@cache
def tree(module: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """The package's modules that a module imports, at its top or later."""
    imported = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module in modules():
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                imported.add(name if name in modules() else node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name in modules()}
    return frozenset(imported)


def below(package: str) -> list[str]:
    """A package's modules, its own among them."""
    return sorted(name for name in modules() if name == package or name.startswith(f"{package}."))


def closure(start: Iterable[str], follow: Callable[[str], bool]) -> list[str]:
    """These modules and all that they import, and what those import, as far as ``follow`` says of a module's name."""
    reached: set[str] = set()
    left = list(start)
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left += [other for other in imports(name) if follow(other)]
    return sorted(reached)
