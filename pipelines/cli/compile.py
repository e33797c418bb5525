"""``visionloop compile``: writes a pipeline in an engine's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.policy import REGISTRY
from visionloop.pipelines import engines
from visionloop.pipelines.cli.output import say


def compile_(
    engine: Annotated[str, typer.Option(help=f"{engines.choice(engines.clusters())}.")],
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    registry: Annotated[str, typer.Option(help="The images' registry.")] = REGISTRY,
    tag: Annotated[str | None, typer.Option(help="The images' tag (default: this package's version).")] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, help=engines.help_of("gpus")),
    ] = None,
) -> None:
    """Write the pipelines for an engine.

    Example: visionloop compile --engine argo --out build/argo --registry registry.example.com/vision
    """
    from visionloop.pipelines.compile import compile_engine

    for path in compile_engine(engine, out, registry, tag, gpus):
        say(str(path))
