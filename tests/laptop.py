"""One machine as a test needs it: the command line in processes of its own, a real store, a real MLflow, tiny datasets."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import psutil
import pytest
from obstore.store import LocalStore, S3Store

from visionloop.core import progress, receipts
from visionloop.core.receipts import Receipt, Result
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix
from visionloop.pipelines import sample

Seen = TypeVar("Seen")

TESTS = Path(__file__).parent
THIRD_PARTY = TESTS / "third_party" / "distribution"
CLOSED_NETWORK = TESTS / "local" / "closed_network"
VISIONLOOP = Path(sys.executable).with_name("visionloop")

#: Settings of a training of the real trainer and of the toy's, as small as they get.
TINY = ("model=yolo11n.yaml", "imgsz=32", "epochs=2", "batch=8", "nbs=8", "mosaic=0", "workers=0")
TOY = ("trainer=toy", "epochs=4", "batch=8", "lr0=1")

#: The gate of a model that was hardly trained: its mAP may be 0, which only an explicit floor lets through.
HARDLY_TRAINED = ("--gate", '{"floor": 0}')

#: Seconds after which a command that should have ended is given up.
PATIENCE = 240


class Server(Protocol):
    """An S3 server as ``tests/conftest.py`` starts it."""

    @property
    def endpoint(self) -> str: ...

    @property
    def keys(self) -> Any: ...

    @property
    def readonly(self) -> Any: ...

    def variables(self, role_prefix: str, keys: Any = None) -> dict[str, str]: ...


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and all that it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object that is stdout's last line."""
        value = json.loads(self.stdout.splitlines()[-1])
        assert isinstance(value, dict)
        return value

    @property
    def sentence(self) -> str:
        """stderr's last line."""
        return (self.stderr.splitlines() or [""])[-1]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON log lines on stderr."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    def expect(self, code: int = 0) -> Ended:
        """This, if the exit code is the expected one."""
        assert self.code == code, f"exit code {self.code}\n{self.stdout}\n{self.stderr}"
        return self

    def refused(self, code: int) -> str:
        """The sentence of a command that must end with ``code``, no JSON and no traceback."""
        self.expect(code)
        assert "Traceback" not in self.stdout + self.stderr
        assert not [line for line in self.stdout.splitlines() if line.startswith("{")]
        assert self.sentence.endswith("."), self.sentence
        return self.sentence


@dataclass
class Command:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    folder: Path

    def end(self, timeout: float = PATIENCE) -> Ended:
        """Waits for it."""
        code = self.process.wait(timeout)
        return Ended(code, (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text())

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return (self.folder / "stderr").read_text()

    def tree(self) -> list[psutil.Process]:
        """It and all that it started, but the embedded services: they are everybody's."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *(child for child in root.children(recursive=True) if child.name() != "weed")]
        except psutil.NoSuchProcess:
            return []

    def descendant(self, text: str) -> psutil.Process:
        """The process below it whose command line holds ``text``."""

        def find() -> psutil.Process | None:
            for process in self.tree():
                with contextlib.suppress(psutil.Error):
                    if text in " ".join(process.cmdline()):
                        return process
            return None

        return wait_for(find, self)

    def kill(self) -> None:
        """SIGKILL to all of it at once, as a machine that loses its power."""
        members = self.tree()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in members:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        psutil.wait_procs(members, 30)
        self.process.wait()


def wait_for(look: Callable[[], Seen | None], command: Command | None = None, patience: float = PATIENCE) -> Seen:
    """The first true result; a command that ends before is a failure."""
    until = time.monotonic() + patience
    while not (result := look()):
        if command is not None and command.process.poll() is not None:
            # It may have ended right after what was waited for.
            result = look()
            assert result, f"ended too early: {command.end()}"
            break
        assert time.monotonic() < until, f"waited in vain{f': {command.stderr}' if command else ''}"
        time.sleep(0.02)
    return result


@dataclass(frozen=True)
class Dataset:
    """A DICE dataset that a test may change."""

    prefix: Prefix

    @property
    def uri(self) -> str:
        """Its URI."""
        return self.prefix.uri

    def put(self, objects: Mapping[str, bytes]) -> Dataset:
        """Writes objects."""
        for _ in self.prefix.map(lambda key: self.prefix.write(key, objects[key]), objects):
            pass
        return self

    def annotations(self, task: str = "detection") -> dict[str, Any]:
        """The annotation file, decoded."""
        value = json.loads(self.prefix.read(f"annotations_{task}.json"))
        assert isinstance(value, dict)
        return value

    def write_annotations(self, value: Any, task: str = "detection") -> Dataset:
        """Replaces the annotation file."""
        self.prefix.write(f"annotations_{task}.json", json.dumps(value).encode())
        return self


def sample_objects(train: int = 16, val: int = 8, test: int = 8) -> dict[str, bytes]:
    """The sample dataset's objects by key."""
    objects: dict[str, bytes] = {}
    sample.write(objects.__setitem__, train=train, val=val, test=test)
    return objects


def s3_prefix(server: Server, bucket: str, path: str = "", role: Any = "results") -> Prefix:
    """A prefix on a server, whatever the environment says."""
    store = S3Store(
        bucket,
        endpoint=server.endpoint,
        access_key_id=server.keys.access,
        secret_access_key=server.keys.secret,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return Prefix("/".join(filter(None, [f"s3://{bucket}", path])), role, store, path)


def file_prefix(folder: Path, role: Any = "results") -> Prefix:
    """A folder."""
    return Prefix(folder.as_uri(), role, LocalStore("/"), str(folder).strip("/"))


@dataclass
class Laptop:
    """A folder to work in, a workspace, a registry, and the variables that lead to them."""

    folder: Path
    workspace: Prefix
    variables: dict[str, str]
    started: list[Command] = field(default_factory=list)

    @cached_property
    def mark(self) -> str:
        """What all processes of this laptop have in their environment."""
        return uuid.uuid4().hex

    @property
    def database(self) -> Path:
        """MLflow's SQLite file."""
        return self.folder / "home" / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command: nothing of the caller's own decides anything."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return kept | {
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join(map(str, (CLOSED_NETWORK, THIRD_PARTY))),
            "VISIONLOOP_HOME": str(self.folder / "home"),
            "VISIONLOOP_CACHE": str(self.folder / "cache"),
            "PYTHON_TEST_MARK": self.mark,
            "PYTHON_TEST_REFUSED": str(self.folder / "refused"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Two tests' trainings at once are faster with a core each.
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def start(self, *arguments: str, variables: Mapping[str, str | None] | None = None) -> Command:
        """Starts a command; a variable that is None is taken away."""
        folder = self.folder / "commands" / str(len(self.started))
        folder.mkdir(parents=True)
        environment = {**self.environment, **(variables or {})}
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [str(VISIONLOOP), *arguments],
                env={name: value for name, value in environment.items() if value is not None},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        command = Command(process, folder)
        self.started.append(command)
        return command

    def run(self, *arguments: str, variables: Mapping[str, str | None] | None = None) -> Ended:
        """Runs a command to its end."""
        small = arguments[0] in ("stage", "plan", "run") or arguments[-1] == "--help"
        if not small or "PYTHONPATH" in (variables or {}):
            return self.start(*arguments, variables=variables).end()
        folder = self.folder / "commands" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        environment = {**self.environment, **(variables or {})}
        code = command_server().run(
            arguments, {n: v for n, v in environment.items() if v is not None}, self.folder, folder
        )
        return Ended(code, (folder / "stdout").read_text(), (folder / "stderr").read_text())

    def stage(
        self,
        name: str,
        *arguments: str,
        settings: tuple[str, ...] = (),
        variables: Mapping[str, str | None] | None = None,
    ) -> Ended:
        """Runs one stage."""
        return self.run(*self.stage_command(name, *arguments, settings=settings), variables=variables)

    def stage_command(self, name: str, *arguments: str, settings: tuple[str, ...] = ()) -> list[str]:
        """The command line of a stage."""
        return ["stage", name, "--workspace", self.workspace.uri, *arguments, *sets(settings)]

    def train_command(self, dataset: str, *arguments: str, settings: tuple[str, ...] = TOY) -> list[str]:
        """The command line of a whole run; with the real trainer its gate lets a model through that was hardly trained."""
        if "--gate" not in arguments and "trainer=toy" not in settings:
            arguments = (*arguments, *HARDLY_TRAINED)
        words = ["--dataset", dataset, "--workspace", self.workspace.uri, "--model-name", "Tiny Digits"]
        return ["run", "train", *words, *arguments, *sets(settings)]

    def train(self, dataset: str, *arguments: str, settings: tuple[str, ...] = TOY) -> Ended:
        """Runs the whole pipeline to its end."""
        return self.run(*self.train_command(dataset, *arguments, settings=settings))

    def prepare(self, dataset: str) -> dict[str, str]:
        """Takes a dataset as far as convert, and returns the receipts' URIs by stage."""
        snapshot = self.stage("snapshot", "--dataset", dataset).expect().summary["receipt"]
        report = self.stage("validate", "--snapshot", snapshot).expect().summary["receipt"]
        converted = self.stage("convert", "--snapshot", snapshot, "--report", report).expect().summary["receipt"]
        return {"snapshot": snapshot, "validate": report, "convert": converted}

    def result(self, stage: str, key: str) -> Result:
        """A receipt of the workspace, all of its outputs there."""
        result = receipts.look(self.workspace, stage, key)
        assert result is not None, f"no receipt of {stage} {key}"
        assert result.intact()
        return result

    def receipt(self, stage: str, key: str) -> Receipt:
        """What it says."""
        return self.result(stage, key).receipt

    def keys(self, stage: str) -> list[str]:
        """The keys of a stage that have a receipt."""
        return [info.key.split("/")[1] for info in self.workspace.objects(stage) if info.key.endswith("/receipt.json")]

    def progress(self) -> progress.Progress | None:
        """The training's progress, while there is one key only."""
        keys, _ = self.workspace.children("train")
        return progress.read(self.workspace.child(f"train/{keys[0]}")) if keys else None

    def record(self, run: str) -> RunRecord:
        """A run's record."""
        return RunRecord(self.workspace, run)

    def listing(self) -> dict[str, tuple[int, str]]:
        """Every object of the workspace with size and ETag."""
        return {info.key: (info.size, info.etag) for info in self.workspace.objects()}

    def versions(self) -> list[tuple[str, int]]:
        """Every registered version, by name and number."""
        return [(name, int(number)) for name, number in self.query("SELECT name, version FROM model_versions")]

    def aliases(self) -> dict[tuple[str, int], str]:
        """The alias of each version that has one."""
        rows = self.query("SELECT name, version, alias FROM registered_model_aliases")
        return {(name, int(number)): alias for name, number, alias in rows}

    def tags(self, name: str, number: int) -> dict[str, str]:
        """The tags of a version."""
        rows = self.query("SELECT name, version, key, value FROM model_version_tags")
        return {key: value for model, version, key, value in rows if (model, int(version)) == (name, number)}

    def query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of MLflow's database, but those of deleted versions."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return [row for row in connection.execute(query, values) if "Deleted_Internal" not in row]

    def processes(self) -> list[psutil.Process]:
        """Every living process that a command of this laptop started."""
        return list(_marked(self.mark))

    def refused(self) -> list[str]:
        """Every address beyond this machine that a command asked for."""
        file = self.folder / "refused"
        return file.read_text().splitlines() if file.exists() else []

    def wait_until_quiet(self) -> None:
        """Waits until nothing that a command started lives any more; says what does."""
        try:
            wait_for(lambda: not self.processes(), patience=60)
        except AssertionError:
            left = [(process.pid, process.status(), process.cmdline()) for process in self.processes()]
            raise AssertionError(f"still there: {left}") from None

    def close(self) -> None:
        """Ends whatever a test left running."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for command in self.started:
            command.process.wait()


@dataclass(frozen=True)
class Trained:
    """A finished run of the whole pipeline."""

    laptop: Laptop
    dataset: Dataset
    ended: Ended

    @property
    def summary(self) -> dict[str, Any]:
        """Its last line on stdout."""
        return self.ended.summary

    def key(self, stage: str) -> str:
        """The key of one of its stages."""
        return str(self.summary["stages"][stage]["key"])

    def receipt_uri(self, stage: str) -> str:
        """The URI of one of its receipts."""
        return str(self.summary["stages"][stage]["receipt"])


class CommandServer:
    """The process in whose forks small commands run."""

    def __init__(self) -> None:
        path = os.pathsep.join(map(str, (CLOSED_NETWORK, THIRD_PARTY)))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHON_TEST_REFUSED": os.devnull}
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "command_server.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.stop)

    def stop(self) -> None:
        """Ends it, and waits, so that its time counts as this process's."""
        self.process.kill()
        self.process.wait()

    def run(self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path, output: Path) -> int:
        """Runs a command to its end; returns the exit code."""
        fields = {"arguments": arguments, "environment": environment, "folder": str(folder)}
        fields |= {name: str(output / name) for name in ("stdout", "stderr")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(fields) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@functools.cache
def command_server() -> CommandServer:
    """The one of this test process."""
    return CommandServer()


def sets(settings: tuple[str, ...]) -> list[str]:
    """Settings as options."""
    return [word for setting in settings for word in ("--set", setting)]


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PYTHON_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def build(folder: Path, registry: Path, workspace: Prefix, variables: Mapping[str, str]) -> Laptop:
    """A laptop with an empty registry of its own. ``variables`` lead to its stores."""
    home = folder / "home"
    home.mkdir(parents=True)
    for name in ("mlflow.db", "mlflow.version"):
        shutil.copy(registry / name, home / name)
    return Laptop(folder, workspace, {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db", **variables})


@contextlib.contextmanager
def relay(server: Server) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A way to a server that a test can cut: the process that relays, and the endpoint that it listens on."""
    port = urlsplit(server.endpoint).port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    module = "visionloop.pipelines.services.relay"
    with subprocess.Popen([sys.executable, "-m", module, "127.0.0.1", str(own), str(port)]) as process:
        try:
            wait_for(lambda: _listens(own))
            yield process, f"http://127.0.0.1:{own}"
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Fixtures: a conftest imports those that its tests use.


@pytest.fixture(scope="session")
def make_laptop(
    tmp_path_factory: pytest.TempPathFactory, registry_template: Path, s3: Server
) -> Iterator[Callable[..., Laptop]]:
    """Makes laptops whose workspace lies on S3; what they left running is ended."""
    made: list[Laptop] = []

    def make(**variables: str) -> Laptop:
        folder = tmp_path_factory.mktemp("laptop")
        stores = s3.variables("EXTERNAL_S3_") | s3.variables("INTERNAL_S3_")
        workspace = s3_prefix(s3, "results", f"work-{uuid.uuid4().hex[:8]}")
        made.append(build(folder, registry_template, workspace, stores | variables))
        return made[-1]

    yield make
    for entry in made:
        entry.close()


@pytest.fixture
def laptop(make_laptop: Callable[..., Laptop]) -> Iterator[Laptop]:
    """A laptop of the test's own, its workspace on S3."""
    made = make_laptop()
    yield made
    made.close()


@pytest.fixture
def file_laptop(tmp_path: Path, registry_template: Path) -> Iterator[Laptop]:
    """A laptop whose workspace is a folder."""
    workspace = file_prefix(tmp_path / "workspace")
    made = build(tmp_path / "laptop", registry_template, workspace, {})
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_dataset(s3: Server) -> Callable[..., Dataset]:
    """Writes sample datasets to S3, each under a prefix of its own."""

    def make(**counts: int) -> Dataset:
        prefix = s3_prefix(s3, "datasets", f"digits-{uuid.uuid4().hex[:8]}", "dataset")
        return Dataset(prefix).put(sample_objects(**counts))

    return make


@pytest.fixture(scope="session")
def digits(make_dataset: Callable[..., Dataset]) -> Dataset:
    """A dataset that no test changes."""
    return make_dataset()


@pytest.fixture(scope="session")
def trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The real trainer's model, registered by ``visionloop run train``. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri, settings=TINY).expect())


@pytest.fixture(scope="session")
def toy_trained(make_laptop: Callable[..., Laptop], make_dataset: Callable[..., Dataset]) -> Trained:
    """The toy trainer's model. Tests add to its workspace, and change its dataset back."""
    laptop, dataset = make_laptop(), make_dataset()
    return Trained(laptop, dataset, laptop.train(dataset.uri).expect())
