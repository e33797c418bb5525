"""Receipts: the last object that a stage writes, and the only thing that makes its outputs a result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from visionloop.core.canonical import result_digest, sha256, stage_key
from visionloop.core.errors import Defect, InvalidReceipt, NotFound, PreconditionFailed
from visionloop.core.storage import Prefix, open_prefix
from visionloop.core.stores import split_uri

SCHEMA = 1
FILE = "receipt.json"

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
    """A receipt that was read, and the prefix that holds its outputs."""

    def __init__(self, receipt: Receipt, uri: str, prefix: Prefix, etag: str = "") -> None:
        """``prefix`` is the prefix of the key, ``etag`` the ETag of the receipt object."""
        self.receipt, self.uri, self.prefix, self.etag = receipt, uri, prefix, etag

    @property
    def reference(self) -> InputReference:
        """This receipt as the input of another stage."""
        return InputReference(self.uri, self.receipt.digest)

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
            InvalidReceipt: If the output is gone or differs from the receipt's entry.
        """
        entry = self.output(name)
        try:
            data = self.prefix.read(entry.path)
        except NotFound:
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is gone from the store; run the stage again with --force."
            ) from None
        if sha256(data) != entry.sha256:
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is not the one that the receipt names; run the stage again with --force."
            )
        return data

    def fetch(self, name: str, local: Path) -> Path:
        """Downloads an output into a file, checked against the receipt. Raises InvalidReceipt as ``read`` does."""
        entry = self.output(name)
        try:
            sent = self.prefix.download(entry.path, local)
        except NotFound:
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is gone from the store; run the stage again with --force."
            ) from None
        if sent.sha256 != entry.sha256:
            local.unlink(missing_ok=True)
            raise InvalidReceipt(
                f"{self.uri}: the output '{name}' is not the one that the receipt names; run the stage again with --force."
            )
        return local

    def report_uri(self) -> str | None:
        """The URI of the page that the stage wrote for people; None if it wrote none."""
        pages = (name for name, output in self.receipt.outputs.items() if output.path.endswith(".html"))
        name = next(pages, None)
        return None if name is None else self.output_uri(name)

    def intact(self) -> bool:
        """Whether every output exists with its recorded size, and a sample reads back with its recorded digest."""
        entries = self.receipt.outputs.values()
        try:
            for entry in entries:
                if self.prefix.head(entry.path).size != entry.size:
                    return False
            sample = min(
                (entry for entry in entries if entry.size <= SAMPLE_BYTES),
                key=lambda e: (not e.result, e.size),
                default=None,
            )
            return sample is None or sha256(self.prefix.read(sample.path)) == sample.sha256
        except NotFound:
            return False


def parse(data: bytes, uri: str) -> Receipt:
    """Reads a receipt's JSON and checks its key and digest against its other fields.

    Raises:
        InvalidReceipt: If it is not a receipt, has another schema, or was altered.
    """
    try:
        receipt = msgspec.json.decode(data, type=Receipt)
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


def read_at(prefix: Prefix) -> Result:
    """The receipt in the folder of a key; outputs are not checked.

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
    return Result(receipt, uri, prefix, etag)


def look(workspace: Prefix, stage: str, key: str) -> Result | None:
    """The receipt of a key, or None if it is missing, unreadable or of another key; outputs are not checked."""
    try:
        return read_at(workspace.child(f"{stage}/{key}"))
    except (NotFound, InvalidReceipt):
        return None


def load(uri: str, stage: str) -> Result:
    """Reads an input's receipt and checks that its outputs exist: the receipt decides success, never an engine's phase.

    Raises:
        InvalidReceipt: If it does not exist, belongs to another stage or key, or an output is gone.
    """
    parent, name = split_uri(uri) if uri else ("", "")
    if name != FILE:
        raise InvalidReceipt(f"{uri or '(empty)'}: not the URI of a {stage} receipt; give …/{stage}/<key>/{FILE}.")
    try:
        result = read_at(open_prefix(parent, "results"))
    except NotFound:
        raise InvalidReceipt(f"{uri}: no such receipt: the {stage} stage has not finished; run it first.") from None
    if result.receipt.stage != stage:
        raise InvalidReceipt(
            f"{uri}: a receipt of stage '{result.receipt.stage}', where one of '{stage}' is needed; give that one."
        )
    if not result.intact():
        raise InvalidReceipt(f"{uri}: an output that the {stage} receipt names is gone or altered; run {stage} again.")
    return result


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
