"""Draws pipeline.svg: the stages, their receipts and the stores. Run ``.venv/bin/python docs/images/draw.py``.

One file serves light and dark pages: it brings its own background and follows the reader's preference. Not Mermaid: it places
boxes itself, so stores above, stages in a row and receipts below would not line up, and only some viewers render it.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("pipeline.svg")

WIDTH, HEIGHT = 1024, 424
BOX, GAP, LEFT = 120, 24, 20
STORES, STAGES, RECEIPTS, CLEANUP = 20, 140, 274, 374

#: Each stage and, in two short lines, what it does.
TOLD = {
    "snapshot": ("freezes content,", "task and split"),
    "validate": ("finds the usable", "images"),
    "convert": ("writes labels", "and an index"),
    "train": ("resumes from its", "last checkpoint"),
    "evaluate": ("compares with", "the champion"),
    "export": ("other formats,", "if asked for"),
    "register": ("one version,", "moves the alias"),
}

#: Stages that a GPU serves.
ON_GPU = ("train", "evaluate")

STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de; }
  .store { fill: #eef3f8; stroke: #8aa0b6; }
  .stage { fill: #ffffff; stroke: #33506e; stroke-width: 1.5; }
  .gpu { fill: #e7f0e4; stroke: #3f6d35; stroke-width: 1.5; }
  .receipt { fill: #fdf3dc; stroke: #a8812a; }
  .line { stroke: #55687c; stroke-width: 1.4; fill: none; }
  .head { fill: #55687c; }
  text { fill: #1f2933; font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
  .name { font-weight: 600; font-size: 15px; }
  .small { font-size: 12px; }
  .quiet { fill: #4b5a69; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12181f; stroke: #30363d; }
    .store { fill: #1c2733; stroke: #5d7690; }
    .stage { fill: #18212b; stroke: #86a9cc; }
    .gpu { fill: #1c2a1b; stroke: #83b877; }
    .receipt { fill: #2e2714; stroke: #c9a24a; }
    .line { stroke: #93a5b8; }
    .head { fill: #93a5b8; }
    text { fill: #e6edf3; }
    .quiet { fill: #a9b6c4; }
  }
"""


def main() -> None:
    """Writes the file."""
    FILE.write_text(draw(), encoding="utf-8")


def draw() -> str:
    """The picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title description">',
        '<title id="title">The stages of Visionloop</title>',
        '<desc id="description">A dataset goes through snapshot, validate, convert, train, evaluate, export and register. Each stage '
        "writes a receipt into the results store and looks for it first. cleanup runs at the end.</desc>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        box("page", 0.5, 0.5, WIDTH - 1, HEIGHT - 1, 8),
        *stores(),
        *stages(),
        *receipts(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def stores() -> list[str]:
    """Datasets and MLflow, and what goes between them and the stages."""
    middle = center("train")
    datasets_end, mlflow_start = middle - 8, middle + 12
    bottom = STORES + 50
    return [
        box("store", LEFT, STORES, datasets_end - LEFT, 50),
        text("name", (LEFT + datasets_end) / 2, STORES + 22, "dataset store"),
        text("small quiet", (LEFT + datasets_end) / 2, STORES + 40, "S3 or a folder, read only"),
        box("store", mlflow_start, STORES, WIDTH - LEFT - mlflow_start, 50),
        text("name", (mlflow_start + WIDTH - LEFT) / 2, STORES + 22, "MLflow"),
        text("small quiet", (mlflow_start + WIDTH - LEFT) / 2, STORES + 40, "runs, models, aliases"),
        arrow(center("snapshot"), bottom, center("snapshot"), STAGES),
        label(center("snapshot") + 8, "listing, JSON"),
        arrow(center("validate"), bottom, center("validate"), STAGES),
        label(center("validate") + 8, "headers"),
        arrow(middle - 30, bottom, middle - 30, STAGES),
        label(middle - 38, "images", "end"),
        arrow(middle + 30, STAGES, middle + 30, bottom),
        label(middle + 38, "metrics"),
        arrow(center("evaluate") + 20, bottom, center("evaluate") + 20, STAGES),
        label(center("evaluate") + 28, "champion"),
        arrow(center("register"), STAGES, center("register"), bottom),
        label(center("register") + 8, "version"),
    ]


def stages() -> list[str]:
    """The stages in a row, and cleanup."""
    parts = []
    for name, lines in TOLD.items():
        x = left(name)
        parts += [
            box("gpu" if name in ON_GPU else "stage", x, STAGES, BOX, 78, 6),
            text("name", x + BOX / 2, STAGES + 24, name),
            *(text("small quiet", x + BOX / 2, STAGES + 45 + 17 * number, line) for number, line in enumerate(lines)),
        ]
        if name != "register":
            parts.append(arrow(x + BOX, STAGES + 39, x + BOX + GAP, STAGES + 39))
    return [
        *parts,
        box("stage", LEFT, CLEANUP, BOX, 34, 6),
        text("name", LEFT + BOX / 2, CLEANUP + 22, "cleanup"),
        text("small quiet", LEFT + BOX + 12, CLEANUP + 22, "runs at the end, whatever happened before", "start"),
        box("gpu", WIDTH - LEFT - 136, CLEANUP + 8, 18, 18, 3),
        text("small quiet", WIDTH - LEFT - 110, CLEANUP + 22, "served by a GPU", "start"),
    ]


def receipts() -> list[str]:
    """The results store with a receipt for each stage."""
    parts = [
        box("store", LEFT - 8, RECEIPTS - 14, WIDTH - 2 * (LEFT - 8), 88),
        text(
            "small quiet",
            WIDTH / 2,
            RECEIPTS + 62,
            "results store:  {workspace}/{stage}/{key}/receipt.json, written last and looked for first",
        ),
    ]
    for name in TOLD:
        x = left(name)
        parts += [
            arrow(x + BOX / 2, STAGES + 78, x + BOX / 2, RECEIPTS, both=True),
            box("receipt", x + 14, RECEIPTS, BOX - 28, 36, 3),
            text("small", x + BOX / 2, RECEIPTS + 23, "receipt"),
        ]
    return parts


def left(stage: str) -> float:
    """A stage's left side."""
    return LEFT + list(TOLD).index(stage) * (BOX + GAP)


def center(stage: str) -> float:
    """A stage's middle."""
    return left(stage) + BOX / 2


def box(kind: str, x: float, y: float, width: float, height: float, radius: float = 4) -> str:
    """A rectangle."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'


def text(kind: str, x: float, y: float, words: str, anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def label(x: float, words: str, anchor: str = "start") -> str:
    """What an arrow between a store and a stage carries."""
    return text("small quiet", x, (STORES + 50 + STAGES) / 2 + 4, words, anchor)


def arrow(x1: float, y1: float, x2: float, y2: float, *, both: bool = False) -> str:
    """An arrow, with a head at each end if ``both``."""
    start = ' marker-start="url(#head)"' if both else ""
    return f'<path class="line" d="M{x1:g} {y1:g}L{x2:g} {y2:g}" marker-end="url(#head)"{start}/>'


if __name__ == "__main__":
    main()
