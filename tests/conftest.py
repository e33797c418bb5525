"""Fixtures that every test may use: a clean environment, a real S3 (SeaweedFS) and a workspace on S3 and on files."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from visionloop.core.logs import LOGGER, Lines

#: Variables that Visionloop and its libraries read; no test inherits one from its caller.
OURS = re.compile(
    r"(VISIONLOOP|AWS|S3|R2|EXTERNAL|INTERNAL|MLFLOW|CONFIG|OBSERVABILITY|CLEARML|TENSORBOARD|CALLBACK|LABELER|KFP|ARGO)_.*"
    r"|CONFIG|ADVANCED_CONFIG|JOB_ID|TRAINING_JOB_ID|TRACE_ID|MODEL_NAME|TASK_TYPE|FRAMEWORK|DATASET_.*|SNAPSHOT_ID"
    r"|EPOCHS|BATCH_SIZE|LEARNING_RATE|IMGSZ|DEVICE|STORAGE_TYPE|OUTPUT_PATH|PRESIGNED_URLS_JSON|BACKEND_.*|TRAINING_MODE",
)

BUCKETS = ("datasets", "results")


#: Fixtures of the session that train: the tests that want one of them run in one process, so that it is made once.
TRAININGS = ("trained", "toy_trained")

#: The groups that take longest, begun first: else a process would be left with one of them when the others have ended.
LONGEST = (
    "toy_trained",
    "test_services",
    "test_kills",
    "test_retrain",
    "trained",
    "test_kubeflow_notebook",
    "test_demo",
    "test_bad_datasets",
    "test_ultralytics_training",
    "test_signals",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option of ``make test``."""
    parser.addoption("--quick", action="store_true", help="leave out the tests that are marked slow")


def pytest_configure() -> None:
    """Takes Ctrl-C and a closed terminal as a person's shell does: a job in the background is told to ignore them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Groups the tests for several processes: by the training that they share, else by file; the longest groups first."""
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    positions = {}
    for item in items:
        wanted = [name for name in TRAININGS if name in getattr(item, "fixturenames", ())]
        group = wanted[0] if wanted else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
        positions[item] = LONGEST.index(group) if group in LONGEST else len(LONGEST)
    items.sort(key=lambda item: positions[item])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stops where groups reach nobody: each process would then make every training and server of its own."""
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist does not group tests with this pytest; take the pinned ones.")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a GPU where there is none, and says so."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here; make gpu-test runs it on a machine that has one")


@pytest.fixture(autouse=True, scope="session")
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps what tests and their fixtures start out of this user's own registry and data folder."""
    home = tmp_path_factory.getbasetemp() / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, home_of_the_tests: Path
) -> None:
    """Removes every variable that could decide something, and this machine's AWS profiles with them."""
    for name in list(os.environ):
        if OURS.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VISIONLOOP_HOME", str(home_of_the_tests))
    nowhere = tmp_path_factory.getbasetemp() / "no-aws-here"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def log_as_at_the_start() -> None:
    """Takes back where a command that an earlier test ran in this process sent the log lines.

    To a logger that does not propagate pytest adds its own handler, and so a line would be heard twice once it does.
    """
    for logger in (LOGGER, logging.getLogger()):
        logger.handlers[:] = [handler for handler in logger.handlers if not isinstance(handler, Lines)]
    LOGGER.propagate = True
    LOGGER.setLevel(logging.NOTSET)


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access: str = field(default_factory=lambda: "VL" + uuid.uuid4().hex[:18].upper())
    secret: str = field(default_factory=lambda: uuid.uuid4().hex + uuid.uuid4().hex[:8], repr=False)


@dataclass(frozen=True)
class S3Server:
    """A running S3 server: its endpoint, keys that may do all, and keys that may only read ``datasets`` and ``results``."""

    endpoint: str
    keys: Keys
    readonly: Keys

    def variables(self, role_prefix: str, keys: Keys | None = None) -> dict[str, str]:
        """The three variables of a role (``INTERNAL_S3_`` …) that lead to this server."""
        keys = keys or self.keys
        return {
            f"{role_prefix}ENDPOINT": self.endpoint,
            f"{role_prefix}ACCESS_KEY": keys.access,
            f"{role_prefix}SECRET_KEY": keys.secret,
        }

    @property
    def both_roles(self) -> dict[str, str]:
        """The variables with which both roles' stores are this server."""
        return self.variables("EXTERNAL_S3_") | self.variables("INTERNAL_S3_")


def free_ports(count: int) -> list[int]:
    """Free loopback ports below the range of outgoing connections."""
    results: list[int] = []
    candidate = 20000 + os.getpid() * 37 % 9000
    while len(results) < count:
        candidate = 20000 + (candidate - 20000 + 1) % 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        results.append(candidate)
    return results


class _Weed:
    """A ``weed server`` on loopback in a folder of its own; the contents of its objects lie below ``objects``, if that is given."""

    def __init__(self, objects: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="visionloop-s3-"))
        keys, readonly = Keys(), Keys()
        may_read = [f"{action}:{bucket}" for action in ("Read", "List") for bucket in BUCKETS]
        identities = [
            {"name": "all", "credentials": [_credentials(keys)], "actions": ["Admin", "Read", "List", "Write"]},
            {"name": "readonly", "credentials": [_credentials(readonly)], "actions": may_read},
        ]
        (self.folder / "identities.json").write_text(json.dumps({"identities": identities}))
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
        ports = free_ports(len(names) + 2)
        command = [
            str(Path(sys.executable).with_name("weed")),
            "server",
            f"-dir={objects or self.folder}",
            # Here lie the databases that list the objects, too: one that meets a full disk takes no write until it is opened
            # again (goleveldb#196).
            f"-master.dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}={port}" for name, port in zip(names, ports, strict=False)),
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            "-volume.max=100",
            "-volume.minFreeSpace=1",
            "-filer",
            "-s3",
            f"-s3.port={ports[-1]}",
            f"-s3.port.grpc={ports[-2]}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-s3.config={self.folder / 'identities.json'}",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            f"-s3.localSocket={self.folder / 's3.sock'}",
        ]
        self.server = S3Server(f"http://127.0.0.1:{ports[-1]}", keys, readonly)
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def wait(self) -> S3Server:
        """Creates the buckets and waits for a real PUT and GET: the server answers before it is ready."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        client = boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            aws_access_key_id=self.server.keys.access,
            aws_secret_access_key=self.server.keys.secret,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", retries={"max_attempts": 0}, connect_timeout=1),
        )
        until = time.monotonic() + 60
        left, created = list(BUCKETS), set[str]()
        while left:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"weed did not start: {(self.folder / 'log').read_text()[-3000:]}")
            try:
                if left[0] not in created:
                    client.create_bucket(Bucket=left[0])
                client.put_object(Bucket=left[0], Key="ready", Body=b"yes")
                client.get_object(Bucket=left[0], Key="ready")["Body"].read()
                client.delete_object(Bucket=left[0], Key="ready")
                left.pop(0)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
                    # Made by an earlier try whose answer was lost, or that failed at the PUT.
                    created.add(left[0])
                    continue
                time.sleep(0.1)
            except BotoCoreError:
                time.sleep(0.1)
        client.close()
        return self.server

    def stop(self) -> None:
        """Ends the server at once and removes its data."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _credentials(keys: Keys) -> dict[str, str]:
    return {"accessKey": keys.access, "secretKey": keys.secret}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 with the buckets ``datasets`` and ``results``, for the whole session."""
    weed = _Weed()
    try:
        yield weed.wait()
    finally:
        weed.stop()


@pytest.fixture(scope="session")
def second_s3() -> Iterator[S3Server]:
    """Another S3 with buckets of the same names and keys of its own."""
    weed = _Weed()
    try:
        yield weed.wait()
    finally:
        weed.stop()


@pytest.fixture
def make_s3() -> Iterator[Callable[[Path], S3Server]]:
    """Starts servers that keep the contents of their objects in a folder of the test's own, and all else outside it."""
    started: list[_Weed] = []

    def start(objects: Path) -> S3Server:
        started.append(_Weed(objects))
        return started[-1].wait()

    yield start
    for weed in started:
        weed.stop()


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Both roles' variables lead to the server."""
    for name, value in s3.both_roles.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def s3_workspace(s3_environment: S3Server) -> str:
    """An empty prefix of its own in the bucket ``results``."""
    return f"s3://results/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def file_workspace(tmp_path: Path) -> str:
    """An empty folder's URI."""
    return (tmp_path / "workspace").as_uri()


@pytest.fixture(params=["s3", "file"])
def workspace(request: pytest.FixtureRequest) -> str:
    """An empty workspace's URI, once on S3 and once in a folder."""
    return str(request.getfixturevalue(f"{request.param}_workspace"))


@pytest.fixture(scope="session")
def registry_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty MLflow store to copy, as the embedded services make it: once for all processes of a test run."""
    from visionloop.pipelines.services import tracking
    from visionloop.pipelines.services.folder import Folder

    base = tmp_path_factory.getbasetemp()
    home = Folder((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "registry")
    home.create()
    with home.lock():
        tracking.prepare(home)
    return home.path


@pytest.fixture(scope="session")
def mlflow_database(registry_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store for the tests that share one."""
    return Path(shutil.copy(registry_template / "mlflow.db", tmp_path_factory.mktemp("mlflow")))
