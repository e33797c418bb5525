"""Ports of the embedded services: chosen once, kept in a file, replaced only if another program took one."""

from __future__ import annotations

import ipaddress
import random
import socket

import msgspec

from visionloop.core import structs
from visionloop.core.errors import InvalidConfig, Transient
from visionloop.pipelines.services.folder import Folder, write_private

#: Below the range of ports for outgoing connections, and below Kubernetes' node ports.
RANGE = range(20000, 30000)

LOOPBACK = "127.0.0.1"


def keep_ports(folder: Folder, wanted: dict[str, str]) -> dict[str, int]:
    """Ports for services that are not running, the same as last time if they are still free.

    Args:
        folder: The services' folder.
        wanted: Address to listen on, by the port's name.

    Returns:
        The port by name.

    Raises:
        Transient: If no free port was found.
    """
    try:
        kept = structs.decode(folder.ports.read_bytes(), dict[str, int])
    except (FileNotFoundError, msgspec.DecodeError):
        kept = {}
    chosen = dict(kept)
    for name, address in wanted.items():
        others = {port for other, port in chosen.items() if other != name}
        if name in chosen and chosen[name] not in others and is_free(address, chosen[name]):
            continue
        chosen[name] = _choose(address, others)
    if chosen != kept:
        write_private(folder.ports, msgspec.json.encode(chosen, order="deterministic"))
    return {name: chosen[name] for name in wanted}


def _choose(address: str, taken: set[int]) -> int:
    for port in random.SystemRandom().sample(RANGE, 200):
        if port not in taken and is_free(address, port):
            return port
    raise Transient(f"{address}: no free port between {RANGE.start} and {RANGE.stop} was found; try again.")


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers set it: connections that have just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def check_address(address: str) -> str:
    """An IPv4 address of this machine, or 0.0.0.0 for all of them.

    Raises:
        InvalidConfig: If it is neither.
    """
    try:
        ipaddress.IPv4Address(address)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except (OSError, ValueError) as error:
        raise InvalidConfig(
            f"--host {address}: not an IPv4 address of this machine; name one that its other machines reach, or 0.0.0.0."
        ) from error
    return address
