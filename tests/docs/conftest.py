"""What the tests of the documents share: the pages, the sources, and the variables that the sources read."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])

#: Names by which the sources hold the process's variables.
HOLDERS = re.compile(r"(?:os\.|self\._)?environ(?:ment)?")


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """The generator docs/tables.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def variables_read() -> set[str]:
    """Every variable that a source asks its environment for by a literal or by a constant of its module."""
    found: set[str] = set()
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            name = _asked(node)
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
            elif isinstance(name, ast.Name) and name.id in constants:
                found.add(constants[name.id])
    return found


def _asked(node: ast.AST) -> ast.expr | None:
    """The name that a node looks up in the environment: ``environ.get(…)``, ``environ[…]``, ``… in environ``."""
    match node:
        case ast.Call(func=ast.Attribute(attr="get", value=holder), args=[name, *_]) if _is_environment(holder):
            return name
        case ast.Subscript(value=holder, slice=name, ctx=ast.Load()) if _is_environment(holder):
            return name
        case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[holder]) if _is_environment(holder):
            return name
        case ast.keyword(arg="variable", value=name):
            return name
        case _:
            return None


def _is_environment(holder: ast.expr) -> bool:
    return bool(HOLDERS.fullmatch(ast.unparse(holder)))
