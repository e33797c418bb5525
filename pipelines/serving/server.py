"""The server's process: its address, its protocol, and its end."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visionloop.core.errors import InvalidConfig, Terminated
from visionloop.core.logs import notice
from visionloop.pipelines.serving.application import Served

#: The most connections at once; further ones are answered with 503.
CONNECTIONS = 256

#: Seconds in which the head of a request has to arrive, and that a connection may be idle.
HEAD_SECONDS = 15.0

#: Seconds that requests under way are given after SIGTERM.
GRACE_SECONDS = 10

#: The only addresses that need no token.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def listen(host: str, port: int) -> socket.socket:
    """A socket on which clients queue up from now on.

    Raises:
        InvalidConfig: If the port is taken or not allowed, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidConfig(
            f"--host {host}: it is not an address of this machine; give one such as 0.0.0.0."
        ) from error
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(CONNECTIONS)
    except PermissionError as error:
        listening.close()
        raise InvalidConfig(f"--port {port}: this user may not listen there; give a port above 1023.") from error
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise InvalidConfig(f"--port {port}: another program listens there; give another port.") from error
        raise InvalidConfig(f"--host {host}: this machine can't listen there ({error.strerror}).") from error
    return listening


class _Protocol(H11Protocol):
    """uvicorn's protocol, which waits for ever for a request's head, with a limit."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def _wait(self) -> None:
        """Starts the clock where no request is under way, and leaves it alone while a head goes on arriving."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def made(served: Served) -> uvicorn.Server:
    """The server of a model, which is not running yet."""
    return uvicorn.Server(
        uvicorn.Config(
            served.application(),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=int(HEAD_SECONDS),
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def run(served: Served, listening: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; requests under way are answered first."""
    try:
        made(served).run(sockets=[listening])
    except (Terminated, KeyboardInterrupt):
        pass  # uvicorn raises the signal again that ended it
    finally:
        served.close()
    notice("The server has ended.")
