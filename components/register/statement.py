"""Where a model comes from, in the form that others read: an in-toto Statement v1 with SLSA's provenance v1 as its predicate.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance state the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from visionloop import __version__
from visionloop.components.register import signature
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import secrets, structs
from visionloop.core.canonical import canonical
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result

#: The statement's file in the model's folder.
FILE = "provenance.intoto.json"

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"

#: What was done, and who did it: SLSA asks for URIs.
BUILD_TYPE = "urn:visionloop:training:1"
BUILDER = "urn:visionloop:register"

#: The names of our digests: neither is the SHA-256 of the bytes at a URI (docs/contract.md, "Keys, digests and receipts", "Datasets").
RESULT_DIGEST = "visionloopResult"
DATASET_DIGEST = "visionloopDataset"


_REMEDY = "run the model's own run again with --force register"


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ResourceDescriptor of in-toto: what has a digest."""

    name: str
    digest: dict[str, str]
    uri: str | None = None
    annotations: dict[str, Any] = {}


class BuildDefinition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was asked for, and what went in."""

    build_type: str
    external_parameters: dict[str, Any]
    internal_parameters: dict[str, Any]
    resolved_dependencies: list[Resource]


class Builder(msgspec.Struct, frozen=True, kw_only=True):
    """Who built it."""

    id: str
    version: dict[str, str]


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """When, and in which run."""

    invocation_id: str
    started_on: str | None = None
    finished_on: str


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What is of this run alone."""

    builder: Builder
    metadata: Metadata


class Predicate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """SLSA's provenance v1."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename={"type": "_type", "predicate_type": "predicateType"}):
    """An in-toto Statement v1."""

    type: str
    subject: list[Resource]
    predicate_type: str
    predicate: Predicate

    def encode(self) -> bytes:
        """Its JSON, indented for people; equal statements have equal bytes."""
        return msgspec.json.format(canonical(msgspec.to_builtins(self)), indent=2)


def subjects(files: Mapping[str, str]) -> list[Resource]:
    """The model's files, each with its SHA-256, in the order of their names; the statement and the signature over it are none of them."""
    own = (FILE, signature.FILE)
    return [Resource(name=name, digest={"sha256": files[name]}) for name in sorted(files) if name not in own]


def dependencies(chain: Mapping[str, Result], dataset_hash: str, snapshot_id: str) -> list[Resource]:
    """What the model was made from: the dataset, the starting weights where they are a file, and each stage's result.

    Args:
        chain: The receipts by stage, from evaluate to snapshot.
        dataset_hash: The dataset's hash.
        snapshot_id: The snapshot's id.
    """
    weights = starting_weights(chain["train"])
    return [
        Resource(name="dataset", digest={DATASET_DIGEST: dataset_hash}, annotations={"snapshot": snapshot_id}),
        *([Resource(name="starting weights", digest={"sha256": weights})] if weights else []),
        *(
            Resource(
                name=stage,
                uri=secrets.redact_urls(result.uri),
                digest={RESULT_DIGEST: result.receipt.digest},
                annotations={"key": result.receipt.key},
            )
            for stage, result in chain.items()
        ),
    ]


def starting_weights(training: Result) -> str | None:
    """The SHA-256 of a training's starting weights; None where it began from an architecture."""
    model = training.receipt.parameters.get("model")
    digest = re.fullmatch("sha256:([0-9a-f]{64})", str(model.value)) if model else None
    return digest[1] if digest else None


def parameters(chain: Mapping[str, Result], registration: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved settings of each stage, without secrets; ``registration`` are those of register."""
    values: dict[str, Any] = {
        stage: {name: entry.value for name, entry in result.receipt.parameters.items()}
        for stage, result in chain.items()
    }
    redacted: dict[str, Any] = secrets.redact_fields(values | {"register": dict(registration)})
    return redacted


def stated(
    files: Mapping[str, str],
    chain: Mapping[str, Result],
    snapshot: Snapshot,
    registration: Mapping[str, Any],
    metadata: Metadata,
) -> Statement:
    """The statement of a model.

    Args:
        files: The SHA-256 of each of its files by name.
        chain: The receipts by stage, from evaluate to snapshot.
        snapshot: What it was trained on.
        registration: The parameters of register.
        metadata: The run that registered it.
    """
    return Statement(
        type=STATEMENT_TYPE,
        subject=subjects(files),
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(
            build_definition=BuildDefinition(
                build_type=BUILD_TYPE,
                external_parameters=parameters(chain, registration),
                internal_parameters={"versions": {stage: result.receipt.versions for stage, result in chain.items()}},
                resolved_dependencies=dependencies(chain, snapshot.identity.dataset_hash, snapshot.id),
            ),
            run_details=RunDetails(builder=Builder(id=BUILDER, version={"visionloop": __version__}), metadata=metadata),
        ),
    )


def read(data: bytes, uri: str) -> Statement:
    """Reads a statement. Raises InvalidReceipt if it is none of this form."""
    try:
        statement = structs.decode(data, Statement)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{uri}: not a statement of in-toto ({error}); {_REMEDY}.") from error
    if (statement.type, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidReceipt(
            f"{uri}: of the types {statement.type} and {statement.predicate_type}, not {STATEMENT_TYPE} and {PREDICATE_TYPE}; {_REMEDY}."
        )
    return statement


def check(statement: Statement, expected: Statement, uri: str) -> None:
    """Compares what a statement says of files, settings and inputs; places, run and times may differ.

    Raises:
        InvalidReceipt: If one differs; the sentence names it.
    """
    theirs_built, ours_built = statement.predicate.build_definition, expected.predicate.build_definition
    pairs = {
        "subject": (_digests(statement.subject), _digests(expected.subject)),
        "resolvedDependencies": (
            _digests(theirs_built.resolved_dependencies),
            _digests(ours_built.resolved_dependencies),
        ),
        "externalParameters": (theirs_built.external_parameters, ours_built.external_parameters),
        "buildType": (theirs_built.build_type, ours_built.build_type),
    }
    for field, (theirs, ours) in pairs.items():
        if theirs == ours:
            continue
        names = (
            sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
            if isinstance(theirs, dict) and isinstance(ours, dict)
            else []
        )
        which = f"{field}.{names[0]}" if names else field
        raise InvalidReceipt(f"{uri}: {which} is not what the receipts and the model's files say; {_REMEDY}.")


def _digests(resources: list[Resource]) -> dict[str, dict[str, str]]:
    return {resource.name: resource.digest for resource in resources}
