"""Real servers: started, shared, killed and stopped."""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from visionloop.core.errors import InvalidConfig, Transient
from visionloop.pipelines import services
from visionloop.pipelines.services import store, tracking
from visionloop.pipelines.services.folder import Folder
from visionloop.pipelines.services.ports import LOOPBACK, keep_ports
from visionloop.pipelines.services.processes import Process, birth, find, start

pytestmark = pytest.mark.slow

Hold = Callable[[Path], subprocess.Popen[str]]


@contextmanager
def s3_client(endpoint: str, keys: store.Keys) -> Iterator[Any]:
    """A client as any user would make it, with no setting of ours."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with closing(client):
        yield client


def pid_of(home: Path, name: str = "store") -> int:
    (pid,) = [service.pid for service in services.status(home).services if service.name == name]
    assert pid is not None
    return pid


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process or one of its children listens."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    connections = [connection for process in family for connection in process.net_connections("tcp")]
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}


def test_a_session_gives_a_store_that_reads_what_was_written_and_ends_with_it(home: Path) -> None:
    assert not services.status(home).running
    with services.session(home) as running:
        with s3_client(running.endpoint, running.keys) as s3:
            assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"datasets", "visionloop"}
            s3.put_object(Bucket="datasets", Key="a/b", Body=b"content")
            with pytest.raises(ClientError, match="NoSuchBucket"):
                s3.put_object(Bucket="datasest", Key="a", Body=b"")
        with (
            s3_client(running.endpoint, store.Keys(running.keys.access_key, "wrong")) as s3,
            pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch|AccessDenied"),
        ):
            s3.get_object(Bucket="datasets", Key="a/b")
        environment = running.environment()
        assert environment["EXTERNAL_S3_ENDPOINT"] == environment["INTERNAL_S3_ENDPOINT"] == running.endpoint
        assert environment["INTERNAL_S3_SECRET_KEY"] == running.keys.secret_key
        assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{home}/mlflow.db"
        assert running.client_environment()["AWS_SECRET_ACCESS_KEY"] == running.keys.secret_key
        assert "AWS_SECRET_ACCESS_KEY" not in environment
        pid = pid_of(home)
        assert psutil.Process(pid).cmdline().count("-master.telemetry=false") == 1
        addresses = listening(pid)
        assert {address for address, _ in addresses} == {LOOPBACK}
        assert len(addresses) == len(store.PORTS)
        # A run inside a run: the same server, and its end ends nothing.
        with services.session(home) as again:
            assert again == running
        assert pid_of(home) == pid
        assert services.status(home).holders == (os.getpid(),)
        assert services.status(home).connected == running
    assert birth(pid) is None
    assert not services.status(home).running
    assert services.status(home).connected is None
    # Data, keys and ports outlive the server; so does nothing else.
    with services.session(home) as running, s3_client(running.endpoint, running.keys) as s3:
        assert environment == running.environment()
        assert s3.get_object(Bucket="datasets", Key="a/b")["Body"].read() == b"content"
    assert len(list((home / "store").glob("m[0-9]*"))) == 1


def test_two_stores_at_once_do_not_know_each_others_keys(make_home: Callable[[str], Path]) -> None:
    with services.session(make_home("one")) as first, services.session(make_home("two")) as second:
        assert first.endpoint != second.endpoint
        with s3_client(first.endpoint, first.keys) as s3:
            s3.put_object(Bucket="visionloop", Key="mine", Body=b"1")
        with s3_client(second.endpoint, second.keys) as s3, pytest.raises(ClientError, match="NoSuchKey"):
            s3.get_object(Bucket="visionloop", Key="mine")
        with s3_client(first.endpoint, second.keys) as s3, pytest.raises(ClientError, match=r"InvalidAccessKeyId|403"):
            s3.get_object(Bucket="visionloop", Key="mine")


def test_services_stay_for_another_run_and_go_with_the_last(home: Path, hold: Hold) -> None:
    with services.session(home) as running:
        other = hold(home)
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline().strip() == running.endpoint
        pid = pid_of(home)
        assert set(services.status(home).holders) == {os.getpid(), other.pid}
    assert birth(pid) is not None
    assert services.down(home).holders == (other.pid,)
    assert birth(pid) is not None
    other.stdin.close()
    assert other.wait() == 0
    assert birth(pid) is None


def test_a_killed_run_leaves_services_that_the_next_uses_and_stops(home: Path, hold: Hold) -> None:
    killed = hold(home)
    assert killed.stdout
    endpoint = killed.stdout.readline().strip()
    pid = pid_of(home)
    # As Ctrl-C and kill -9 reach a run: its whole group for the one, it alone for the other.
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert birth(pid) is not None
    assert services.status(home).holders == ()
    with services.session(home) as running:
        assert running.endpoint == endpoint
        assert pid_of(home) == pid
    assert birth(pid) is None


def test_a_killed_server_comes_back_with_its_data(home: Path) -> None:
    with services.session(home) as running:
        with s3_client(running.endpoint, running.keys) as s3:
            for number in range(20):
                s3.put_object(Bucket="visionloop", Key=f"k{number}", Body=bytes([number]) * 10_000)
        pid = pid_of(home)
        os.kill(pid, signal.SIGKILL)
        while birth(pid) is not None:
            pass
        assert not services.status(home).running
        with services.session(home) as again:
            assert again == running
            assert pid_of(home) != pid
            with s3_client(again.endpoint, again.keys) as s3:
                for number in range(20):
                    body = s3.get_object(Bucket="visionloop", Key=f"k{number}")["Body"].read()
                    assert body == bytes([number]) * 10_000


@contextmanager
def no_room(pid: int) -> Iterator[None]:
    """Lets no file of a process grow, as a full disk does."""
    process = psutil.Process(pid)
    soft, hard = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_store_that_met_a_full_disk_takes_writes_again_and_keeps_its_data(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="visionloop")
    with services.session(home) as running, s3_client(running.endpoint, running.keys) as s3:
        journals = list((home / "store" / "filerldb2").glob("*/*.log"))
        assert len(journals) == store.DATABASES
        # Each database is asked at a start, so that none can refuse unnoticed.
        assert all(store.SENTINEL.encode() in journal.read_bytes() for journal in journals)
        s3.put_object(Bucket="visionloop", Key="a/before", Body=b"content")
        pid = pid_of(home)
        with no_room(pid), pytest.raises(ClientError, match="InternalError"):
            s3.put_object(Bucket="visionloop", Key="a/after", Body=b"")
        # The folder's database goes on refusing, those of others do not.
        with pytest.raises(ClientError, match="InternalError"):
            s3.put_object(Bucket="visionloop", Key="a/after", Body=b"")
        s3.put_object(Bucket="visionloop", Key="after", Body=b"content")
        # Only such an answer is a refusal: no wrong key, and no port where nobody listens.
        port = int(running.endpoint.rpartition(":")[2])
        wrong = store.Keys(running.keys.access_key, "wrong")
        for asked, keys, refused in ((port, running.keys, True), (port, wrong, False), (9, running.keys, False)):
            with closing(store.client(asked, keys)) as client:
                assert store.refuses(client) is refused
        with services.session(home) as again:
            assert again == running
            assert pid_of(home) != pid
            assert caplog.text.count("refuses to write, as after a full disk; it is started again") == 1
            s3.put_object(Bucket="visionloop", Key="a/after", Body=b"content")
            for key in ("a/before", "a/after", "after"):
                assert s3.get_object(Bucket="visionloop", Key=key)["Body"].read() == b"content"


def test_a_server_that_nobody_recorded_is_replaced(home: Path) -> None:
    # What a starter leaves that is killed between starting the server and writing that down.
    folder = Folder(home)
    store.load_keys(folder)
    command = store.command(folder, keep_ports(folder, dict.fromkeys(store.PORTS, LOOPBACK)))
    stray = start(command, folder.logs / "store.log", {"HOME": str(home)}, home)
    assert stray is not None
    with services.session(home):
        assert not stray.alive
        assert [process.pid for process in find(store.data_argument(folder))] == [pid_of(home)]


def test_a_port_that_somebody_took_is_replaced_and_data_stay(home: Path) -> None:
    with services.session(home) as running, s3_client(running.endpoint, running.keys) as s3:
        s3.put_object(Bucket="datasets", Key="a", Body=b"content")
    # Held from before it is looked at: the server's own port could by now be anybody's.
    with socket.create_server((LOOPBACK, 0)) as taken:
        ports = json.loads((home / "ports.json").read_text()) | {"s3": taken.getsockname()[1]}
        (home / "ports.json").write_text(json.dumps(ports))
        with services.session(home) as moved, s3_client(moved.endpoint, moved.keys) as s3:
            assert moved.endpoint != f"http://{LOOPBACK}:{taken.getsockname()[1]}"
            assert s3.get_object(Bucket="datasets", Key="a")["Body"].read() == b"content"


def test_a_record_that_names_a_strangers_process_harms_nobody(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as stranger:
        try:
            for born in ("earlier", f"{birth(stranger.pid)}0"):
                record = (
                    f'{{"store": {{"process": {{"pid": {stranger.pid}, "born": "{born}"}}, "command": [], '
                    f'"address": "127.0.0.1", "ports": {{{",".join(f"{chr(34)}{p}{chr(34)}: 1" for p in store.PORTS)}}}}}}}'
                )
                (home / "services.json").write_text(record)
                assert not services.status(home).running
                assert not services.down(home).running
                assert stranger.poll() is None
                assert not Process(stranger.pid, born).alive
        finally:
            stranger.kill()


# Reads MLflow's store as soon as it may, as the stages of a run do.
OPENER = """
import sqlite3, sys
from visionloop.pipelines import services
with services.session(sys.argv[1]) as running:
    with sqlite3.connect(running.tracking_uri.removeprefix("sqlite:///")) as database:
        print(running.endpoint, *database.execute("SELECT name, artifact_location FROM experiments").fetchone())
"""


@pytest.mark.matrix
def test_runs_that_start_at_once_share_one_server_and_one_tracking_store(tmp_path: Path) -> None:
    home = tmp_path / "home"
    runs = [
        subprocess.Popen([sys.executable, "-c", OPENER, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = [run.communicate()[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert {tuple(words[1:]) for words in outputs} == {("Default", "s3://visionloop/mlflow/0")}
    assert len({words[0] for words in outputs}) == 1
    assert not services.status(home).running
    assert list((home / "leases").iterdir()) == []
    assert find(store.data_argument(Folder(home))) == []


def ask(url: str, password: str | None, body: dict[str, Any] | None = None, **headers: str) -> bytes:
    """What MLflow's page answers, to a POST where there is a body; raises ``HTTPError`` where it refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"visionloop:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request) as response:
            answer: bytes = response.read()
    except urllib.error.HTTPError as refused:
        refused.close()
        raise
    return answer


#: An address of this machine that pods would reach.
HOST = "127.0.0.2"


@pytest.fixture
def up(shared_home: Path) -> services.Services:
    """Services that are up on the address: started by the first of these tests, and left so by each."""
    return services.up(shared_home, host=HOST)


@pytest.fixture
def password(up: services.Services, shared_home: Path) -> str:
    """That of MLflow's page."""
    return (shared_home / "mlflow-password").read_text()


@pytest.mark.matrix
def test_up_serves_the_page_and_the_store_on_the_address(
    up: services.Services, password: str, shared_home: Path
) -> None:
    for url in (up.page_url, up.host_endpoint):
        assert url
        assert url.startswith(f"http://{HOST}:")
    assert stat.S_IMODE((shared_home / "mlflow-password").stat().st_mode) == 0o600
    assert password not in repr(up)
    assert up.page_url
    assert b"<title>MLflow</title>" in ask(up.page_url, password)


@pytest.mark.matrix
def test_pods_reach_the_store_with_their_own_host_header_and_nothing_else_of_it(
    up: services.Services, password: str, shared_home: Path
) -> None:
    pod = up.pod_environment()
    assert (pod["MLFLOW_TRACKING_USERNAME"], pod["MLFLOW_TRACKING_PASSWORD"]) == ("visionloop", password)
    content = os.urandom(3_000_000)
    with s3_client(pod["INTERNAL_S3_ENDPOINT"], up.keys) as s3:
        s3.put_object(Bucket="visionloop", Key="large", Body=content)
        assert s3.get_object(Bucket="visionloop", Key="large")["Body"].read() == content
    exposed = {
        port
        for service in ("store", "page", "relay")
        for at, port in listening(pid_of(shared_home, service))
        if at != LOOPBACK
    }
    assert exposed == {int(str(url).rpartition(":")[2]) for url in (up.page_url, up.host_endpoint)}


def artifact_of_the_store(up: services.Services, password: str) -> str:
    """The page's address of a file that lies in the results store: a run's report."""
    made = ask(f"{up.page_url}/api/2.0/mlflow/runs/create", password, {"experiment_id": "0"})
    run = json.loads(made)["run"]["info"]
    bucket, _, key = run["artifact_uri"].removeprefix("s3://").partition("/")
    assert bucket == services.RESULTS_BUCKET
    with s3_client(up.endpoint, up.keys) as s3:
        s3.put_object(Bucket=bucket, Key=f"{key}/report.txt", Body=b"hello")
    return f"{up.page_url}/get-artifact?path=report.txt&run_uuid={run['run_id']}"


@pytest.mark.matrix
def test_the_page_reads_the_results_store_itself(up: services.Services, password: str) -> None:
    assert ask(artifact_of_the_store(up, password), password) == b"hello"


@pytest.mark.matrix
def test_the_page_lets_in_no_stranger_no_other_origin_and_no_other_name(up: services.Services, password: str) -> None:
    assert up.page_url
    search = f"{up.page_url}/api/2.0/mlflow/experiments/search?max_results=1"
    artifact = artifact_of_the_store(up, password)
    assert ask(search, password, None, Origin=up.page_url)
    for wrong, headers in (
        (None, {}),
        ("guessed", {}),
        (password, {"Host": "evil.example"}),
        (password, {"Origin": "https://evil.example"}),
        (password, {"Origin": "http://localhost:8000"}),
        (password, {"Origin": "null"}),
    ):
        for url in (search, artifact, up.page_url):
            with pytest.raises(urllib.error.HTTPError, match="403" if headers else "401"):
                ask(url, wrong, None, **headers)


@pytest.mark.matrix
def test_the_page_gives_files_below_the_homes_artifacts_alone_wherever_links_lead(
    up: services.Services, password: str, shared_home: Path
) -> None:
    home, api = shared_home, f"{up.page_url}/api/2.0/mlflow"
    secret = home.parent / "secret.txt"
    secret.write_text("the user's own")
    (home / "artifacts" / "kept").mkdir()
    (home / "artifacts" / "kept" / "report.txt").write_text("a report")
    (home / "artifacts" / "kept" / "link.txt").symlink_to(secret)
    (home / "artifacts" / "out").symlink_to(home.parent)
    (home.parent / "into").symlink_to(home / "artifacts" / "kept")
    for number, (location, path, expected) in enumerate(
        (
            (home / "artifacts" / "kept", "report.txt", b"a report"),
            (home.parent / "into", "report.txt", b"a report"),
            (home / "artifacts" / "kept", "link.txt", None),
            (home / "artifacts" / "out", "secret.txt", None),
            (home.parent, "secret.txt", None),
            (home, "mlflow-password", None),
        )
    ):
        for form in (str(location), location.as_uri()):
            made = ask(
                f"{api}/experiments/create", password, {"name": f"{number} {form[:4]}", "artifact_location": form}
            )
            run = json.loads(ask(f"{api}/runs/create", password, json.loads(made)))["run"]["info"]
            run_folder = Path(urllib.parse.unquote(run["artifact_uri"].removeprefix("file://")))
            url = f"{up.page_url}/get-artifact?path={path}&run_uuid={run['run_id']}"
            run_folder.parent.mkdir(exist_ok=True)
            if not run_folder.exists():
                run_folder.symlink_to(location)
            if expected is None:
                with pytest.raises(urllib.error.HTTPError):
                    ask(url, password)
            else:
                assert ask(url, password) == expected


@pytest.mark.matrix
def test_a_run_uses_what_is_up_and_leaves_it_so(up: services.Services, shared_home: Path) -> None:
    pids = [pid_of(shared_home, name) for name in ("store", "page", "relay")]
    with services.session(shared_home, page=True) as running:
        assert running == up
    assert services.status(shared_home).permanent
    assert [pid_of(shared_home, name) for name in ("store", "page", "relay")] == pids


@pytest.mark.matrix
def test_up_again_without_an_address_serves_loopback_alone_and_down_ends_it(
    up: services.Services, shared_home: Path
) -> None:
    pids = [pid_of(shared_home, name) for name in ("store", "page", "relay")]
    with pytest.raises(InvalidConfig, match=r"--no-password with --host 127\.0\.0\.2"):
        services.up(shared_home, host=HOST, password=False)
    local = services.up(shared_home, password=False)
    assert local.host is None
    assert local.page_url
    assert local.page_url.startswith(f"http://{LOOPBACK}:")
    assert local.page_password is None
    assert ask(f"{local.page_url}/api/2.0/mlflow/experiments/search?max_results=1", None)
    with services.session(shared_home, page=True) as running:
        assert running == local
    assert pid_of(shared_home) == pids[0]
    assert birth(pids[2]) is None
    with pytest.raises(Transient, match=r"visionloop up --host ADDRESS"):
        local.pod_environment()

    down = services.down(shared_home)
    assert not down.running
    assert not down.permanent
    assert all(birth(pid) is None for pid in pids)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(local.page_url)


def test_a_tracking_store_that_is_none_is_named_and_stays(home: Path) -> None:
    database, version = home / "mlflow.db", home / "mlflow.version"
    database.write_bytes(b"not a database" * 100)
    version.unlink()
    with (
        pytest.raises(InvalidConfig, match=r"mlflow\.db: MLflow .* can't use this store; see .*mlflow-schema\.log"),
        services.session(home),
    ):
        pass
    assert database.read_bytes() == b"not a database" * 100
    assert services.status(home).holders == ()


def test_an_older_tracking_store_is_migrated_with_its_experiments(home: Path) -> None:
    (home / "mlflow.version").write_text("3.0.0")
    before = (home / "mlflow.db").stat().st_ino
    folder = Folder(home)
    with folder.lock():
        tracking.prepare(folder)
    assert (home / "mlflow.db").stat().st_ino != before
    assert (home / "mlflow.version").read_text() != "3.0.0"
    migrated = (home / "mlflow.db").stat().st_ino
    with folder.lock():
        tracking.prepare(folder)
    assert (home / "mlflow.db").stat().st_ino == migrated


def test_an_address_of_another_machine_starts_nothing(home: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"--host 192\.0\.2\.1: not an IPv4 address of this machine"):
        services.up(home, host="192.0.2.1")
    status = services.status(home)
    assert not status.running
    assert not status.permanent


def test_a_server_that_does_not_come_up_is_told_with_its_log(home: Path) -> None:
    # SeaweedFS keeps names in this folder; a file in its place ends the server.
    (home / "store" / "filerldb2").write_text("")
    with (
        pytest.raises(
            Transient, match=r"S3 on port \d+ of .* did not come up .*the process has ended.*see .*store\.log"
        ),
        services.session(home),
    ):
        pass
    assert services.status(home).holders == ()
    assert (home / "logs" / "store.log").stat().st_size > 0


def test_status_and_down_of_a_folder_that_is_not_there_create_nothing(tmp_path: Path) -> None:
    home = tmp_path / "absent"
    assert not services.status(home).running
    assert not services.down(home).running
    assert not home.exists()


def exchange(port: int, request: bytes, tls: bool) -> bytes:
    """What a port answers to bytes of somebody without a key; empty where the handshake or the connection ends."""
    answer = b""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) if tls else plain as connection:
                connection.sendall(request)
                while block := connection.recv(65536):
                    answer += block
    except OSError:
        pass
    return answer


def strangers_requests() -> dict[str, bytes]:
    """Requests without a key: of HTTP by method and path, as a web page of another origin sends them, and of gRPC."""
    lines = [
        "GET /",
        "GET /datasets/kept",
        "GET /buckets/datasets/kept",
        "GET /dir/status",
        "GET /dir/assign",
        "GET /1,01637037d6",
        "PUT /datasets/planted",
        "PUT /buckets/datasets/planted",
        "POST /etc/iam/identity.json",
        "DELETE /datasets/kept",
        "DELETE /buckets/datasets/kept",
        "OPTIONS /datasets/kept",
        "OPTIONS /",
    ]
    body = "Content-Length: 1\r\n\r\nx"
    return {
        line: (
            f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nOrigin: https://evil.example\r\n"
            f"Access-Control-Request-Method: PUT\r\n{body if line.startswith(('PUT', 'POST')) else chr(13) + chr(10)}"
        ).encode()
        for line in lines
    } | {"gRPC": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))}


def test_no_port_of_the_store_gives_or_takes_anything_without_a_key(home: Path) -> None:
    with services.session(home) as running, s3_client(running.endpoint, running.keys) as s3:
        s3.put_object(Bucket="datasets", Key="kept", Body=b"content")
        ports = [port for _, port in listening(pid_of(home))]
        assert len(ports) == len(store.PORTS)
        for port in ports:
            for line, request in strangers_requests().items():
                closed, plain = exchange(port, request, tls=True), exchange(port, request, tls=False)
                assert closed == b"", (port, line, closed[:200])
                # The end, an alert of TLS, or an error of HTTP.
                assert plain == b"" or plain[:1] == b"\x15" or (plain.startswith(b"HTTP/1.") and plain[9:10] == b"4"), (
                    port,
                    line,
                    plain[:200],
                )
                # What a browser asks before it sends a key or a change: no origin is allowed.
                assert not (line.startswith("OPTIONS") and b"access-control-allow" in plain.lower()), (port, line)
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="datasets")["Contents"]] == [store.SENTINEL, "kept"]
        assert s3.get_object(Bucket="datasets", Key="kept")["Body"].read() == b"content"
        sockets = [
            Path(str(connection.laddr))
            for connection in psutil.Process(pid_of(home)).net_connections("unix")
            if connection.laddr
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o700}
