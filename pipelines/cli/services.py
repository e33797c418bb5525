"""``visionloop up``, ``down`` and ``status``: the embedded services."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from visionloop.core import texts
from visionloop.pipelines import services

Host = Annotated[
    str | None,
    typer.Option(help="An address of this machine on which pods reach S3 and MLflow (default: loopback only)."),
]


def up(host: Host = None) -> None:
    """Start the embedded S3 and MLflow and keep them running.

    Example: visionloop up
    """
    embedded = services.up(host=host)
    say(f"S3      {embedded.host_endpoint or embedded.endpoint}")
    say(f"MLflow  {embedded.page_url}")
    say(f"Keys, data and logs lie in {embedded.folder}. For another program:")
    for name, value in embedded.client_environment().items():
        # A key is never printed: the file that holds it is named.
        shown = f"(in {embedded.folder}/keys.json)" if "KEY" in name else value
        say(f"  {name}={shown}")


def down() -> None:
    """Stop the embedded services; data stay.

    Example: visionloop down
    """
    current = services.down()
    if current.holders:
        say(
            f"Still used by {len(current.holders)} run(s), process {', '.join(map(str, current.holders))}: they stop with the last one."
        )
    else:
        say("Stopped.")


def status() -> None:
    """Tell what runs.

    Example: visionloop status
    """
    current = services.status()
    say(f"folder  {current.folder}")
    for service in current.services:
        say(f"{service.name:<7} {f'{service.url} (process {service.pid})' if service.running else 'not running'}")
    if current.permanent:
        say("kept running until `visionloop down`")
    if current.holders:
        say(f"used by the runs of process {', '.join(map(str, current.holders))}")


def say(text: str) -> None:
    """A line for a person, on stdout as it is."""
    Console(highlight=False, soft_wrap=True).print(texts.outgoing(text), markup=False)
