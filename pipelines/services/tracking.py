"""The embedded MLflow: a SQLite file that stages use directly, and a server for its page and for pods."""

from __future__ import annotations

import configparser
import io
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata

from visionloop.core.errors import InvalidConfig, SickMachine
from visionloop.pipelines.services import page, store
from visionloop.pipelines.services.folder import Folder, naming_the_remedy, write_private
from visionloop.pipelines.services.ports import LOOPBACK
from visionloop.training.tracking.mlflow_tracker import ARTIFACTS_VARIABLE

#: Where artifacts of new experiments are stored; the default for SQLite is a folder relative to the calling process.
ARTIFACT_ROOT = f"s3://{store.RESULTS_BUCKET}/mlflow"

#: The page's only user.
PAGE_USER = "visionloop"


def tracking_uri(folder: Folder) -> str:
    """The URI of the SQLite store, for processes of this machine."""
    return f"sqlite:///{folder.tracking_database}"


def registry_variables(folder: Folder) -> dict[str, str]:
    """The variables with which processes of this machine open the store, and keep artifacts where there is no S3."""
    return {
        "MLFLOW_TRACKING_URI": tracking_uri(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        ARTIFACTS_VARIABLE: str(folder.artifacts),
    }


def prepare(folder: Folder) -> None:
    """Creates the SQLite store, or migrates it to the installed MLflow. The folder's lock must be held.

    If several processes created it at once, all but one would fail, so this runs before anything gets its URI. It is created under
    a temporary name and then moved into place, so a process killed in between leaves nothing half-made.

    Raises:
        InvalidConfig: If MLflow is not installed, or the file is not an MLflow store that this version can read.
        SickMachine: If the disk is full.
    """
    try:
        version = metadata.version("mlflow")
    except metadata.PackageNotFoundError as error:
        raise InvalidConfig(
            "mlflow: the embedded MLflow isn't installed; install it with pip install 'visionloop[local]'."
        ) from error
    with suppress(FileNotFoundError):
        if folder.tracking_database.exists() and folder.tracking_version.read_text() == version:
            return
    # No atomic_write: the folder is locked, and under a fixed name the next start clears what a killed one left.
    temporary = folder.path / "mlflow.new.db"
    with naming_the_remedy(folder):
        temporary.unlink(missing_ok=True)
        if folder.tracking_database.exists():
            temporary.write_bytes(folder.tracking_database.read_bytes())
        log = folder.logs / "mlflow-schema.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [sys.executable, "-m", "visionloop.pipelines.services.schema", str(temporary), ARTIFACT_ROOT],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=quiet_environment(),
                cwd=folder.path,
                check=False,
            )
        if done.returncode != 0:
            folder.require_space()
            if done.returncode < 0:
                raise SickMachine(
                    f"{temporary}: preparing MLflow's store was killed by signal {-done.returncode}; see {log}."
                )
            raise InvalidConfig(
                f"{folder.tracking_database}: MLflow {version} can't use this store; see {log}, "
                "or move the file away so that a new one is made."
            )
        temporary.chmod(0o600)
        temporary.replace(folder.tracking_database)
        write_private(folder.tracking_version, version.encode())


def quiet_environment() -> dict[str, str]:
    """This process's variables without those that would point MLflow or boto3 elsewhere, and with telemetry off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_", "AWS_"))}
    return kept | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Jobs for generative models: two more processes that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def database_argument(folder: Folder) -> str:
    """The argument that identifies this folder's page among all processes."""
    return f"--backend-store-uri={tracking_uri(folder)}"


def load_password(folder: Folder) -> str:
    """The page's password, made at random the first time. The folder's lock must be held."""
    with suppress(FileNotFoundError):
        return read_password(folder)
    # MLflow takes a password for a user that it does not have yet, and no other time.
    folder.page_users.unlink(missing_ok=True)
    password = secrets.token_urlsafe(24)
    write_private(folder.page_password, password.encode())
    return password


def read_password(folder: Folder) -> str:
    """The page's password.

    Raises:
        FileNotFoundError: If none was made yet.
    """
    return folder.page_password.read_text().strip()


def command(folder: Folder, address: str, port: int) -> list[str]:
    """The command line of MLflow's server (MLflow 3.17, ``mlflow server --help``)."""
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        database_argument(folder),
        f"--default-artifact-root={ARTIFACT_ROOT}",
        "--no-serve-artifacts",
        "--app-name=visionloop",
        f"--host={address}",
        f"--port={port}",
        "--workers=1",
        f"--allowed-hosts={','.join(allowed_hosts(address, port))}",
    ]


def allowed_hosts(address: str, port: int) -> list[str]:
    """``Host`` headers that the server answers to; it compares the whole header, including the port.

    When it listens on all addresses of the machine, the names are unknown beforehand, so any is allowed.
    """
    if address == "0.0.0.0":  # noqa: S104 - compared, not bound
        return ["*"]
    return [f"{name}:{port}" for name in dict.fromkeys((address, LOOPBACK, "localhost"))]


def page_environment(folder: Folder, endpoint: str, keys: store.Keys, password: bool) -> dict[str, str]:
    """The variables of MLflow's server: it reads artifacts from the results store and the home itself.

    Args:
        folder: The home, whose lock must be held.
        endpoint: The embedded S3.
        keys: Its keys.
        password: Whether the page asks for one.
    """
    return (
        quiet_environment()
        | client_variables(endpoint, keys)
        | without_proxy(os.environ, LOOPBACK)
        | {ARTIFACTS_VARIABLE: str(folder.artifacts)}
        | (_password_variables(folder) if password else {})
    )


def _password_variables(folder: Folder) -> dict[str, str]:
    """Prepares MLflow's own users, with one of them, and returns the variables that lead there."""
    password = load_password(folder)
    if not folder.page_secret.exists():
        write_private(folder.page_secret, secrets.token_urlsafe(32).encode())
    settings = configparser.RawConfigParser()
    settings["mlflow"] = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder.page_users}",
        "admin_username": PAGE_USER,
        # Off by default: each request would then cost 0.1 s of a processor.
        "auth_cache_ttl_seconds": "300",
    }
    text = io.StringIO()
    settings.write(text)
    write_private(folder.page_settings, text.getvalue().encode())
    return {
        page.PASSWORD_VARIABLE: str(folder.page_settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": folder.page_secret.read_text(),
    }


def user_variables(password: str) -> dict[str, str]:
    """The variables with which MLflow's clients name themselves to the page."""
    return {"MLFLOW_TRACKING_USERNAME": PAGE_USER, "MLFLOW_TRACKING_PASSWORD": password}


def client_variables(endpoint: str, keys: store.Keys) -> dict[str, str]:
    """The variables with which MLflow and boto3 reach the results store."""
    return {
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": store.REGION,
    }


def without_proxy(environment: Mapping[str, str], *addresses: str) -> dict[str, str]:
    """``NO_PROXY`` in both spellings, extended by addresses that a proxy can't reach."""
    before = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in before.split(",") if name.strip()]
    value = ",".join(dict.fromkeys([*names, *addresses, "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}


def answers(address: str, port: int) -> bool:
    """Whether the page answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
