"""``--where``: which images and objects count. Python's grammar, of which only comparisons are allowed; nothing of it is ever run.

As in SQL a comparison with a value that is not there is neither true nor false, so neither it nor its ``not`` keeps the row.
"""

from __future__ import annotations

import ast
import difflib
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionloop.core.encodings import is_half
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.data.annotations.tables import PEOPLE
from visionloop.data.sentences import printable, shown

#: The most characters of an expression, and how deep it may be nested.
LONGEST, DEEPEST = 4000, 64

#: Where a column lies: an image has one value, or each object.
Level = Literal["image", "object"]

#: What a column holds; None where only the dataset decides.
Kind = Literal["text", "number", "truth"]

#: The columns, with where they lie and what they hold.
COLUMNS: Mapping[str, tuple[Level, Kind]] = {
    "split": ("image", "text"),
    "file_name": ("image", "text"),
    "width": ("image", "number"),
    "height": ("image", "number"),
    "class_name": ("object", "text"),
    "area": ("object", "number"),
    "box_width": ("object", "number"),
    "box_height": ("object", "number"),
    "iscrowd": ("object", "truth"),
}

#: The columns of free values: of an image and of an object.
FREE: Mapping[str, Level] = {"metadata": "image", "attributes": "object"}

#: What a column holds, in words.
KIND_WORDS: Mapping[Kind, str] = {"text": "a text", "number": "a number", "truth": "true or false"}

#: What Python has and an expression has not, in words.
_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Call: "a call",
    ast.BinOp: "arithmetic",
    ast.Lambda: "a function",
    ast.JoinedStr: "a text with values in it",
    ast.IfExp: "if and else",
    ast.NamedExpr: "an assignment",
    ast.ListComp: "a loop",
    ast.SetComp: "a loop",
    ast.DictComp: "a loop",
    ast.GeneratorExp: "a loop",
    ast.Dict: "a mapping",
    ast.Starred: "a star",
    ast.Subscript: "an index",
    ast.Attribute: "a chain of names",
    ast.Is: "is",
    ast.IsNot: "is not",
}


@dataclass(frozen=True)
class Column:
    """A column that an expression names: one of COLUMNS, or a key of FREE; ``at`` is where it stands, from 1."""

    name: str
    at: int
    key: str | None = None

    @property
    def level(self) -> Level:
        """Where it lies."""
        return FREE[self.name] if self.key is not None else COLUMNS[self.name][0]

    @property
    def kind(self) -> Kind | None:
        """What it holds; None where only the dataset decides."""
        return None if self.key is not None else COLUMNS[self.name][1]

    def __str__(self) -> str:
        """As it is written."""
        if self.key is None:
            return self.name
        return f"{self.name}.{self.key}" if self.key.isidentifier() else f"{self.name}[{self.key!r}]"


@dataclass(frozen=True)
class Literals:
    """A literal, or a list of them behind ``in``; ``at`` is where it stands, from 1."""

    values: tuple[Any, ...]
    kind: Kind
    at: int


@dataclass(frozen=True)
class Comparison:
    """Two operands and how they are compared; ``found`` is ``in`` with a list, or a text in a column."""

    left: Column | Literals
    operator: type[ast.cmpop]
    right: Column | Literals
    at: int


@dataclass(frozen=True)
class Combination:
    """Conditions joined by ``and``, ``or`` or, one alone, turned by ``not``."""

    word: Literal["and", "or", "not"]
    parts: tuple[Condition, ...]


Condition = Comparison | Combination | Column


@dataclass(frozen=True)
class Where:
    """An expression that was read: the terms of its outermost ``and``."""

    text: str
    terms: tuple[Condition, ...]


def parse_where(text: str, option: str = "--where") -> Where:
    """Reads an expression.

    Args:
        text: Comparisons of columns with literals or with each other, joined by ``and``, ``or``, ``not``.
        option: Where it was written, for errors.

    Raises:
        InvalidConfig: If it is not an expression; the sentence names the column of the text.
    """
    text = " ".join(text.split("\n")).strip()
    if len(text) > LONGEST:
        raise InvalidConfig(
            f"{option}: {len(text):,} characters are more than {LONGEST:,}; write a shorter expression."
        )
    if is_half(text):
        at = next(index for index, letter in enumerate(text, 1) if is_half(letter))
        raise _refused(option, at, "half a character (a surrogate) stands there; leave it out")
    return Where(text, tuple(_terms(_Reader(text, option).condition(_parsed(text, option)))))


def _parsed(text: str, option: str) -> ast.expr:
    """The expression's syntax tree. Raises InvalidConfig."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of escapes that it does not know
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        at = min(error.offset or len(text) + 1, len(text) + 1)  # Python gives none for the end of the text
        raise _refused(option, at, f"{_reason(error)}; write it like split != 'train' and box_width >= 8") from None
    except (ValueError, RecursionError, MemoryError):
        raise _refused(option, 1, "it can't be read; write it like split != 'train' and box_width >= 8") from None


def _reason(error: SyntaxError) -> str:
    return f"not an expression of Python ({error.msg})" if error.offset else "the expression ends too early"


def _refused(option: str, at: int, problem: str) -> InvalidConfig:
    return InvalidConfig(printable(f"{option}, column {at}: {problem}."))


def _terms(condition: Condition) -> Iterator[Condition]:
    """The terms of the outermost ``and``, whatever its parentheses."""
    if isinstance(condition, Combination) and condition.word == "and":
        for part in condition.parts:
            yield from _terms(part)
    else:
        yield condition


def columns(condition: Condition | Literals) -> Iterator[Column]:
    """The columns that a condition names, in their order."""
    if isinstance(condition, Column):
        yield condition
    elif isinstance(condition, Comparison):
        yield from columns(condition.left)
        yield from columns(condition.right)
    elif isinstance(condition, Combination):
        for part in condition.parts:
            yield from columns(part)


def level_of(condition: Condition | Literals) -> Level:
    """Where a condition is worked out: for each object if one of its columns is an object's."""
    return "object" if any(entry.level == "object" for entry in columns(condition)) else "image"


class _Reader:
    """Turns a syntax tree into conditions; whatever is not allowed is refused with its column."""

    def __init__(self, text: str, option: str) -> None:
        self.data, self.option = text.encode(), option

    def condition(self, node: ast.expr, depth: int = 0) -> Condition:
        """A condition."""
        if depth > DEEPEST:
            raise self.refused(node, f"nested deeper than {DEEPEST} levels; write it flat")
        if isinstance(node, ast.BoolOp):
            word: Literal["and", "or"] = "and" if isinstance(node.op, ast.And) else "or"
            return Combination(word, tuple(self.condition(part, depth + 1) for part in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Combination("not", (self.condition(node.operand, depth + 1),))
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Constant):
            raise self.refused(node, "a value alone is not a condition; compare a column with it")
        entry = self.column(node)
        if entry.kind in ("text", "number"):
            raise self.refused(node, f"{entry} is {KIND_WORDS[entry.kind]}, not a condition; compare it with one")
        return entry

    def _compared(self, node: ast.Compare) -> Condition:
        """A comparison; of a chain such as ``8 < width < 64`` each one."""
        parts: list[Condition] = []
        operands = [node.left, *node.comparators]
        for left, word, right in zip(operands, node.ops, operands[1:], strict=False):
            parts.append(self._pair(left, word, right))
        return parts[0] if len(parts) == 1 else Combination("and", tuple(parts))

    def _pair(self, left: ast.expr, word: ast.cmpop, right: ast.expr) -> Condition:
        if isinstance(word, ast.Is | ast.IsNot):
            raise self.refused(left, f"{_REFUSED[type(word)]} is not allowed; compare with == or !=")
        within = isinstance(word, ast.In | ast.NotIn)
        kind = ast.In if within else type(word)
        compared = Comparison(self.operand(left), kind, self.operand(right, many=within), self.at(left))
        self._check(compared, right)
        return Combination("not", (compared,)) if isinstance(word, ast.NotIn) else compared

    def _check(self, compared: Comparison, right: ast.expr) -> None:
        """Refuses what has no meaning, as far as it shows without a dataset."""
        sides = compared.left, compared.right
        if not any(isinstance(side, Column) for side in sides):
            raise _refused(self.option, compared.at, "two values are compared; one of them must be a column")
        if compared.operator is ast.In and isinstance(compared.right, Column):
            if not isinstance(compared.left, Literals) or compared.left.kind != "text":
                raise self.refused(
                    right, f"in needs a list such as ('a', 'b'), or a text before it: 'night' in {compared.right}"
                )
            if compared.right.kind not in ("text", None):
                raise self.refused(right, f"{compared.right} is {KIND_WORDS[compared.right.kind]}, and holds no text")
        check_kinds(compared, [side.kind for side in sides], self.option)

    def operand(self, node: ast.expr, *, many: bool = False) -> Column | Literals:
        """A column, a literal, or with ``many`` a list of literals."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            if not many:
                raise self.refused(node, "a list stands behind in alone")
            entries = [self._literal(element) for element in node.elts]
            if not entries:
                raise self.refused(node, "the list is empty, so nothing is in it; name values")
            if len({entry.kind for entry in entries}) > 1:
                raise self.refused(node, "the list holds texts and numbers; give values of one kind")
            return Literals(tuple(entry.values[0] for entry in entries), entries[0].kind, self.at(node))
        if isinstance(node, ast.Constant | ast.UnaryOp):
            if many:
                raise self.refused(node, "in needs a list such as ('a', 'b')")
            return self._literal(node)
        return self.column(node)

    def _literal(self, node: ast.expr) -> Literals:
        """A text, a number or a truth."""
        sign: Callable[[Any], Any] = operator.pos
        inner = node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, inner = (operator.neg if isinstance(node.op, ast.USub) else operator.pos), node.operand
        if not isinstance(inner, ast.Constant):
            raise self.refused(node, f"{self._named(node)} is not allowed here; give a text, a number, True or False")
        value = inner.value
        if isinstance(value, bool) and inner is node:
            return Literals((value,), "truth", self.at(node))
        if isinstance(value, int | float) and not isinstance(value, bool):
            if (isinstance(value, int) and value >= 2**63) or value in (float("inf"),):
                raise self.refused(node, "the number is too large; write a smaller one")
            return Literals((sign(value),), "number", self.at(node))
        if isinstance(value, str) and inner is node:
            if is_half(value):
                raise self.refused(node, "the text holds half a character (a surrogate); leave it out")
            return Literals((value,), "text", self.at(node))
        if value is None:
            raise self.refused(node, "None is not a value: a row without one is never kept; leave the comparison out")
        raise self.refused(node, "this value is not allowed; give a text, a number, True or False")

    def column(self, node: ast.expr) -> Column:
        """A column."""
        if isinstance(node, ast.Name):
            if node.id in PEOPLE:
                raise self.refused(node, _person(node.id))
            if node.id in FREE:
                raise self.refused(node, f"{node.id} holds several values; name one, such as {node.id}.source")
            if node.id not in COLUMNS:
                names = [*COLUMNS, *(f"{name}.NAME" for name in FREE)]
                near = difflib.get_close_matches(node.id, names, 1)
                meant = f" (did you mean {near[0]}?)" if near else ""
                raise self.refused(node, f"{shown(node.id)} is not a column{meant}; the columns are {', '.join(names)}")
            return Column(node.id, self.at(node))
        key: Any = None
        if isinstance(node, ast.Attribute):
            key = node.attr
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            key = node.slice.value
        holder = node.value if isinstance(node, ast.Attribute | ast.Subscript) else None
        if isinstance(holder, ast.Name) and holder.id in FREE and isinstance(key, str):
            if key in PEOPLE:
                raise self.refused(node, _person(key))
            if not key:
                raise self.refused(node, "the name is empty; write metadata['NAME']")
            if is_half(key):
                raise self.refused(node, "the name holds half a character (a surrogate); leave it out")
            return Column(holder.id, self.at(node), key)
        if isinstance(holder, ast.Name):
            raise self.refused(
                node, f"{shown(holder.id)} has no names of its own; only metadata.NAME and attributes.NAME do"
            )
        raise self.refused(node, f"{self._named(node)} is not allowed; compare columns with values")

    def _named(self, node: ast.AST) -> str:
        return next((words for kind, words in _REFUSED.items() if isinstance(node, kind)), "this")

    def refused(self, node: ast.expr, problem: str) -> InvalidConfig:
        """The error for a part of the expression."""
        return _refused(self.option, self.at(node), problem)

    def at(self, node: ast.expr) -> int:
        """The column where a part begins, counted in characters from 1."""
        return len(self.data[: node.col_offset].decode(errors="ignore")) + 1


def _person(name: str) -> str:
    return f"{name} says who labelled an image, or when, and is not part of a dataset; select by something else"


def check_kinds(
    compared: Comparison,
    kinds: Sequence[Kind | None],
    option: str,
    error: type[InvalidConfig | InvalidDataset] = InvalidConfig,
) -> None:
    """Raises if two sides of different kinds are compared, or truths by their order."""
    left, right = kinds
    if left is not None and right is not None and left != right:
        column_first = isinstance(compared.left, Column)
        side, own, other = (compared.left, left, right) if column_first else (compared.right, right, left)
        raise error(
            printable(
                f"{option}, column {compared.at}: {side}, {KIND_WORDS[own]}, is compared with {KIND_WORDS[other]}; "
                f"compare it with {KIND_WORDS[own]}."
            )
        )
    if "truth" in kinds and compared.operator not in (ast.Eq, ast.NotEq, ast.In):
        raise error(printable(f"{option}, column {compared.at}: true and false have no order; compare with == or !=."))
