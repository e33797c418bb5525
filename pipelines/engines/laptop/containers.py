"""Stages in containers of this machine: how Docker starts them, and how they are stopped.

``kfp.local`` starts one container for each task and gives it only KFP's own folder. The rest is here: the stores' network, the
keys, the folders that the run's URIs name, and the user that its files belong to.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from visionloop.components.register import signature
from visionloop.core.errors import InvalidConfig
from visionloop.core.limits import RUNNER_VARIABLE
from visionloop.core.policy import CACHE_VARIABLE, POLICIES
from visionloop.core.stores import local_path
from visionloop.data import images
from visionloop.data.datasets import parse_datasets
from visionloop.pipelines.engines import pods

#: The label that identifies a run's containers; its value is KFP's own folder, which no other run has.
LABEL = "visionloop.run"

#: Variables that a container gets from this process, in addition to those of every pod.
PREFIXES = ("VISIONLOOP_", "MLFLOW_", "AWS_")
NAMES = frozenset({"TRACE_ID", "PYTHONUNBUFFERED", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})

#: Variables that name a file or a process of this machine: they mean nothing in a container.
HERE = frozenset(
    {
        RUNNER_VARIABLE,
        CACHE_VARIABLE,
        signature.VARIABLE,
        "VISIONLOOP_HOME",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
    }
)

#: Variables whose value may be a folder or file of this machine: those that are only read, and those that are written.
PLACES_READ = ("VISIONLOOP_WEIGHTS",)
PLACES_WRITTEN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "VISIONLOOP_ARTIFACTS",
    "VISIONLOOP_DATABASE_URL",
    "TENSORBOARD_LOG_DIR",
    "CLEARML_CACHE_DIR",
)

#: Folders that can't be mounted without hiding what the image holds.
TAKEN = frozenset(Path(folder) for folder in ("/", "/opt", "/usr", "/bin", "/lib", "/etc", "/tmp"))  # noqa: S108


def _docker() -> Any:
    """The client's package, which only this runner needs."""
    try:
        import docker  # type: ignore[import-untyped]
    except ImportError as error:
        raise InvalidConfig(
            "--runner docker needs the package docker; install it with pip install 'visionloop[local]'."
        ) from error
    return docker


@contextlib.contextmanager
def engine() -> Iterator[Any]:
    """A client of the container engine.

    Raises:
        InvalidConfig: If the package is missing or no engine answers.
    """
    docker = _docker()
    try:
        client = docker.from_env()
    except (docker.errors.DockerException, OSError) as error:
        raise InvalidConfig(
            "--runner docker: no Docker engine answers on this machine; start it, set DOCKER_HOST, or leave --runner out."
        ) from error
    try:
        yield client
    finally:
        client.close()


def require(wanted: Iterable[str]) -> None:
    """Refuses a run whose images are not on this machine: nothing is pulled without being asked for.

    Raises:
        InvalidConfig: If there is no engine, or an image is missing.
    """
    docker = _docker()
    with engine() as client:
        for image in sorted(set(wanted)):
            try:
                client.images.get(image)
            except docker.errors.ImageNotFound as error:
                raise InvalidConfig(
                    f"--runner docker: the image {image} is not on this machine; build it with make images, or pull and tag it so."
                ) from error


def run_arguments(
    root: str, arguments: Mapping[str, Any], environment: Mapping[str, str], info: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of ``docker.containers.run`` for each container, as ``kfp.local.DockerRunner`` takes them.

    Args:
        root: KFP's own folder, which KFP mounts itself.
        arguments: The pipeline's arguments.
        environment: This process's variables.
        info: The engine's description of itself (``docker info``).

    Raises:
        InvalidConfig: If a folder or file that the run names can't be mounted in a container, or the run would be signed.
    """
    docker = _docker()
    if environment.get(signature.VARIABLE, "").strip():
        # All containers of a run see the same files, and of the key register alone may know.
        raise InvalidConfig(
            f"{signature.VARIABLE}: --runner docker signs no model; leave the runner out, or the variable."
        )
    options: dict[str, Any] = {
        # The image's own entry point is the command line; KFP gives a whole command.
        "entrypoint": ["env"],
        # The embedded S3 listens on loopback.
        "network_mode": "host",
        "environment": variables(environment),
        "mounts": [
            docker.types.Mount(target=str(inside), source=str(outside), type="bind", read_only=read_only)
            for outside, (inside, read_only) in mounts(arguments, environment).items()
        ],
        "user": _user(info),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "labels": {LABEL: root},
    }
    if POLICIES["train"].shared_memory:
        options["shm_size"] = POLICIES["train"].shared_memory.lower().removesuffix("i")
    if "nvidia" in (info.get("Runtimes") or {}):
        options["device_requests"] = [docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return options


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a container gets: those of every pod, and those that the runner sets for a stage."""
    allowed = {*pods.SECRET_VARIABLES, *pods.CONFIG_VARIABLES, *NAMES}
    passed = {
        name: value
        for name, value in environment.items()
        if name not in HERE and (name in allowed or name.upper() in NAMES or name.startswith(PREFIXES))
    }
    # A user unknown to the image has no name, and libraries ask for one.
    return passed | pods.ENVIRONMENT | {CACHE_VARIABLE: pods.CACHE, "USER": "visionloop", "LOGNAME": "visionloop"}


def mounts(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> dict[Path, tuple[Path, bool]]:
    """The folders and files of this machine that a run's containers see: path inside, and whether it is read-only.

    The path inside is the same as here, so that a URI means the same on both sides; only the image cache has its own.

    Raises:
        InvalidConfig: If one would hide what the image holds.
    """
    read = [arguments.get(name) for name in ("gate", "model", "checks")]
    read += [dataset.uri for dataset in parse_datasets(arguments["dataset"])] if arguments.get("dataset") else []
    read += [environment.get(name) for name in PLACES_READ]
    written = [arguments.get("workspace"), *(environment.get(name) for name in PLACES_WRITTEN)]
    mounted: dict[Path, tuple[Path, bool]] = {}
    for value, read_only in [*((entry, True) for entry in read), *((entry, False) for entry in written)]:
        path = _path_of(value)
        if path is None:
            continue
        if not read_only:
            path = path.parent if str(value).startswith("sqlite:") else path
            path.mkdir(parents=True, exist_ok=True)
        if path.resolve() in TAKEN:
            raise InvalidConfig(f"--runner docker: {value} can't be seen in a container; give a folder of its own.")
        if path.exists():
            mounted[path] = (path, read_only)
    cache = images.ImageCache.of_environment().folder
    cache.mkdir(parents=True, exist_ok=True)
    return {**mounted, cache: (Path(pods.CACHE), False)}


def _path_of(value: Any) -> Path | None:
    """The absolute path that a value names; None for anything else."""
    text = str(value or "")
    if text.startswith("sqlite:///"):
        text = text.removeprefix("sqlite:///").partition("?")[0]
    path = local_path(text) or Path(text)
    try:
        return path if path.is_absolute() else None
    except ValueError:
        return None


def _user(info: Mapping[str, Any]) -> str:
    """The user of a container, so that the files it writes are the caller's; in a rootless engine, root is the caller."""
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"


def stop(root: str, number: signal.Signals, patience: float) -> None:
    """Asks a run's containers to end, and kills those left after ``patience`` seconds. Without an engine there are none."""
    gone = (_docker().errors.DockerException, OSError)
    with contextlib.suppress(InvalidConfig, *gone), engine() as client:
        running = client.containers.list(filters={"label": f"{LABEL}={root}"})
        for container in running:
            with contextlib.suppress(*gone):
                container.kill(signal=number.name)
            # The first process is KFP's shell, which does not forward signals; `-- -1` is every other process of ours.
            with contextlib.suppress(*gone):
                container.exec_run(["sh", "-c", f"kill -s {number.name.removeprefix('SIG')} -- -1"])
        for container in running:
            if number != signal.SIGKILL:
                with contextlib.suppress(*gone):
                    container.wait(timeout=patience)
            with contextlib.suppress(*gone):
                container.kill()
