"""Starting weights: resolves the setting ``model`` to an architecture's name, or to a file or a folder with its SHA-256.

The digest, not the location, is part of train's key: the same weights in another location are not trained again. Functions
that read a store or the registry are passed in, so this module needs neither.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound, Transient
from visionloop.training.trainers import Trainer

#: The folder of weights in an image, unless VISIONLOOP_IMAGE_WEIGHTS names another one.
IMAGE_WEIGHTS = "/opt/visionloop/weights"

#: Extensions of weights files; a name with another extension, or none, is a bare name.
WEIGHTS_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors"})
ARCHITECTURE_SUFFIXES = frozenset({".yaml", ".yml"})

#: The largest weights that are read, in bytes.
LARGEST_WEIGHTS = 16 * 10**9

#: Fetches an object of the results store by its ``s3://`` URI into a file, never into memory; raises NotFound.
Reader = Callable[[str, Path], object]


@runtime_checkable
class Downloads(Protocol):
    """A trainer that can fetch the weights of its own model names."""

    def download_weights(self, model: str, folder: Path) -> Path:
        """Downloads the weights of a bare name into ``folder`` and returns the file.

        Raises:
            NotFound: If there are no weights of that name.
            Transient: If the network is down.
        """


@dataclass(frozen=True)
class Weights:
    """The starting point of a training.

    Attributes:
        kind: ``architecture`` (random weights), ``file`` or ``folder``.
        uri: The architecture's YAML name, or the file's or folder's path or URI; a folder's ends with a slash.
        sha256: The file's SHA-256 in hex, for a folder that of its files' SHA-256 and names; None for an architecture.
        files: The names of a folder's files.
    """

    kind: Literal["architecture", "file", "folder"]
    uri: str
    sha256: str | None = None
    files: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Represents ``model`` in a key: the architecture's name, or ``sha256:`` and the digest of the weights."""
        return self.uri if self.sha256 is None else f"sha256:{self.sha256}"


def reference_kind(model: str) -> Literal["registered", "uri", "path", "architecture", "name"]:
    """The kind of ``model``, by its form.

    ``models:/…``, another ``scheme://``, a path or a weights file's name, a YAML name, or a bare name.
    """
    if model.startswith("models:/"):
        return "registered"
    if "://" in model:
        return "uri"
    if "/" in model or "\\" in model or PurePosixPath(model).suffix.lower() in WEIGHTS_SUFFIXES:
        return "path"
    return "architecture" if PurePosixPath(model).suffix.lower() in ARCHITECTURE_SUFFIXES else "name"


def locate(
    model: str,
    trainer: Trainer,
    environment: Mapping[str, str],
    reader: Reader,
    folder: Path,
    resolve_model: Callable[[str], str] | None = None,
) -> Weights:
    """Finds the starting weights (docs/contract.md, "Configuration"): a file, or a folder where the trainer has ``weights_files``.

    A bare name is looked up under ``VISIONLOOP_WEIGHTS`` (a URI prefix or a folder), then in the image's folder
    (``VISIONLOOP_IMAGE_WEIGHTS``), then, only with ``VISIONLOOP_ALLOW_DOWNLOAD=1``, downloaded by the trainer.

    Args:
        model: The resolved setting ``model``.
        trainer: Knows its architectures and the file names of its weights.
        environment: The process's variables.
        reader: Fetches an object of the results store.
        folder: A folder for what is fetched.
        resolve_model: Turns ``models:/NAME@alias`` into the URI of that version's checkpoint; raises NotFound.

    Raises:
        InvalidConfig: If nothing is found; names the locations that were searched.
        AccessDenied: If the weights may not be read.
    """

    def download() -> Weights:
        if not isinstance(trainer, Downloads):
            raise NotFound(model)
        return _hashed(str(trainer.download_weights(model, folder)), reader, folder)

    return _locate(model, trainer, environment, lambda uri: _hashed(uri, reader, folder), download, resolve_model)


def find(
    model: str,
    trainer: Trainer,
    environment: Mapping[str, str],
    exists: Callable[[str], bool],
    resolve_model: Callable[[str], str] | None = None,
) -> Literal["architecture", "file", "folder", "download"]:
    """Looks for the starting weights as ``locate`` does, and reads and downloads nothing.

    Args:
        model: The resolved setting ``model``.
        trainer: Knows its architectures and the file names of its weights.
        environment: The process's variables.
        exists: Whether the results store has an object, by its ``s3://`` URI.
        resolve_model: As in ``locate``.

    Returns:
        What they are; ``download`` where only a download is left to be tried.

    Raises:
        InvalidConfig: As ``locate``.
        AccessDenied: As ``locate``.
    """

    def look(uri: str) -> Weights:
        if (local := _local(uri)) is not None:
            _opened(local, uri).close()
        elif not exists(uri):
            raise NotFound(uri)
        return Weights("file", uri)

    sought = _locate(model, trainer, environment, look, lambda: Weights("file", ""), resolve_model)
    return sought.kind if sought.uri else "download"


def _locate(
    model: str,
    trainer: Trainer,
    environment: Mapping[str, str],
    load_file: Callable[[str], Weights],
    download: Callable[[], Weights],
    resolve_model: Callable[[str], str] | None,
) -> Weights:
    """Where the weights of a model are, the first that ``load_file`` does not raise NotFound for, or a folder of such files."""
    parts: Sequence[Sequence[str]] = getattr(trainer, "weights_files", ())

    def load(uri: str) -> Weights:
        if parts and uri.endswith("/"):
            return _folder(uri, parts, load_file)
        try:
            return load_file(uri)
        except NotFound:
            if not parts:
                raise
            return _folder(f"{uri}/", parts, load_file)

    what = "no file is" if not parts else f"neither a file nor a folder with {parts[0][0]} is"
    if trainer.is_architecture(model):
        return Weights("architecture", model)
    if PurePosixPath(model).suffix.lower() in ARCHITECTURE_SUFFIXES:
        raise InvalidConfig(
            f"model {model} is not an architecture that the trainer {trainer.name} brings: give one of its YAML names, or weights."
        )
    match reference_kind(model):
        case "registered":
            return _file(_registered(model, resolve_model), f"model {model}", load, what)
        case "uri":
            return _file(model, "model", load, what)
        case "path" if "/" in model or "\\" in model or Path(model).is_file():
            return _file(model, "model", load, what)
    return _by_name(model, trainer, environment, load, download)


def materialise(weights: Weights, reader: Reader, folder: Path) -> Path | None:
    """Writes the weights into ``folder`` for a trainer; None for an architecture.

    Raises:
        Transient: If a file is no longer the one that was located.
        InvalidConfig: If a file is gone.
    """
    if weights.kind == "architecture":
        return None
    try:
        if weights.kind == "folder":
            target = folder / "weights"
            target.mkdir(exist_ok=True)
            digest = _digest({name: _copied(weights.uri + name, reader, target / name) for name in weights.files})
        else:
            target = folder / PurePosixPath(urlsplit(weights.uri).path if "://" in weights.uri else weights.uri).name
            digest = _copied(weights.uri, reader, target)
    except NotFound:
        raise InvalidConfig(f"the weights {weights.uri} are gone since they were found: put them back.") from None
    if digest != weights.sha256:
        raise Transient(
            f"the weights {weights.uri} changed while the stage started: it is tried again with the new ones."
        )
    return target


def _copied(uri: str, reader: Reader, target: Path) -> str:
    """Writes a file of weights to ``target`` and returns its SHA-256. Raises NotFound."""
    if (local := _local(uri)) is not None:
        with _opened(local, uri) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
    else:
        reader(uri, target)
    with target.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _registered(model: str, resolve_model: Callable[[str], str] | None) -> str:
    if resolve_model is None:
        raise InvalidConfig(f"model {model} is a registered model, but there is no MLflow: set MLFLOW_TRACKING_URI.")
    try:
        return resolve_model(model)
    except NotFound:
        raise InvalidConfig(
            f"model {model} is not registered in MLflow: give an existing name, version or alias (models:/NAME@champion)."
        ) from None


def _by_name(
    model: str,
    trainer: Trainer,
    environment: Mapping[str, str],
    load: Callable[[str], Weights],
    download: Callable[[], Weights],
) -> Weights:
    names = (model,) if reference_kind(model) == "path" else trainer.weights_names(model)
    prefix = environment.get("VISIONLOOP_WEIGHTS", "").rstrip("/")
    image = environment.get("VISIONLOOP_IMAGE_WEIGHTS", IMAGE_WEIGHTS).rstrip("/")
    searched = []
    for location, what in ((prefix, "VISIONLOOP_WEIGHTS"), (image, "the image")):
        for name in names if location else ():
            uri = f"{location}/{name}"
            try:
                return load(uri)
            except NotFound:
                searched.append(f"{uri} ({what})")
    if not prefix:
        searched.insert(0, "VISIONLOOP_WEIGHTS (not set)")
    if environment.get("VISIONLOOP_ALLOW_DOWNLOAD") != "1":
        searched.append("a download (allowed by VISIONLOOP_ALLOW_DOWNLOAD=1 only)")
    elif not isinstance(trainer, Downloads):
        searched.append(f"a download (the trainer {trainer.name} has none)")
    else:
        try:
            return download()
        except NotFound:
            searched.append("a download (no weights of that name)")
    raise InvalidConfig(
        f"the weights of model {model} were looked for in {', '.join(searched)}, and are in none: put them into one of these, "
        "or give a path, a URI or a YAML name as model."
    )


def _folder(uri: str, parts: Sequence[Sequence[str]], load_file: Callable[[str], Weights]) -> Weights:
    """A folder of weights, of whose every part one file is there.

    Args:
        uri: Of the folder, with a slash at its end.
        parts: For each file the names that it may have.
        load_file: As in `_locate`.

    Raises:
        NotFound: If it has none of them.
        InvalidConfig: If it lacks some of them.
    """
    files: dict[str, Weights] = {}
    missing = []
    for names in parts:
        for name in names:
            try:
                files[name] = load_file(uri + name)
                break
            except NotFound:
                continue
        else:
            missing.append(" or ".join(names))
    if not files:
        raise NotFound(uri)
    if missing:
        raise InvalidConfig(f"the folder of weights {uri} has no {' and no '.join(missing)}: put it there.")
    return Weights("folder", uri, _digest({name: file.sha256 for name, file in files.items()}), tuple(files))


def _digest(files: Mapping[str, str | None]) -> str | None:
    """The SHA-256 of a folder: of the lines that sha256sum prints of its files; None where they were only looked for."""
    if None in files.values():
        return None
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in files.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _file(uri: str, subject: str, load: Callable[[str], Weights], what: str) -> Weights:
    try:
        return load(uri)
    except NotFound:
        raise InvalidConfig(
            f"{subject} names the weights {uri}, where {what}: correct the name, or put them there."
        ) from None


def _hashed(uri: str, reader: Reader, folder: Path) -> Weights:
    local, fetched = _local(uri), folder / "fetched"
    try:
        if local is None:
            reader(uri, fetched)
        with _opened(local or fetched, uri) as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    finally:
        fetched.unlink(missing_ok=True)
    if not size:
        raise InvalidConfig(f"the weights {uri} are an empty file: put the right one there.")
    return Weights("file", uri, digest)


def _local(uri: str) -> Path | None:
    """The path that a path or a ``file://`` URI names; None for an ``s3://`` URI."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise InvalidConfig("model is not a valid URI: give s3://BUCKET/KEY, file:///FOLDER/FILE or a path.") from None
    if "://" not in uri:
        return Path(uri)
    if parts.scheme == "s3":
        return None
    if parts.scheme != "file":
        # Nothing after the host is shown: a presigned URL holds a key.
        raise InvalidConfig(
            f"model is at {parts.scheme}://{parts.hostname or ''}…, which is not read: copy the weights to s3:// or a folder."
        )
    return Path(unquote(parts.path))


def _opened(path: Path, uri: str) -> BufferedReader:
    """A weights file, open; its kind and size are checked before a byte is read, for a pipe or a device never ends.

    Raises:
        NotFound: If there is no such file.
        InvalidConfig: If it is not a regular file, or too large.
        AccessDenied: If it may not be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise InvalidConfig(f"the weights {uri} are not a file but a pipe, a socket or a device: name a file.")
        check_size(status.st_size, uri)
        return path.open("rb")
    except PermissionError:
        raise AccessDenied(f"the weights {uri} may not be read: give this user the right to.") from None
    except (OSError, ValueError):  # a folder, a name that is too long or contains a NUL
        raise NotFound(uri) from None


def check_size(size: int, uri: str) -> None:
    """Raises InvalidConfig if weights of so many bytes are not read."""
    if size > LARGEST_WEIGHTS:
        raise InvalidConfig(
            f"the weights {uri} have {size:,} bytes, more than the {LARGEST_WEIGHTS:,} that are read: name smaller ones."
        )
