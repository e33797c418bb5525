"""The statement beside a registered model: in-toto's and SLSA's published fields, and what makes it false."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from decided import register, version
from test_model_verify import broken_at, chain
from toy_detector import Prepared

from visionloop.components.register import statement
from visionloop.core import receipts
from visionloop.core.canonical import sha256
from visionloop.core.receipts import Result
from visionloop.core.storage import open_prefix
from visionloop.pipelines.models.verification import verify
from visionloop.registry import Registry

#: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and resource_descriptor.md
STATEMENT = {"_type", "subject", "predicateType", "predicate"}
DESCRIPTOR = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}

#: https://slsa.dev/spec/v1.0/provenance
PREDICATE = {"buildDefinition", "runDetails"}
BUILD_DEFINITION = {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
RUN_DETAILS = {"builder", "metadata", "byproducts"}
BUILDER = {"id", "builderDependencies", "version"}
METADATA = {"invocationId", "startedOn", "finishedOn"}


def test_it_has_the_published_fields_and_says_what_the_model_was_made_from(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    register(prepared, name, 2)
    found, results = version(registry, name, 1), chain(registry, name)
    source = open_prefix(found.source, "results")
    made = json.loads(source.read(statement.FILE))
    assert set(made) == STATEMENT
    assert (made["_type"], made["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    predicate = made["predicate"]
    assert set(predicate) == PREDICATE
    build, details = predicate["buildDefinition"], predicate["runDetails"]
    assert set(build) == BUILD_DEFINITION
    assert set(details) <= RUN_DETAILS
    assert set(details["builder"]) <= BUILDER
    assert set(details["metadata"]) == METADATA
    for resource in (*made["subject"], *build["resolvedDependencies"]):
        assert set(resource) <= DESCRIPTOR
        assert all(isinstance(value, str) for value in resource["digest"].values())
    files = {info.key: sha256(source.read(info.key)) for info in list(source.objects())}
    del files[statement.FILE]
    assert {entry["name"]: entry["digest"]["sha256"] for entry in made["subject"]} == files
    inputs = {entry["name"]: entry for entry in build["resolvedDependencies"]}
    assert list(inputs) == ["dataset", "evaluate", "train", "convert", "validate", "snapshot"]
    assert inputs["dataset"]["digest"] == {"visionloopDataset": found.tags["visionloop.dataset_hash"]}
    for stage, result in list(results.items())[1:]:
        assert inputs[stage]["digest"] == {"visionloopResult": result.receipt.digest}
        assert inputs[stage]["uri"] == result.uri
    assert build["externalParameters"]["train"]["offset"] == 2
    assert build["externalParameters"]["register"]["model_name"] == name
    assert details["metadata"]["invocationId"] == f"{name}-2"


def test_it_holds_no_password(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    results = {stage: result for stage, result in chain(registry, name).items() if stage != "register"}
    secret = {"storage": "https://ada:opensesame@store/models"}
    assert "opensesame" not in json.dumps(statement.parameters(results, secret))
    assert statement.parameters(results, {"storage": "s3://models"})["register"] == {"storage": "s3://models"}


def put(result: Result, file: str, data: bytes) -> None:
    """Replaces a file of the model, and its SHA-256 in register's receipt."""
    name = f"model/{file}"
    receipt = receipts.load(result.uri, "register").receipt
    entry = receipt.outputs[name]
    outputs = receipt.outputs | {name: msgspec.structs.replace(entry, size=len(data), sha256=sha256(data))}
    result.prefix.write(entry.path, data)
    result.prefix.write(receipts.FILE, msgspec.structs.replace(receipt, outputs=outputs).encode())


def test_a_statement_that_says_something_else_is_a_broken_link(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    """Also where somebody has put its SHA-256 into register's receipt."""
    register(prepared, name, 2)
    result = chain(registry, name)["register"]
    before = result.read(f"model/{statement.FILE}")

    def altered(change: Callable[[Any], Any]) -> bytes:
        value = json.loads(before)
        change(value)
        return json.dumps(value).encode()

    def build(value: Any) -> Any:
        return value["predicate"]["buildDefinition"]

    changes: list[Callable[[Any], Any]] = [
        lambda value: value["subject"].pop(),
        lambda value: value["subject"][0]["digest"].update(sha256="0" * 64),
        lambda value: build(value)["externalParameters"]["train"].update(offset=3),
        lambda value: build(value)["resolvedDependencies"][0]["digest"].update(visionloopDataset="0" * 64),
        lambda value: build(value)["resolvedDependencies"].pop(),
        lambda value: build(value).update(buildType="urn:other"),
        lambda value: value.update(predicateType="https://slsa.dev/provenance/v0.2"),
        lambda value: value.pop("predicate"),
    ]
    for change in changes:
        put(result, statement.FILE, altered(change))
        assert broken_at(registry, name, "none") == "provenance"
    put(result, statement.FILE, before)
    assert [link.link for link in verify(registry, f"{name}/1", "none").links][2] == "provenance"


def test_equal_inputs_give_equal_bytes_but_for_run_and_times(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    source = open_prefix(version(registry, name, 1).source, "results")
    made = statement.read(source.read(statement.FILE), name)
    assert made.encode() == source.read(statement.FILE)
    metadata = statement.Metadata(invocation_id="another", finished_on="2026-01-01T00:00:00Z")
    details = statement.RunDetails(builder=made.predicate.run_details.builder, metadata=metadata)
    other = msgspec.structs.replace(made, predicate=msgspec.structs.replace(made.predicate, run_details=details))
    statement.check(made, other, name)


def test_a_version_of_an_earlier_release_has_none(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    result = chain(registry, name)["register"]
    outputs = {output: entry for output, entry in result.receipt.outputs.items() if statement.FILE not in output}
    result.prefix.write(receipts.FILE, msgspec.structs.replace(result.receipt, outputs=outputs).encode())
    notes = verify(registry, f"{name}/1", "none").notes
    assert f"The version was registered before Visionloop wrote {statement.FILE}." in notes
