"""The one storage module: a prefix on S3 or in a folder, asked for by role.

Datasets (read only) and results may lie in different stores with their own endpoint and keys (docs/contract.md,
"Stores"). Everything that reads or writes an object goes through here, so errors, retries and conditions are decided once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as store_errors
from obstore.store import LocalStore, S3Store

from visionloop.core.errors import (
    AccessDenied,
    Defect,
    InvalidConfig,
    InvalidDataset,
    NotFound,
    PreconditionFailed,
    SickMachine,
    Transient,
    VisionloopError,
)

Role = Literal["dataset", "results"]

#: Prefixes of the variables `…ENDPOINT`, `…ACCESS_KEY`, `…SECRET_KEY`, by role, newest name first.
VARIABLES: dict[Role, tuple[str, ...]] = {
    "dataset": ("EXTERNAL_S3_", "EXTERNAL_STORAGE_", "S3_"),
    "results": ("INTERNAL_S3_", "S3_"),
}

#: What stands for an endpoint where none is set.
AWS = "AWS S3"

#: Objects above this size are sent in parts of this size, in bytes.
PART_BYTES = 16 * 2**20
PARALLEL_TRANSFERS = 16

#: How the name of a file ends that a folder's client has not renamed yet (object_store, ``LocalFileSystem``).
PARTIAL = re.compile(r"#\d+$")

#: What a bucket's name is made of.
BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"


@dataclass(frozen=True)
class ObjectInfo:
    """What a store declares of an object: key relative to the prefix that was asked, size in bytes, ETag, version id."""

    key: str
    size: int
    etag: str
    version: str | None = None
    modified: float = 0.0


@dataclass(frozen=True)
class Sent:
    """An uploaded object: its size in bytes and the SHA-256 of its bytes in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Prefix:
    """A place under which objects lie: a bucket's prefix or a folder. ``uri`` has no trailing slash."""

    uri: str
    role: Role
    store: Any = field(repr=False, compare=False)
    path: str = ""

    @property
    def on_files(self) -> bool:
        """Whether this is a folder rather than an object store."""
        return isinstance(self.store, LocalStore)

    def child(self, key: str) -> Prefix:
        """The place one or more levels below."""
        key = key.strip("/")
        path = self._key(key)
        uri = Path(f"/{path}").as_uri() if self.on_files else f"{self.uri}/{key}"
        return Prefix(uri, self.role, self.store, path)

    def _key(self, key: str) -> str:
        return f"{self.path}/{key}" if self.path else key

    def exists(self, key: str) -> bool:
        """Whether an object lies at ``key``."""
        try:
            self.head(key)
        except NotFound:
            return False
        return True

    def head(self, key: str) -> ObjectInfo:
        """What the store declares of ``key``. Raises NotFound."""
        with self._errors("read", key):
            meta = obstore.head(self.store, self._key(key))
        return self._info(key, meta)

    def read(self, key: str) -> bytes:
        """The bytes at ``key``. Raises NotFound."""
        return self.read_with_etag(key)[0]

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """The bytes at ``key`` and the ETag that a conditional write names. Raises NotFound."""
        with self._errors("read", key):
            answer = obstore.get(self.store, self._key(key))
            return bytes(answer.bytes()), str(answer.meta["e_tag"] or "")

    def read_start(self, key: str, size: int) -> bytes:
        """The first ``size`` bytes at ``key``, fewer if the object is smaller. Raises NotFound."""
        with self._errors("read", key):
            try:
                answer = obstore.get(self.store, self._key(key), options={"range": (0, size)})
            except store_errors.BaseError:
                # An empty object has no range that a store could answer.
                if int(obstore.head(self.store, self._key(key))["size"]) == 0:
                    return b""
                raise
            return bytes(answer.bytes())

    def write(self, key: str, data: bytes) -> Sent:
        """Writes ``data`` at ``key``, whatever is there."""
        with self._errors("write", key):
            obstore.put(self.store, self._key(key), io.BytesIO(data), use_multipart=False)
        return Sent(len(data), hashlib.sha256(data).hexdigest())

    def create(self, key: str, data: bytes) -> bool:
        """Writes ``data`` at ``key`` only if nothing is there (``If-None-Match: *``; ``link`` on files)."""
        try:
            with self._errors("write", key):
                obstore.put(self.store, self._key(key), io.BytesIO(data), mode="create", use_multipart=False)
        except PreconditionFailed:
            return False
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Writes ``data`` at ``key`` only if its ETag still is ``etag``.

        On files the check and the rename are two steps, under a lock on the folder.

        Raises:
            PreconditionFailed: If something else, or nothing, is there now.
        """
        try:
            if not self.on_files:
                with self._errors("write", key):
                    obstore.put(self.store, self._key(key), io.BytesIO(data), mode={"e_tag": etag}, use_multipart=False)
                return
            with self._errors("write", key), _locked(Path(f"/{self._key(key)}").parent):
                if self.read_with_etag(key)[1] != etag:
                    raise PreconditionFailed(key)
                self.write(key, data)
        except NotFound:
            raise PreconditionFailed(key) from None

    def upload(self, local: Path, key: str, alive: Callable[[], None] = lambda: None) -> Sent:
        """Sends a file in parts; ``alive`` is called after each part. Returns size and SHA-256 of what was sent."""
        digest = hashlib.sha256()
        size = 0
        if not local.is_file():
            raise Defect(f"{local}: there is no such file to send as {key}")

        def parts() -> Iterator[bytes]:
            nonlocal size
            with local.open("rb") as file:
                while block := file.read(PART_BYTES):
                    digest.update(block)
                    size += len(block)
                    yield block
                    alive()

        with self._errors("write", key):
            if local.stat().st_size <= PART_BYTES:
                data = b"".join(parts())
                obstore.put(self.store, self._key(key), io.BytesIO(data), use_multipart=False)
            else:
                obstore.put(self.store, self._key(key), parts(), chunk_size=PART_BYTES)
        return Sent(size, digest.hexdigest())

    def download(self, key: str, local: Path, alive: Callable[[], None] = lambda: None) -> Sent:
        """Fetches ``key`` into a file, whole or not at all. Raises NotFound; SickMachine if the disk is full."""
        digest = hashlib.sha256()
        size = 0
        partial = local.with_name(f".{local.name}.{os.getpid()}.partial")
        with writing(local):
            local.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("read", key):
            answer = obstore.get(self.store, self._key(key))
            try:
                with writing(local), partial.open("wb") as file:
                    for block in answer.stream(min_chunk_size=2**20):
                        data = bytes(block)
                        file.write(data)
                        digest.update(data)
                        size += len(data)
                        alive()
                with writing(local):
                    partial.replace(local)
            finally:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
        return Sent(size, digest.hexdigest())

    def objects(self, under: str = "") -> Iterator[ObjectInfo]:
        """Every object below ``under``, in the store's order; keys are relative to this prefix."""
        start = self._key(under.strip("/")) if under else self.path
        with self._errors("list", under or "."):
            for batch in obstore.list(self.store, prefix=start or None, chunk_size=1000):
                for meta in batch:
                    relative = str(meta["path"])[len(self.path) + 1 :] if self.path else str(meta["path"])
                    yield self._info(relative, meta)

    def children(self, under: str = "") -> tuple[list[str], list[ObjectInfo]]:
        """One level: the names of the folders below ``under``, and the objects right there."""
        start = self._key(under.strip("/")) if under else self.path
        with self._errors("list", under or "."):
            answer = obstore.list_with_delimiter(self.store, prefix=start or None)
        cut = len(self.path) + 1 if self.path else 0
        names = sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in answer["common_prefixes"])
        return names, [self._info(str(meta["path"])[cut:], meta) for meta in answer["objects"]]

    def delete(self, keys: Iterable[str]) -> int:
        """Removes objects; one that is gone already counts as removed. Returns how many were named."""
        paths = [self._key(key) for key in keys]
        for path in paths:
            with contextlib.suppress(NotFound), self._errors("delete", path):
                obstore.delete(self.store, path)
        return len(paths)

    def discard_partial(self, under: str = "") -> tuple[int, int]:
        """Removes what killed writes left in a folder; only for a place that nobody writes to meanwhile.

        A folder's client writes to ``name#1``, which no listing shows, and renames. An object store keeps the parts of an
        upload that was cut off out of sight; its own lifecycle rule removes them.

        Returns:
            How many files were removed, and their size in bytes.

        Raises:
            InvalidDataset: If ``under`` leads out of this place.
        """
        if not self.on_files:
            return 0, 0
        if ".." in under.split("/"):
            raise _bad_key(under)
        count = size = 0
        for path in Path("/", self.path, under.strip("/")).rglob("*#*"):
            if PARTIAL.search(path.name) and path.is_file():
                with contextlib.suppress(NotFound), self._errors("delete", path.name):
                    size += path.stat().st_size
                    path.unlink()
                    count += 1
        return count, size

    def copy(self, source: str, target: str) -> None:
        """Copies an object within this prefix. Raises NotFound."""
        with self._errors("copy", source):
            obstore.copy(self.store, self._key(source), self._key(target))

    def map(self, work: Callable[[str], Any], keys: Iterable[str]) -> Iterator[Any]:
        """Runs ``work`` on each key with several transfers at once; results in the keys' order, the first error raised."""
        with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            try:
                yield from pool.map(work, keys)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _info(self, key: str, meta: Mapping[str, Any]) -> ObjectInfo:
        etag = str(meta["e_tag"] or "").strip('"')
        return ObjectInfo(key, int(meta["size"]), etag, meta.get("version"), meta["last_modified"].timestamp())

    @contextlib.contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        """Maps what the store's client raises to the errors of the table."""
        where = f"{self.uri}/{key}" if not key.startswith(self.path + "/") or not self.path else f"{self.uri} ({key})"
        try:
            yield
        except (VisionloopError, NotFound, PreconditionFailed):
            raise
        except FileNotFoundError as error:
            raise NotFound(where) from error
        except (store_errors.AlreadyExistsError, store_errors.PreconditionError) as error:
            raise PreconditionFailed(where) from error
        except (store_errors.PermissionDeniedError, store_errors.UnauthenticatedError, PermissionError) as error:
            raise self._denied(action, where) from error
        except (store_errors.InvalidPathError, UnicodeEncodeError) as error:
            raise _bad_key(where) from error
        except (ValueError, TypeError) as error:
            if not re.match(r"Could not parse path|Expected string path", str(error)):
                raise
            raise _bad_key(where) from error
        except (store_errors.BaseError, OSError) as error:
            raise self._unexpected(action, where, error) from error

    def _denied(self, action: str, where: str) -> AccessDenied:
        keys = "the folder's permissions" if self.on_files else f"{VARIABLES[self.role][0]}ACCESS_KEY and …SECRET_KEY"
        return AccessDenied(f"{where}: the {self.role} store refused to {action}; check {keys}.")

    def _unexpected(self, action: str, where: str, error: Exception) -> Exception:
        """Sorts what the client has no class for: by HTTP status and S3 code, or by the system's error number."""
        text = " ".join(str(error).split())
        # A client's message holds the object's key, which may read like anything: only what is not its own is sorted.
        found = re.search(r"status code: (\d{3})", text)
        status = int(found.group(1)) if found else 0
        found = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
        code = (found.group(1) or found.group(2)) if found else ""
        found = re.search(r"\(os error (\d+)\)", text)
        number = int(found.group(1)) if found else getattr(error, "errno", None)
        below_a_file = number == errno.ENOTDIR and action != "write"
        if status == 404 or code in ("NoSuchBucket", "NoSuchKey") or below_a_file:
            return NotFound(where)
        if status in (409, 412):
            return PreconditionFailed(where)
        if status in (401, 403) or code in ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "AccessDenied"):
            return self._denied(action, where)
        if status == 507 or number in (errno.ENOSPC, errno.EDQUOT):
            return Transient(f"{where}: no space is left in the {self.role} store; free some and run again.")
        if number in (errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.EACCES, errno.EPERM):
            return AccessDenied(
                f"{where}: the {self.role} store can't {action} there; choose a folder that can be written."
            )
        if number == errno.ENAMETOOLONG or code == "KeyTooLongError" or "Filenames containing trailing" in text:
            return _bad_key(where)
        endpoint = "" if self.on_files else f" at {endpoint_of(self.role)}"
        if status == 500:
            # Stores have no code for a full disk: SeaweedFS, for one, says nothing but InternalError.
            space = " and see that it has space left" if action in ("write", "copy") else ""
            return Transient(
                f"{where}: the {self.role} store{endpoint} fails to {action} ({_cause(text)}); look into its log{space}."
            )
        return Transient(
            f"{where}: the {self.role} store{endpoint} does not answer ({_cause(text)}); see that it runs and is reached."
        )


def _bad_key(where: str) -> InvalidDataset:
    return InvalidDataset(
        f"{where[:300]}: the object key is not allowed; rename it to one without '..', empty parts and control characters,"
        " at most 255 bytes a part and no '#' and digits at its end."
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a folder for this thread alone, where its file system knows locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _cause(text: str) -> str:
    """The part of a client's message that a person can use, without its retry statistics."""
    # From the particular to the general: a refused connection is a "tcp connect error" too.
    for cause in ("Connection refused", "Connection reset", "dns error", r"\w+ timed out", "tcp connect error"):
        if match := re.search(cause, text, re.IGNORECASE):
            return match.group()
    match = re.search(r"(?<=status code: )\d{3} [\w ]+", text)
    return match.group().strip() if match else text.partition(" Debug source")[0].rpartition(" - ")[2][:160]


@contextlib.contextmanager
def writing(local: Path) -> Iterator[None]:
    """Turns a full or unwritable disk of this machine into its error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SickMachine(f"{local}: the machine's disk is full; free space or choose another TMPDIR.") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENOENT):
            raise AccessDenied(f"{local}: the folder can't be written; choose another TMPDIR.") from error
        if error.errno == errno.EIO:
            raise SickMachine(f"{local}: the machine's disk fails to write; replace it or use another node.") from error
        raise


def normalise_uri(uri: str) -> str:
    """One spelling per place: ``s3://bucket/prefix`` or ``file:///absolute/path``, without a trailing slash.

    Raises:
        InvalidConfig: If it is neither an ``s3://`` or ``file://`` URI nor a path.
    """
    if not uri or re.search(r"[\x00-\x1f\x7f]", uri):
        raise InvalidConfig(
            f"The URI {uri!r} is empty or holds control characters; give s3://bucket/prefix, file:///folder or a path."
        )
    scheme, separator, rest = uri.partition("://")
    if not separator or "/" in scheme:
        if re.match(r"(s3|file):", uri, re.IGNORECASE):
            raise InvalidConfig(f"{uri}: '//' is missing after the colon; give s3://bucket/prefix or file:///folder.")
        return _file_uri(os.path.expanduser(uri))
    # Only '/' parts an S3 key and a path: '?' and '#' are characters like others.
    place, _, path = rest.partition("/")
    if scheme.lower() == "s3":
        parts = [part for part in path.split("/") if part]
        if not re.fullmatch(BUCKET, place) or not {".", ".."}.isdisjoint(parts):
            raise InvalidConfig(f"{uri}: not an S3 URI; give s3://bucket/prefix.")
        return "/".join([f"s3://{place}", *parts])
    if scheme.lower() == "file":
        if place not in ("", "localhost"):
            raise InvalidConfig(f"{uri}: a file URI names no host; give file:///folder.")
        if re.search(r"[\x00-\x1f\x7f]", unquote(path)):
            raise InvalidConfig(f"{uri}: a control character stands in the path; give file:///folder.")
        return _file_uri("/" + unquote(path))
    raise InvalidConfig(f"{uri}: {scheme}:// is not supported; give s3://bucket/prefix, file:///folder or a path.")


def _file_uri(path: str) -> str:
    # POSIX lets two leading slashes stand for something of their own; here they are one place with one.
    return Path(re.sub(r"^/+", "/", os.path.abspath(path))).as_uri()


def local_path(uri: str) -> Path | None:
    """The folder or file that a ``file://`` URI names, None for S3."""
    return Path(unquote(uri.removeprefix("file://"))) if uri.startswith("file://") else None


def endpoint_of(role: Role, environment: Mapping[str, str] | None = None) -> str:
    """The S3 endpoint of a role: its own variable, else the standard AWS ones, else AWS itself.

    Raises:
        InvalidConfig: If a variable holds no http or https URL.
    """
    environment = os.environ if environment is None else environment
    names = [f"{prefix}ENDPOINT" for prefix in VARIABLES[role]] + ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
    for name in names:
        if value := environment.get(name, "").strip():
            return _endpoint(name, value)
    return AWS


def _endpoint(name: str, value: str) -> str:
    """An endpoint with its scheme; the client itself ends the process over one that is no URL."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(re.fullmatch(r"[\w.:-]+", parts.hostname or ""))
        good = good and parts.port != 0 and not parts.username and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise InvalidConfig(f"{name} is not an endpoint's URL; give one such as http://127.0.0.1:9000.")
    return url.rstrip("/")


def credentials_of(role: Role, environment: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The access and secret key that a role's own variables hold, or None: then the standard AWS chain is asked.

    Raises:
        AccessDenied: If only one half of the pair is set.
    """
    environment = os.environ if environment is None else environment
    for prefix in VARIABLES[role]:
        access, secret = environment.get(f"{prefix}ACCESS_KEY"), environment.get(f"{prefix}SECRET_KEY")
        if access and secret:
            return access, secret
        if access or secret:
            missing = "SECRET_KEY" if access else "ACCESS_KEY"
            raise AccessDenied(f"{prefix}{missing} is not set while its other half is; set both.")
    return None


def open_prefix(uri: str, role: Role) -> Prefix:
    """Opens the place that ``uri`` names; nothing is asked of the store yet.

    Raises:
        InvalidConfig: If the URI is of no known kind.
        AccessDenied: If there are no keys, or half a pair of them.
    """
    uri = normalise_uri(uri)
    folder = local_path(uri)
    if folder is not None:
        # The store is rooted at / so that a folder that does not exist yet is an empty one.
        return Prefix(uri, role, LocalStore("/"), str(folder).strip("/"))
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    return Prefix(uri, role, _s3(bucket, role), path)


def _s3(bucket: str, role: Role) -> S3Store:
    endpoint, pair = endpoint_of(role), credentials_of(role)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if pair:
        provider: Any = functools.partial(_own_keys, *pair)
    else:
        session, provider = _standard_credentials(role)
        region = region or session.region_name
        if endpoint == AWS and (value := session._session.get_scoped_config().get("endpoint_url")):
            endpoint = _endpoint("endpoint_url in the AWS profile", value)
    options: dict[str, Any] = {
        "region": region or "us-east-1",
        "credential_provider": provider,
        # Silence ends a request, not its length: a large object on a slow line takes its time.
        "client_options": {"allow_http": True, "connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"},
        "retry_config": {
            "max_retries": 4,
            "retry_timeout": _seconds(20),
            "backoff": {"init_backoff": _seconds(0.2), "max_backoff": _seconds(4), "base": 2},
        },
    }
    if endpoint != AWS:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    return S3Store(bucket, **options)


def _own_keys(access: str, secret: str) -> dict[str, Any]:
    """A role's own keys, as a provider: given outright, the client would add an AWS_SESSION_TOKEN of other keys."""
    return {"access_key_id": access, "secret_access_key": secret, "token": None, "expires_at": None}


def _standard_credentials(role: Role) -> tuple[Any, Any]:
    """Session and credentials by the standard AWS chain (variables, profiles, roles), which obstore knows only in part."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise AccessDenied(f"No keys for the {role} store: {error}; correct the AWS profile or variable.") from error
    if credentials is None:
        raise AccessDenied(
            f"No keys for the {role} store: set {VARIABLES[role][0]}ACCESS_KEY and …SECRET_KEY, or an AWS profile."
        )
    return session, Boto3CredentialProvider(session)


def _seconds(value: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=value)


def split_uri(uri: str) -> tuple[str, str]:
    """A URI's parent and its last part: the prefix to open and the key to read."""
    parent, _, name = normalise_uri(uri).rpartition("/")
    return parent, name


def read_uri(uri: str, role: Role) -> bytes:
    """The bytes of one object named by its full URI. Raises NotFound."""
    parent, name = split_uri(uri)
    return open_prefix(parent, role).read(name)
