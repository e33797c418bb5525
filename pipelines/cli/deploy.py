"""``visionloop deploy``: the files by which a platform serves a registered model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from visionloop.core.logs import notice
from visionloop.core.policy import REGISTRY
from visionloop.pipelines.cli.output import Output, show


def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS.")],
    to: Annotated[str, typer.Option("--to", metavar="PLATFORM", help="kserve or triton. Required.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="A new or empty folder for the files; of Triton its repository, also s3://…. Required."
        ),
    ],
    name: Annotated[str, typer.Option(help="The deployment's name (default: the model's).")] = "",
    namespace: Annotated[str, typer.Option(help="Its namespace (default: that of whoever applies the files).")] = "",
    registry: Annotated[str, typer.Option(help="The images' registry.")] = REGISTRY,
    tag: Annotated[str | None, typer.Option(help="The images' tag (default: this package's version).")] = None,
    gpus: Annotated[int, typer.Option(help="How many GPUs a replica asks for.", min=0, max=64)] = 0,
    min_replicas: Annotated[int, typer.Option(help="The least number of replicas; 0 ends the last one when idle.")] = 1,
    max_replicas: Annotated[int, typer.Option(help="The largest number of replicas.")] = 3,
    canary: Annotated[
        int | None,
        typer.Option(metavar="PERCENT", help="The share of requests for this version; the one before has the rest."),
    ] = None,
    output: Output = None,
) -> None:
    """Writes what serves a model on a platform, and a smoke test; nothing is applied.

    Example: visionloop deploy bottles@champion --to kserve --out deploy/bottles --registry registry.example.com/vision
    """
    from visionloop.pipelines.deploying import check_out, platform
    from visionloop.pipelines.deploying import deploy as write
    from visionloop.pipelines.deploying.order import Order, Wanted
    from visionloop.pipelines.models.opened import opened
    from visionloop.registry import resolve

    platform(to)
    wanted = Wanted(name, namespace, registry, tag, gpus, (min_replicas, max_replicas), canary)
    wanted.check()
    check_out(out)
    with opened(model, command="visionloop deploy") as versions:
        version = resolve.named(model, versions)
        uri, description = resolve.describe(version, versions)
    made = write(to, Order(version, uri, description.trainer, wanted), out)
    notice(f"{version.label}: {len(made.files)} files for {to} in {out}.")
    show(asdict(made), [f"{made.folder}/{file}" for file in made.files], output)
