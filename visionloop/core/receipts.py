"""Receipts: the last object that a stage writes, and the only thing that makes its outputs a result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from visionloop.core import damage, structs
from visionloop.core.canonical import result_digest, sha256, stage_key
from visionloop.core.errors import Defect, InvalidReceipt, NotFound, PreconditionFailed, Transient, VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.core.storage import Prefix, Sent, open_prefix
from visionloop.core.stores import split_uri

SCHEMA = 1
FILE = "receipt.json"

#: A key at the end of a receipt's URI.
KEY_IN_URI = re.compile(rf"/([0-9a-f]{{64}})/{re.escape(FILE)}$")

#: Largest output, in bytes, that may be the sample which is read back before a receipt is trusted.
SAMPLE_BYTES = 8 * 2**20

#: A receipt's record of tracking when no tracker is configured.
NOT_TRACKED = "not tracked"


class InputReference(msgspec.Struct, frozen=True):
    """An input of a stage: its receipt's URI (None where there is no receipt, as without a champion) and its digest."""

    receipt: str | None
    digest: str


class Parameter(msgspec.Struct, frozen=True):
    """A resolved parameter and where it came from."""

    value: Any
    source: str


class Output(msgspec.Struct, frozen=True):
    """One output: path relative to the receipt, size in bytes, SHA-256 in hex, and whether it is a result."""

    path: str
    size: int
    sha256: str
    result: bool


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A finished stage's record; ``docs/contract.md`` describes each field."""

    schema: int = SCHEMA
    stage: str
    logic_version: int
    key: str
    attempt: str
    inputs: dict[str, InputReference]
    parameters: dict[str, Parameter]
    outputs: dict[str, Output]
    digest: str
    scalars: dict[str, Any]
    metrics: dict[str, float]
    timings: dict[str, float]
    versions: dict[str, str]
    trace_id: str
    tracking: dict[str, Any] | str = NOT_TRACKED

    def encode(self) -> bytes:
        """The receipt's JSON, indented for people."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


class Result:
    """A receipt that was read, and the prefix that holds its outputs.

    Every reader of an output goes through ``read`` or ``fetch``, which check its digest.
    """

    def __init__(
        self, receipt: Receipt, uri: str, prefix: Prefix, etag: str = "", workspace: Prefix | None = None
    ) -> None:
        """``prefix`` is the prefix of the key, ``etag`` the ETag of the receipt object.

        ``workspace`` is the workspace that is open now: only there is a damaged output marked.
        """
        self.receipt, self.uri, self.prefix, self.etag, self.workspace = receipt, uri, prefix, etag, workspace

    @property
    def reference(self) -> InputReference:
        """This receipt as the input of another stage."""
        return InputReference(self.uri, self.receipt.digest)

    def input(self, name: str, stage: str, *, outputs: bool = True) -> Result:
        """The receipt of one of its inputs, in the workspace that is open now or else where it was.

        A workspace may have been moved or copied since: the digest decides, not the place.

        Args:
            name: The input's name.
            stage: The stage whose receipt it is.
            outputs: As for ``load``.

        Raises:
            InvalidReceipt: If there is none, its outputs are gone, or it has another digest by now.
        """
        reference = self.receipt.inputs.get(name)
        if reference is None:
            raise InvalidReceipt(f"{self.uri}: inputs has no '{name}'; give a receipt of the right stage.")
        workspace = self.workspace or _workspace_of(self.prefix)
        result = nearest(reference.receipt or "", stage, workspace, reference.digest, outputs=outputs)
        if result.receipt.digest != reference.digest:
            raise InvalidReceipt(
                f"{result.uri}: computed anew, with another result, since {self.uri} was made from it; "
                f"run again: {self.receipt.stage} will be computed from this one."
            )
        result.workspace = self.workspace
        return result

    def output(self, name: str) -> Output:
        """One output's entry. Raises InvalidReceipt if the receipt has none of that name."""
        try:
            return self.receipt.outputs[name]
        except KeyError:
            raise InvalidReceipt(f"{self.uri}: outputs has no '{name}'; give a receipt of the right stage.") from None

    def output_uri(self, name: str) -> str:
        """One output's URI."""
        return f"{self.prefix.uri}/{self.output(name).path}"

    def read(self, name: str) -> bytes:
        """An output's bytes, checked against the receipt.

        Raises:
            InvalidReceipt: If the output is gone, or is not the one that the receipt names; then its key is marked, so that
                the stage's next run computes it again.
            Transient: If each read gives other bytes.
        """
        content = _Content()
        self._check(name, content.transfer)
        return content.data

    def fetch(self, name: str, local: Path) -> Path:
        """Downloads an output into a file, checked against the receipt. Raises as ``read`` does."""
        try:
            self._check(name, lambda prefix, path: prefix.download(path, local))
        except VisionloopError:
            local.unlink(missing_ok=True)
            raise
        return local

    def check(self, name: str, alive: Callable[[int], None] = lambda size: None) -> None:
        """Hashes an output again, and keeps nothing of it; ``alive`` is called with the bytes of each block. Raises as ``read`` does."""
        self._check(name, lambda prefix, path: prefix.checksum(path, alive))

    def report_uri(self) -> str | None:
        """The URI of the page that the stage wrote for people; None if it wrote none."""
        pages = (name for name, output in self.receipt.outputs.items() if output.path.endswith(".html"))
        name = next(pages, None)
        return None if name is None else self.output_uri(name)

    def obstacle(self) -> str | None:
        """Why this is not a result any more, or None.

        It is one if it is not marked as damaged, every output exists with its recorded size, and a sample reads back with its
        recorded digest.
        """
        if marked := damage.of_attempt(self.prefix, self.receipt.attempt):
            return f"the output '{marked.output}' is damaged"
        outputs = self.receipt.outputs
        for name, entry in outputs.items():
            try:
                size = self.prefix.head(entry.path).size
            except NotFound:
                return f"the output '{name}' is gone"
            if size != entry.size:
                return f"the output '{name}' has {size} bytes instead of {entry.size}"
        samples = (name for name, entry in outputs.items() if entry.size <= SAMPLE_BYTES)
        sample = min(samples, key=lambda name: (not outputs[name].result, outputs[name].size), default=None)
        if sample is None:
            return None
        try:
            read = self._transfer(sample, _Content().transfer)
        except NotFound:
            return f"the output '{sample}' is gone"
        return None if read.sha256 == outputs[sample].sha256 else f"the output '{sample}' is damaged"

    def intact(self) -> bool:
        """Whether this still is a result: there is no ``obstacle``."""
        return self.obstacle() is None

    def _transfer(self, name: str, transfer: Callable[[Prefix, str], Sent]) -> Sent:
        """Reads an output whole, and a second time over a new connection unless it is the one that the receipt names.

        Raises:
            NotFound: If it is gone.
            Transient: If the two reads differ, and neither is the one that the receipt names.
        """
        entry = self.output(name)
        expected = Sent(entry.size, entry.sha256)
        first = transfer(self.prefix, entry.path)
        if first == expected:
            return first
        second = transfer(open_prefix(self.prefix.uri, self.prefix.role), entry.path)
        if second == expected:
            LOGGER.warning("%s: the output '%s' was read wrongly at first, and rightly again.", self.uri, name)
        elif second != first:
            raise Transient(
                f"{self.uri}: the output '{name}' reads differently each time; look at the network and the store's disks."
            )
        return second

    def _check(self, name: str, transfer: Callable[[Prefix, str], Sent]) -> None:
        entry, stage = self.output(name), self.receipt.stage
        try:
            read = self._transfer(name, transfer)
        except NotFound:
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is gone; run again: {stage} will be computed again."
            ) from None
        if read.size != entry.size:
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' has {read.size} bytes instead of {entry.size}; "
                f"run again: {stage} will be computed again."
            )
        if read.sha256 == entry.sha256:
            return
        if self._is_ours() and damage.mark(
            self.prefix, damage.Damage(output=name, attempt=self.receipt.attempt, sha256=read.sha256)
        ):
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is damaged; run again: {stage} will be computed again."
            )
        workspace = _workspace_of(self.prefix).uri
        raise InvalidReceipt(
            f"{self.uri}: the output '{name}' is damaged, and can't be marked so from here; "
            f"run again with --force {stage} and --workspace {workspace}."
        )

    def _is_ours(self) -> bool:
        return self.workspace is not None and self.prefix.uri.startswith(f"{self.workspace.uri}/")


class _Content:
    """An output's bytes, as they were read last."""

    data: bytes = b""

    def transfer(self, prefix: Prefix, path: str) -> Sent:
        """Reads them."""
        self.data = prefix.read(path)
        return Sent(len(self.data), sha256(self.data))


def parse(data: bytes, uri: str) -> Receipt:
    """Reads a receipt's JSON and checks its key and digest against its other fields.

    Raises:
        InvalidReceipt: If it is not a receipt, has another schema, or was altered.
    """
    try:
        receipt = structs.decode(data, Receipt)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{uri}: not a receipt ({error}); give the URI of a stage's receipt.json.") from error
    if receipt.schema != SCHEMA:
        raise InvalidReceipt(
            f"{uri}: schema is {receipt.schema}, this version reads {SCHEMA}; use the Visionloop that wrote it."
        )
    for name, entry in receipt.outputs.items():
        if not {"", ".", ".."}.isdisjoint(entry.path.split("/")):
            raise InvalidReceipt(
                f"{uri}: outputs.{name}.path leads out of the key's folder; run the stage again with --force."
            )
    if receipt.digest != digest_of(receipt.outputs) or receipt.key != key_of(receipt):
        raise InvalidReceipt(f"{uri}: key or digest is not that of its content; run the stage again with --force.")
    return receipt


def digest_of(outputs: Mapping[str, Output]) -> str:
    """The result digest of a receipt's outputs."""
    return result_digest({name: entry.sha256 for name, entry in outputs.items() if entry.result})


def key_of(receipt: Receipt) -> str:
    """The key computed from a receipt's own fields."""
    return stage_key(
        receipt.stage,
        receipt.logic_version,
        {name: reference.digest for name, reference in receipt.inputs.items()},
        {name: parameter.value for name, parameter in receipt.parameters.items()},
    )


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The finite values: JSON has neither NaN nor infinity, and a record must be readable."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def read_at(prefix: Prefix, workspace: Prefix | None = None) -> Result:
    """The receipt in the folder of a key; outputs are not checked. ``workspace`` is the one that is open now.

    Raises:
        NotFound: If the folder holds none.
        InvalidReceipt: If it can't be read, or belongs into the folder of another key or stage.
    """
    data, etag = prefix.read_with_etag(FILE)
    uri = f"{prefix.uri}/{FILE}"
    receipt = parse(data, uri)
    if not uri.endswith(f"/{receipt.stage}/{receipt.key}/{FILE}"):
        raise InvalidReceipt(
            f"{uri}: holds the receipt of {receipt.stage}/{receipt.key[:12]}…, which belongs into that folder;"
            " remove it here and give the one that lies there."
        )
    return Result(receipt, uri, prefix, etag, workspace)


def look(workspace: Prefix, stage: str, key: str) -> Result | None:
    """The receipt of a key, or None if it is missing, unreadable or of another key; outputs are not checked."""
    try:
        return read_at(workspace.child(f"{stage}/{key}"), workspace)
    except (NotFound, InvalidReceipt):
        return None


def load(uri: str, stage: str, workspace: Prefix | None = None, *, outputs: bool = True) -> Result:
    """Reads an input's receipt and checks that its outputs exist: the receipt decides success, never an engine's phase.

    Args:
        uri: The receipt's URI.
        stage: The stage whose receipt it must be.
        workspace: The workspace that is open now: without it a damaged output is never marked.
        outputs: Whether its outputs must exist; not for a caller that needs the record alone.

    Raises:
        InvalidReceipt: If it does not exist, belongs to another stage or key, or an output is gone.
    """
    parent, name = split_uri(uri) if uri else ("", "")
    if name != FILE:
        raise InvalidReceipt(f"{uri or '(empty)'}: not the URI of a {stage} receipt; give …/{stage}/<key>/{FILE}.")
    try:
        result = read_at(open_prefix(parent, "results"), workspace)
    except NotFound:
        raise InvalidReceipt(f"{uri}: no such receipt: the {stage} stage has not finished; run it first.") from None
    if result.receipt.stage != stage:
        raise InvalidReceipt(
            f"{uri}: a receipt of stage '{result.receipt.stage}', where one of '{stage}' is needed; give that one."
        )
    if outputs and (obstacle := result.obstacle()):
        raise InvalidReceipt(f"{uri}: {obstacle}; run again: {stage} will be computed again.")
    return result


def nearest(uri: str, stage: str, workspace: Prefix, digest: str | None = None, *, outputs: bool = True) -> Result:
    """The receipt that a record names, in the workspace that is open now, else at its URI.

    A workspace that was moved or copied has it below its own name.

    Args:
        uri: The receipt's URI when the record was written.
        stage: The stage whose receipt it is.
        workspace: The workspace that is open now.
        digest: The result digest in the record: one of another digest in the open workspace is passed over.
        outputs: As for ``load``.

    Raises:
        InvalidReceipt: As ``load`` does; of what lies at the URI the caller compares the digest.
    """
    match = KEY_IN_URI.search(uri)
    local = look(workspace, stage, match[1]) if match else None
    if local is None or local.uri == uri or (digest is not None and local.receipt.digest != digest):
        return load(uri, stage, workspace, outputs=outputs)
    obstacle = local.obstacle() if outputs else None
    if obstacle is None:
        return local
    try:
        return load(uri, stage, workspace, outputs=outputs)
    except InvalidReceipt:
        raise InvalidReceipt(f"{local.uri}: {obstacle}; run again: {stage} will be computed again.") from None


def _workspace_of(prefix: Prefix) -> Prefix:
    """The workspace of a key's prefix."""
    return open_prefix(prefix.uri.rsplit("/", 2)[0], prefix.role)


def publish(prefix: Prefix, receipt: Receipt, replacing: str | None) -> Result:
    """Creates the receipt, or replaces the one with the ETag ``replacing``; if another attempt was first, its receipt is returned."""
    uri = f"{prefix.uri}/{FILE}"
    ours = receipt.encode()
    try:
        parse(ours, uri)
    except InvalidReceipt as error:
        raise Defect(f"{receipt.stage} made a receipt that can't be read back ({error}); please report it.") from error
    while True:
        if replacing is None:
            if prefix.create(FILE, ours):
                return Result(receipt, uri, prefix)
        else:
            try:
                prefix.replace(FILE, ours, replacing)
                return Result(receipt, uri, prefix)
            except PreconditionFailed:
                pass
        try:
            return read_at(prefix)
        except NotFound:
            replacing = None
        except InvalidReceipt:
            # A truncated object, or another key's receipt, is in the receipt's place: ours replaces it.
            _, replacing = prefix.read_with_etag(FILE)
