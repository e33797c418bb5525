"""The folder under which the embedded services keep their data, keys, ports, logs and leases."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InvalidConfig, SickMachine
from visionloop.core.files import atomic_write
from visionloop.core.home import DEFAULT_NAME, VARIABLE, find_home

#: Bytes that must be free before the services start; below it SeaweedFS makes its volumes read-only.
LEAST_FREE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Folder:
    """The paths in the folder; nothing is created before ``create``.

    Attributes:
        path: The folder.
        origin: By which rule it was chosen, for people.
    """

    path: Path
    origin: str = "as given"

    @property
    def store_data(self) -> Path:
        """SeaweedFS's own data."""
        return self.path / "store"

    @property
    def keys(self) -> Path:
        """The S3 keys, in the form of SeaweedFS's identity file; mode 0600."""
        return self.path / "keys.json"

    @property
    def security(self) -> Path:
        """SeaweedFS's settings of its channels, which it reads in its working folder; mode 0600."""
        return self.path / "security.toml"

    @property
    def channel_certificate(self) -> Path:
        """The certificate of SeaweedFS's parts; made anew at each start."""
        return self.path / "channel.crt"

    @property
    def channel_key(self) -> Path:
        """That certificate's key; mode 0600."""
        return self.path / "channel.key"

    @property
    def ports(self) -> Path:
        """The ports, chosen once."""
        return self.path / "ports.json"

    @property
    def state(self) -> Path:
        """The started processes, with what identifies them."""
        return self.path / "services.json"

    @property
    def leases(self) -> Path:
        """One file for each holder of a lease."""
        return self.path / "leases"

    @property
    def runs(self) -> Path:
        """One file for each run that was started here: its workspace and its process."""
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        """One log for each service."""
        return self.path / "logs"

    @property
    def tracking_database(self) -> Path:
        """MLflow's SQLite file."""
        return self.path / "mlflow.db"

    @property
    def tracking_version(self) -> Path:
        """The MLflow version that the database was last prepared for."""
        return self.path / "mlflow.version"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts of runs that use no S3."""
        return self.path / "artifacts"

    @property
    def page_password(self) -> Path:
        """The password of MLflow's page; mode 0600."""
        return self.path / "mlflow-password"

    @property
    def page_secret(self) -> Path:
        """With what MLflow's page signs its forms; mode 0600."""
        return self.path / "mlflow-secret"

    @property
    def page_users(self) -> Path:
        """MLflow's own table of users."""
        return self.path / "mlflow-users.db"

    @property
    def page_settings(self) -> Path:
        """MLflow's settings of its password."""
        return self.path / "mlflow-auth.ini"

    def create(self) -> None:
        """Creates the folder, readable by its owner only.

        Raises:
            InvalidConfig: If it can't be written.
            SickMachine: If the disk is full.
        """
        with naming_the_remedy(self):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.name == DEFAULT_NAME:
                # One that a person began with mkdir; a folder of another name may be there for more than this.
                self.path.chmod(0o700)
            for sub in (self.store_data, self.leases, self.logs, self.artifacts):
                sub.mkdir(exist_ok=True, mode=0o700)
            # Keeps keys and data out of a repository that contains the folder.
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder's lock; it is released when the process dies.

        Raises:
            InvalidConfig: If the folder can't be written.
            SickMachine: If the disk is full.
        """
        with naming_the_remedy(self):
            handle = os.open(self.path / "services.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def require_space(self, least: int = LEAST_FREE_BYTES) -> None:
        """Checks that ``least`` bytes are free on the folder's disk.

        Raises:
            SickMachine: If they are not.
        """
        free = shutil.disk_usage(self.path).free
        if free < least:
            raise SickMachine(
                f"{self.path}: the disk has {free // 2**20} MiB free and the embedded services need {least // 2**20} MiB; "
                f"free some space or set {VARIABLE} to a folder on another disk."
            )


def find_folder(path: str | os.PathLike[str] | None = None, environment: Mapping[str, str] | None = None) -> Folder:
    """The home of the embedded services, the same one in every folder of a project.

    Args:
        path: The folder; it comes before every rule.
        environment: The variables, those of this process by default.

    Returns:
        ``path``, else ``VISIONLOOP_HOME``, else the nearest ``.visionloop`` of this user from the current folder upwards,
        else the user's data folder.

    Raises:
        InvalidConfig: If the path holds a character that a database URL can't hold.
    """
    folder = Folder(*find_home(path, os.environ if environment is None else environment))
    if any(character in str(folder.path) for character in "?#%"):
        raise InvalidConfig(
            f"{folder.path}: the folder of the embedded services holds one of ? # %, which a database URL can't name; "
            f"set {VARIABLE} to another folder."
        )
    return folder


def write_private(path: Path, content: bytes) -> None:
    """Writes a whole file or none, never readable by others."""
    with atomic_write(path, mode=0o600) as partial:
        partial.write_bytes(content)


@contextmanager
def naming_the_remedy(folder: Folder) -> Iterator[None]:
    """Turns an operating system's error about the folder into one sentence.

    Raises:
        SickMachine: If the disk is full.
        InvalidConfig: For every other reason: no permission, a file in the way, a read-only disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SickMachine(
                f"{folder.path}: the disk is full; free some space or set {VARIABLE} to a folder on another disk."
            ) from error
        raise InvalidConfig(
            f"{folder.path}: the folder of the embedded services can't be used ({error.strerror or error}); "
            f"set {VARIABLE} to a folder that you can write."
        ) from error
