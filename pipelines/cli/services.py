"""``visionloop up``, ``down`` and ``status``: the embedded services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines import services
from visionloop.pipelines.cli.output import Output, say, show
from visionloop.pipelines.services.folder import Folder, find_folder
from visionloop.pipelines.services.tracking import PAGE_USER, read_password

Host = Annotated[
    str | None,
    typer.Option(help="An address of this machine on which pods reach S3 and MLflow (default: loopback only)."),
]


def up(
    host: Host = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Open MLflow without a password, on a machine that nobody shares.")
    ] = False,
) -> None:
    """Start the embedded S3 and MLflow and keep them running.

    Example: visionloop up
    """
    embedded = services.up(host=host, password=not no_password)
    say(f"S3      {embedded.host_endpoint or embedded.endpoint}")
    say(f"MLflow  {embedded.page_url}")
    if embedded.page_password:
        say(f"        user {PAGE_USER}, password: visionloop status --password")
    else:
        say("        without a password: every user and program of this machine may read and change it")
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


def status(
    password: Annotated[bool, typer.Option("--password", help="Print MLflow's password and nothing else.")] = False,
    output: Output = None,
) -> None:
    """Tell what runs.

    Example: visionloop status
    """
    current = services.status()
    if password:
        # As it is: whatever else is printed here has its secrets taken out.
        print(_password(Folder(current.folder)))  # noqa: T201
        return
    origin = find_folder().origin
    result = {
        "folder": str(current.folder),
        "origin": origin,
        "services": [
            {"name": service.name, "running": service.running, "pid": service.pid, "url": service.url}
            for service in current.services
        ],
        "permanent": current.permanent,
        "holders": list(current.holders),
    }
    show(result, _status_lines(current, origin), output)


def _status_lines(current: services.Status, origin: str) -> Iterator[str]:
    yield f"folder  {current.folder} ({origin})"
    for service in current.services:
        yield f"{service.name:<7} {f'{service.url} (process {service.pid})' if service.running else 'not running'}"
    if current.permanent:
        yield "kept running until `visionloop down`"
    if current.holders:
        yield f"used by the runs of process {', '.join(map(str, current.holders))}"


def _password(home: Folder) -> str:
    try:
        return read_password(home)
    except FileNotFoundError:
        raise InvalidConfig(f"{home.path}: MLflow has no password yet; `visionloop up` makes one.") from None
