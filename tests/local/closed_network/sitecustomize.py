"""Stands first on PYTHONPATH: refuses every address but loopback, and writes down what was asked for."""

import errno
import os
import socket
from typing import Any

_LOCAL = {"localhost", "", None, socket.gethostname()}


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in _LOCAL or name == "::1" or str(name).startswith("127.")


def _refuse(what: str) -> None:
    with open(os.environ["PYTHON_TEST_REFUSED"], "a") as file:
        file.write(f"{what}\n")
    raise OSError(errno.ENETUNREACH, f"the test refuses {what}")


class _Socket(socket.socket):
    def connect(self, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            _refuse(f"connect {address}")
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            _refuse(f"connect {address}")
        return super().connect_ex(address)


_getaddrinfo = socket.getaddrinfo


def _asked(host: Any, *arguments: Any, **named: Any) -> Any:
    if not _is_local(host):
        _refuse(f"getaddrinfo {host}")
    return _getaddrinfo(host, *arguments, **named)


if "PYTHON_TEST_REFUSED" in os.environ:
    socket.socket = _Socket  # type: ignore[misc]
    socket.getaddrinfo = _asked
