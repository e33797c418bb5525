"""Leases: which processes still need the embedded services. All functions expect the folder's lock to be held."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from visionloop.core import structs
from visionloop.pipelines.services.folder import Folder, write_private
from visionloop.pipelines.services.processes import Process, this_process

#: The lease of ``visionloop up``, held until ``visionloop down``.
PERMANENT = "up.json"


class Lease(msgspec.Struct, frozen=True):
    """A holder; one without a process is valid until it is removed."""

    holder: Process | None = None

    @property
    def valid(self) -> bool:
        """Whether its holder is alive."""
        return self.holder is None or self.holder.alive


def take(folder: Folder, permanent: bool = False) -> Path:
    """Takes a lease for this process, or the permanent one.

    Returns:
        The lease's file, for ``give_back``.
    """
    process = this_process()
    name = PERMANENT if permanent else f"{process.pid}.{uuid.uuid4().hex[:8]}.json"
    path = folder.leases / name
    write_private(path, msgspec.json.encode(Lease(None if permanent else process)))
    return path


def give_back(path: Path) -> None:
    """Removes a lease; does nothing without one."""
    with suppress(FileNotFoundError):
        path.unlink()


def valid(folder: Folder) -> list[Lease]:
    """The leases whose holders are alive, the permanent one first; only reads."""
    leases = []
    for path in sorted(folder.leases.glob("*.json")):
        lease = _read(path)
        if lease and lease.valid:
            leases.append(lease)
    return sorted(leases, key=lambda lease: lease.holder is not None)


def sweep(folder: Folder) -> None:
    """Removes the leases of dead processes and files that are not leases."""
    for path in folder.leases.glob("*.json"):
        lease = _read(path)
        if lease is None or not lease.valid:
            give_back(path)


def _read(path: Path) -> Lease | None:
    try:
        return structs.decode(path.read_bytes(), Lease)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
