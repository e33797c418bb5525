"""What the tests of the documents share: the pages, the sources, and the variables that the sources read."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

#: Names by which the sources hold the process's variables.
HOLDERS = re.compile(r"(?:os\.|self\._)?environ(?:ment)?")


def load(path: str) -> ModuleType:
    """A script of docs/, which is not a part of the package."""
    if str(ROOT / "docs") not in sys.path:
        sys.path.append(str(ROOT / "docs"))  # where its own imports lie
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCES = sorted(load("docs/imports.py").modules().values())


def variables_read() -> set[str]:
    """Every variable that a source asks its environment for by a literal or by a constant of its module."""
    results: set[str] = set()
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            name = _asked(node)
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                results.add(name.value)
            elif isinstance(name, ast.Name) and name.id in constants:
                results.add(constants[name.id])
    return results


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


def page(name: str) -> str:
    """A page's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def rows(name: str, head: str, number: int = 0) -> list[list[str]]:
    """The rows of the page's table with this first heading, the ``number``-th of several."""
    result = re.findall(rf"^\| {re.escape(head)} \|.*\n\| -.*\n((?:\|.*\n)+)", page(name), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in result[number].splitlines()]
