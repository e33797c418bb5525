"""``visionloop serve``: a registered model behind HTTP, on this machine."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Annotated

import typer

from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.pipelines.serving import SHORTEST_TOKEN, TOKEN


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS.")],
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but this machine's own needs VISIONLOOP_SERVE_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8080,
) -> None:
    """Answers MLflow's /invocations and the Open Inference Protocol v2 with a model, until it is asked to end.

    Example: visionloop serve bottles@champion --port 9000
    """
    from visionloop.core.stdout import stdout_to_stderr
    from visionloop.pipelines.models.opened import opened
    from visionloop.pipelines.serving import server
    from visionloop.pipelines.serving.application import Served
    from visionloop.registry import resolve
    from visionloop.registry.loaded import loaded

    token = _token(host, server.LOOPBACK)
    with ExitStack() as stack:
        # Before anything is loaded: a port that is taken is told at once.
        listening = stack.enter_context(server.listen(host, port))
        stack.enter_context(stdout_to_stderr())
        with opened(model, command="visionloop serve") as registry:
            version = resolve.named(model, registry)
            uri, description = resolve.describe(version, registry)
            served = Served(stack.enter_context(loaded(version, uri, description)), token)
        address = f"[{host}]" if ":" in host else host
        notice(f"{version.label} is served at http://{address}:{listening.getsockname()[1]} (Ctrl-C ends it).")
        server.run(served, listening)


def _token(host: str, loopback: tuple[str, ...]) -> str:
    """What clients have to send; empty where everybody is let in.

    Raises:
        InvalidConfig: If others can reach the address and there is no token, or if it is too short.
    """
    token = os.environ.get(TOKEN, "")
    if not token and host not in loopback:
        raise InvalidConfig(
            f"--host {host}: others can reach it there; set {TOKEN} to a text that clients have to send."
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii()):
        raise InvalidConfig(
            f"{TOKEN} has fewer than {SHORTEST_TOKEN} characters, or other than ASCII; set a longer one."
        )
    return token
