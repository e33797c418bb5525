"""Draws images/layers.svg: the rooms of the package, and how many modules of each import from the rooms below it.

Run ``.venv/bin/python docs/layers.py`` or ``make golden``. The order of the rooms is the one that import-linter holds.
"""

from __future__ import annotations

import tomllib
from collections import Counter

from images.draw import STYLE, arrow, box, text
from imports import ROOT, imports, modules

FILE = ROOT / "docs" / "images" / "layers.svg"

WIDTH, HEIGHT = 748, 532
BOX, TALL, LEFT, TOP = 128, 66, 20, 20
RIGHT, DOWN = 116, 85

#: Each room and, in two short lines, what it holds.
TOLD = {
    "pipelines": ("engines, DAGs,", "command line"),
    "components": ("the stages,", "a folder each"),
    "registry": ("models, versions,", "aliases"),
    "training": ("trainers, settings,", "weights, tracking"),
    "data": ("dataset format,", "split, images"),
    "core": ("receipts, stores,", "running a stage"),
}

CAPTION = (
    "The number on a line from a room to one below it:",
    "how many modules of the upper room import from the lower one.",
    "No line leads up.",
)


def main() -> None:
    """Writes the file."""
    FILE.write_text(draw(), encoding="utf-8")


def rooms() -> list[str]:
    """The rooms from the top down, as pyproject.toml orders them for import-linter."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [
        contract["layers"] for contract in configured["tool"]["importlinter"]["contracts"] if "layers" in contract
    ]
    return [name.removeprefix("visionloop.") for name in layers]


def arrows() -> dict[tuple[str, str], int]:
    """For each two rooms of which one imports from the other, the number of modules that do."""
    names = set(rooms())
    counts: Counter[tuple[str, str]] = Counter()
    for module in modules():
        upper = _room(module)
        lower = {_room(imported) for imported in imports(module)} - {upper}
        counts.update((upper, room) for room in lower & names if upper in names)
    return dict(counts)


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


def draw() -> str:
    """The picture."""
    order, counts = rooms(), arrows()
    wrong = [f"{upper} imports from {lower}" for upper, lower in counts if order.index(upper) > order.index(lower)]
    if wrong:
        raise ValueError(f"{wrong[0]}: a room imports only from those below it")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title description">',
        '<title id="title">The rooms of Visionloop</title>',
        f'<desc id="description">From the top down: {", ".join(order)}. Each imports only from those below it.</desc>',
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        box("page", 0.5, 0.5, WIDTH - 1, HEIGHT - 1, 8),
    ]
    for number, room in enumerate(order):
        above = [upper for upper in order[:number] if (upper, room) in counts]
        below = [lower for lower in order[number + 1 :] if (room, lower) in counts]
        x, y = _left(number), _top(number)
        if below:
            end = _left(order.index(below[-1])) + BOX / 2
            parts.append(f'<path class="line" d="M{x + BOX:g} {y + TALL / 2:g}L{end:g} {y + TALL / 2:g}"/>')
        if above:
            start = _top(order.index(above[0])) + TALL / 2
            parts.append(arrow(x + BOX / 2, start, x + BOX / 2, y))
    for (upper, lower), count in sorted(counts.items()):
        x, y = _left(order.index(lower)) + BOX / 2, _top(order.index(upper)) + TALL / 2
        parts += [box("receipt", x - 18, y - 13, 36, 26, 13), text("", x, y + 5, str(count))]
    for number, room in enumerate(order):
        x, y = _left(number), _top(number)
        parts += [
            box("stage", x, y, BOX, TALL, 6),
            text("name", x + BOX / 2, y + 22, room),
            *(text("small quiet", x + BOX / 2, y + 40 + 16 * line, words) for line, words in enumerate(TOLD[room])),
        ]
    caption = HEIGHT - 22 - 18 * (len(CAPTION) - 1)
    parts += [text("quiet", LEFT, caption + 18 * line, words, "start") for line, words in enumerate(CAPTION)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _left(number: int) -> float:
    return LEFT + number * RIGHT


def _top(number: int) -> float:
    return TOP + number * DOWN


if __name__ == "__main__":
    main()
