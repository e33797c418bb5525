"""Starting, sharing and stopping the embedded services.

A process that needs them holds a lease; the last to give one back stops them. Every step holds the folder's lock, so two
runs that start or stop them at the same time do so one after the other.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from visionloop.core import structs
from visionloop.core.errors import InvalidConfig, Transient
from visionloop.core.logs import notice
from visionloop.pipelines.services import channels, leases, store, tracking
from visionloop.pipelines.services.folder import Folder, find_folder, naming_the_remedy, write_private
from visionloop.pipelines.services.ports import LOOPBACK, check_address, keep_ports
from visionloop.pipelines.services.processes import Process, find, start, stop

#: Seconds that a service has to answer after its start: MLflow takes 10 on a free machine, and many times that on a busy one.
READY_SECONDS = 180

#: Seconds for which a running store must have refused writes before it is started again.
REFUSING_SECONDS = 5

STORE, PAGE, RELAY = "store", "page", "relay"


class _Running(msgspec.Struct, frozen=True):
    """A started service: its process, its command line, and where it listens."""

    process: Process
    command: list[str]
    address: str
    ports: dict[str, int]
    password: bool = False


@dataclass(frozen=True)
class Services:
    """The running services, as a run sees them.

    Attributes:
        folder: The folder of their data.
        keys: The S3 keys.
        endpoint: S3 for processes of this machine, ``http://127.0.0.1:PORT``.
        host: The address on which other machines reach them, or None for loopback only.
        host_endpoint: S3 for other machines (pods), or None.
        page_url: MLflow's page, or None if it was not requested.
        page_password: The password of its user ``visionloop``, or None if it asks for none.
    """

    folder: Path
    keys: store.Keys
    endpoint: str
    host: str | None = None
    host_endpoint: str | None = None
    page_url: str | None = None
    page_password: str | None = field(default=None, repr=False)

    @property
    def tracking_uri(self) -> str:
        """MLflow's SQLite store, for processes of this machine."""
        return tracking.tracking_uri(Folder(self.folder))

    def environment(self) -> dict[str, str]:
        """The variables of a run on this machine: both stores, MLflow, telemetry off, no proxy before loopback."""
        return (
            _store_variables(self.endpoint, self.keys)
            | tracking.registry_variables(Folder(self.folder))
            | {"MLFLOW_S3_ENDPOINT_URL": self.endpoint}
            | tracking.without_proxy(os.environ, LOOPBACK)
        )

    def client_environment(self) -> dict[str, str]:
        """``environment`` and the standard AWS variables, for a plain MLflow or boto3 client, for example to load a model.

        Not for runs whose dataset lies in another store: these variables would hide that store's keys.
        """
        return self.environment() | tracking.client_variables(self.endpoint, self.keys)

    def pod_environment(self) -> dict[str, str]:
        """The variables of a pod that reaches the services over the network.

        Raises:
            Transient: If they listen on loopback only.
        """
        if self.host_endpoint is None or self.page_url is None:
            raise Transient(
                f"{self.folder}: the embedded services listen on loopback only; "
                "run `visionloop up --host ADDRESS` with an address that pods reach."
            )
        return (
            _store_variables(self.host_endpoint, self.keys)
            | {"MLFLOW_TRACKING_URI": self.page_url, "MLFLOW_DISABLE_TELEMETRY": "true"}
            | (tracking.user_variables(self.page_password) if self.page_password else {})
        )


def _store_variables(endpoint: str, keys: store.Keys) -> dict[str, str]:
    values = {"ENDPOINT": endpoint, "ACCESS_KEY": keys.access_key, "SECRET_KEY": keys.secret_key}
    return {f"{role}_S3_{name}": value for role in ("EXTERNAL", "INTERNAL") for name, value in values.items()}


@dataclass(frozen=True)
class ServiceStatus:
    """One service: whether it runs, its process id, the URL it listens on, its log."""

    name: str
    running: bool
    pid: int | None
    url: str | None
    log: Path


@dataclass(frozen=True)
class Status:
    """What ``visionloop status`` reports. ``holders`` are the process ids of runs; ``permanent`` is ``visionloop up``'s lease."""

    folder: Path
    services: tuple[ServiceStatus, ...]
    holders: tuple[int, ...]
    permanent: bool
    connected: Services | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether the store runs."""
        return any(service.running for service in self.services if service.name == STORE)


def registry(folder: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Prepares the embedded MLflow's store for processes of this machine; starts nothing, since they open its file.

    Args:
        folder: As in ``session``.

    Returns:
        The variables that lead there.

    Raises:
        InvalidConfig: If the folder or the installation is unusable.
        SickMachine: If the disk is full.
    """
    home = _home(folder)
    with home.lock():
        home.require_space()
        tracking.prepare(home)
    return tracking.registry_variables(home)


def _home(folder: str | os.PathLike[str] | None) -> Folder:
    """The home, made if it is missing; a notice says which it is."""
    home = find_folder(folder)
    home.create()
    _tell(home)
    return home


@functools.cache
def _tell(home: Folder) -> None:
    """Says which home it is, once in a process."""
    notice(f"Registry and embedded services: {home.path} ({home.origin}).")


@contextmanager
def session(
    folder: str | os.PathLike[str] | None = None, host: str | None = None, page: bool = False
) -> Iterator[Services]:
    """Uses the running services, else starts them; stops them at the end unless somebody else holds a lease.

    Args:
        folder: The folder of their data; None for the one that ``find_folder`` finds.
        host: An address of this machine on which pods reach them; None leaves running services as they are, and starts others on loopback only.
        page: Also start MLflow's page.

    Yields:
        The services, ready.

    Raises:
        InvalidConfig: If the folder, the address or the installation is unusable.
        SickMachine: If the disk is full.
        Transient: If a service does not come up.
    """
    home = _home(folder)
    lease: Path | None = None
    try:
        with home.lock():
            leases.sweep(home)
            with naming_the_remedy(home):
                lease = leases.take(home)
            services = _ensure(home, host=host, page=page)
        yield services
    finally:
        if lease is not None:
            with home.lock():
                leases.give_back(lease)
                leases.sweep(home)
                if not leases.valid(home):
                    _stop_all(home)


def up(folder: str | os.PathLike[str] | None = None, host: str | None = None, password: bool = True) -> Services:
    """Starts the services with MLflow's page and keeps them running until ``down``.

    Args:
        folder: As in ``session``.
        host: An address of this machine on which pods reach S3 and MLflow; None for loopback only.
        password: Whether MLflow's page asks for one; without it whoever uses this machine is let in.

    Returns:
        The services, ready.

    Raises:
        InvalidConfig: If another machine would be let in without a password, or the folder, the address or the installation is unusable.
        SickMachine: If the disk is full.
        Transient: If a service does not come up; services that came up are stopped again unless a run uses them.
    """
    if host is not None and host != LOOPBACK and not password:
        raise InvalidConfig(
            f"--no-password with --host {host}: other machines would read and change everything; leave one of them out."
        )
    home = _home(folder)
    with home.lock():
        leases.sweep(home)
        before = leases.valid(home)
        with naming_the_remedy(home):
            lease = leases.take(home, permanent=True)
        try:
            return _ensure(home, host=host or LOOPBACK, page=True, password=password)
        except BaseException:
            if not any(other.holder is None for other in before):
                leases.give_back(lease)
            if not before:
                _stop_all(home)
            raise


def down(folder: str | os.PathLike[str] | None = None) -> Status:
    """Gives ``up``'s lease back and stops the services unless a run still uses them. Data stay.

    Args:
        folder: As in ``session``.

    Returns:
        The status afterwards; ``holders`` names the runs that keep the services running.
    """
    home = find_folder(folder)
    if home.path.is_dir():
        with home.lock():
            leases.give_back(home.leases / leases.PERMANENT)
            leases.sweep(home)
            if not leases.valid(home):
                _stop_all(home)
    return status(folder)


def status(folder: str | os.PathLike[str] | None = None) -> Status:
    """Which services run and which processes use them; starts and changes nothing.

    Args:
        folder: As in ``session``.
    """
    home = find_folder(folder)
    running = {name: service for name, service in _read(home).items() if service.process.alive}
    services = tuple(
        ServiceStatus(
            name,
            name in running,
            running[name].process.pid if name in running else None,
            _url(running[name]) if name in running else None,
            _log(home, name),
        )
        for name in (STORE, PAGE, RELAY)
        if name in running or name != RELAY
    )
    held = leases.valid(home)
    return Status(
        home.path,
        services,
        tuple(lease.holder.pid for lease in held if lease.holder),
        any(lease.holder is None for lease in held),
        _services(home, running) if STORE in running else None,
    )


def _services(folder: Folder, running: Mapping[str, _Running]) -> Services:
    page, relay = running.get(PAGE), running.get(RELAY)
    return Services(
        folder=folder.path,
        keys=store.read_keys(folder),
        endpoint=_url(running[STORE]),
        host=relay.address if relay else None,
        host_endpoint=_url(relay) if relay else None,
        page_url=_url(page) if page else None,
        page_password=tracking.read_password(folder) if page and page.password else None,
    )


def _url(service: _Running) -> str:
    address = service.address
    if address == "0.0.0.0":  # noqa: S104 - compared, not bound
        address = _own_address()
    return f"http://{address}:{service.ports['s3' if 's3' in service.ports else 'listen']}"


def _own_address() -> str:
    """The address from which this machine reaches others, else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it only asks the routing table. 192.0.2.0/24 is reserved for documentation (RFC 5737).
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return LOOPBACK


def _log(folder: Folder, name: str) -> Path:
    return folder.logs / f"{name}.log"


def _read(folder: Folder) -> dict[str, _Running]:
    try:
        return structs.decode(folder.state.read_bytes(), dict[str, _Running])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _write(folder: Folder, running: Mapping[str, _Running]) -> None:
    write_private(folder.state, msgspec.json.encode(running))


def _ensure(folder: Folder, host: str | None, page: bool, password: bool | None = None) -> Services:
    """Starts the missing services and waits until all of them answer.

    ``host`` None keeps the relay as it is; ``password`` None keeps a page on loopback as it is.
    """
    folder.require_space()
    if host is not None:
        check_address(host)
    tracking.prepare(folder)
    keys = store.load_keys(folder)
    main = _ensure_store(folder, keys)
    relay = _read(folder).get(RELAY)
    if host is None:
        host = relay.address if relay and relay.process.alive else LOOPBACK
    if host == LOOPBACK:
        _stop_service(folder, RELAY)
    else:
        _ensure_relay(folder, host, main.ports["s3"])
    if page or host != LOOPBACK:
        _ensure_page(folder, host, keys, _url(main), password)
    return _services(folder, {name: service for name, service in _read(folder).items() if service.process.alive})


def _ensure_store(folder: Folder, keys: store.Keys) -> _Running:
    current = _read(folder).get(STORE)
    if current is None or not current.process.alive or _refuses(current, keys):
        current = _start_store(folder)
    reason = _wait_for_store(current, keys)
    if reason is not None and not current.process.alive:
        # A second try: a port can be taken between its choice and its use.
        folder.require_space()
        current = _start_store(folder)
        reason = _wait_for_store(current, keys)
    if reason is not None:
        folder.require_space()
        raise Transient(
            f"S3 on port {current.ports['s3']} of {folder.path} did not come up within {READY_SECONDS} s "
            f"({reason}); see {_log(folder, STORE)}."
        )
    return current


def _refuses(service: _Running, keys: store.Keys) -> bool:
    """Whether a running store goes on refusing writes.

    One whose disk was full may for ever: a database of SeaweedFS's that once failed to append takes no write until it is
    opened again (goleveldb#196).
    """
    deadline = time.monotonic() + REFUSING_SECONDS
    with closing(store.client(service.ports["s3"], keys)) as s3:
        while store.refuses(s3):
            if time.monotonic() > deadline:
                notice("The embedded S3 refuses to write, as after a full disk; it is started again.")
                return True
            time.sleep(0.1)
    return False


def _start_store(folder: Folder) -> _Running:
    _stop_service(folder, STORE)
    _stop_strays(store.data_argument(folder))
    ports = keep_ports(folder, dict.fromkeys(store.PORTS, LOOPBACK))
    store.remove_sockets(ports)
    with naming_the_remedy(folder):
        channels.close(folder)
    return _start(folder, STORE, store.command(folder, ports), LOOPBACK, ports, tracking.quiet_environment())


def _wait_for_store(service: _Running, keys: store.Keys) -> str | None:
    with closing(store.client(service.ports["s3"], keys)) as s3:
        return _wait(service, partial(store.probe, s3))


def _ensure_relay(folder: Folder, host: str, target: int) -> None:
    current = _read(folder).get(RELAY)
    module = "visionloop.pipelines.services.relay"
    if current and current.process.alive and current.address == host and current.command[-1] == str(target):
        return
    _stop_service(folder, RELAY)
    port = keep_ports(folder, {RELAY: host})[RELAY]
    command = [sys.executable, "-m", module, host, str(port), str(target)]
    started = _start(folder, RELAY, command, host, {"listen": port}, tracking.quiet_environment())
    reason = _wait(started, lambda: None if _listens(host, port) else "nobody listens")
    if reason is not None:
        raise Transient(f"The relay on {host}:{port} did not come up ({reason}); see {_log(folder, RELAY)}.")


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _ensure_page(folder: Folder, host: str, keys: store.Keys, endpoint: str, password: bool | None) -> None:
    current = _read(folder).get(PAGE)
    if current and not current.process.alive:
        current = None
    if password is None:
        password = current.password if current and host == LOOPBACK else True
    if current is None or (current.address, current.password) != (host, password):
        _stop_service(folder, PAGE)
        _stop_strays(tracking.database_argument(folder))
        port = keep_ports(folder, {PAGE: host})[PAGE]
        command = tracking.command(folder, host, port)
        with naming_the_remedy(folder):
            environment = tracking.page_environment(folder, endpoint, keys, password)
        current = _start(folder, PAGE, command, host, {"listen": port}, environment, password)
    answers = partial(tracking.answers, host, current.ports["listen"])
    reason = _wait(current, lambda: None if answers() else "it does not answer")
    if reason is not None:
        folder.require_space()
        raise Transient(
            f"MLflow's page on port {current.ports['listen']} of {folder.path} did not come up within {READY_SECONDS} s "
            f"({reason}); see {_log(folder, PAGE)}."
        )


def _start(
    folder: Folder,
    name: str,
    command: list[str],
    address: str,
    ports: dict[str, int],
    environment: Mapping[str, str],
    password: bool = False,
) -> _Running:
    with naming_the_remedy(folder):
        process = start(command, _log(folder, name), environment, folder.path)
        if process is None:
            raise Transient(f"{command[0]}: ended at once; see {_log(folder, name)}.")
        service = _Running(process, command, address, ports, password)
        _write(folder, _read(folder) | {name: service})
    return service


def _wait(service: _Running, probe: Callable[[], str | None]) -> str | None:
    """Probes until the service is ready, its process has ended or the time is up; returns the last reason, or None."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        reason = probe()
        if reason is None:
            return None
        if not service.process.alive:
            return "the process has ended"
        if time.monotonic() > deadline:
            return reason
        time.sleep(0.1)


def _stop_service(folder: Folder, name: str) -> None:
    running = _read(folder)
    service = running.pop(name, None)
    if service is not None:
        stop(service.process)
        if name == STORE:
            store.remove_sockets(service.ports)
        _write(folder, running)


def _stop_strays(argument: str) -> None:
    for process in find(argument):
        stop(process)


def _stop_all(folder: Folder) -> None:
    for name in (PAGE, RELAY, STORE):
        _stop_service(folder, name)
