"""The bill of materials beside a registered model: CycloneDX's published schema, what it says, and what makes it false."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from decided import register, version
from test_card import RESULT
from test_model_verify import broken_at, chain
from test_statement import put
from toy_detector import Prepared, published

from visionloop.components.register import bom, statement
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.canonical import sha256
from visionloop.core.storage import open_prefix
from visionloop.pipelines.models.verification import verify
from visionloop.registry import Registry


def valid(data: bytes) -> None:
    """Raises AssertionError if a bill is not what the published schema of CycloneDX 1.6 asks for."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert error is None, str(error)[:2000]


def test_the_datasets_licences_stand_in_it_and_on_the_card(
    prepared: Prepared, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "licences", property(lambda _: ["CC BY 4.0", "<b>own</b>"]))
    outcome = prepared.register(prepared.evaluate(prepared.train(2), name), name)
    data = open_prefix(version(registry, name, 1).source, "results").read(bom.FILE)
    valid(data)
    dataset = json.loads(data)["components"][0]
    assert dataset["licenses"] == [{"license": {"name": "CC BY 4.0"}}, {"license": {"name": "<b>own</b>"}}]
    card = published(outcome).read("card").decode()
    assert "| licence of the dataset | CC BY 4.0; \\<b\\>own\\</b\\> |" in card
    assert "<b>own" not in published(outcome).read("card_page").decode()
    verify(registry, f"{name}/1", "none")


def test_it_has_the_published_form_and_says_what_the_model_is_made_of(
    prepared: Prepared, registry: Registry, name: str
) -> None:
    register(prepared, name, 2)
    found, results = version(registry, name, 1), chain(registry, name)
    source = open_prefix(found.source, "results")
    data = source.read(bom.FILE)
    valid(data)
    made = json.loads(data)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    model = made["metadata"]["component"]
    best = {"alg": "SHA-256", "content": results["train"].output("best").sha256}
    assert (model["type"], model["name"], model["hashes"]) == ("machine-learning-model", name, [best])
    card = model["modelCard"]
    assert card["modelParameters"]["task"] == "detection"
    assert card["modelParameters"]["datasets"] == [{"ref": "dataset"}]
    measured = {entry["type"]: entry for entry in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert measured["mAP50-95"]["value"] == found.tags["visionloop.metric.mAP50-95"]
    assert set(measured["mAP50-95"]["confidenceInterval"]) == {"lowerBound", "upperBound"}
    assert card["considerations"]["technicalLimitations"]
    dataset, *libraries = made["components"]
    assert dataset["hashes"] == [{"alg": "SHA-256", "content": found.tags["visionloop.dataset_hash"]}]
    lines = source.read("requirements.txt").decode().splitlines()
    pinned = {
        line.partition("==")[0].partition("[")[0].lower().replace("_", "-"): line.partition("==")[2] for line in lines
    }
    assert {entry["name"]: entry.get("version", "") for entry in libraries} == pinned
    mlflow = next(entry for entry in libraries if entry["name"].startswith("mlflow"))
    assert mlflow["purl"] == f"pkg:pypi/{mlflow['name']}@{mlflow['version']}"
    assert mlflow["licenses"]
    (needs,) = made["dependencies"]
    assert needs["dependsOn"] == [entry["bom-ref"] for entry in made["components"]]
    stated = statement.read(source.read(statement.FILE), name)
    assert bom.FILE in {resource.name for resource in stated.subject}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy==2.3.1", ("numpy", "2.3.1", "pkg:pypi/numpy@2.3.1")),
        ("torch==2.15.0+cpu", ("torch", "2.15.0+cpu", "pkg:pypi/torch@2.15.0%2Bcpu")),
        ("Flask_WTF[email]==1.2 ; python_version > '3'", ("flask-wtf", "1.2", "pkg:pypi/flask-wtf@1.2")),
        ("numpy>=2,<3", ("numpy", None, "pkg:pypi/numpy")),
        ("own @ https://ada:opensesame@wheels/own.whl", ("own", None, "pkg:pypi/own")),
        ("--index-url https://ada:opensesame@wheels", ("--index-url https://***@wheels", None, None)),
    ],
)
def test_a_package_is_named_as_its_line_says(line: str, expected: tuple[str, str | None, str | None]) -> None:
    component = bom.library(line)
    assert (component.name, component.version, component.purl) == expected
    assert component.type == "library"


def test_slices_stand_beside_the_metrics_of_the_split() -> None:
    slices = {"metadata.source=night": {"images": 12.0, "objects": 40.0, "mAP50": 0.25}, "size:small": {"objects": 3.0}}
    found = bom.metrics(msgspec.structs.replace(RESULT, slices=slices, interval=(0.7, 0.8)))
    assert [(metric.type, metric.value, metric.slice) for metric in found] == [
        ("box_loss", "0.5", "test"),
        ("mAP50", "0.75", "test"),
        ("mAP50-95", "0.5", "test"),
        ("mAP50", "0.25", "metadata.source=night"),
    ]
    assert [metric.type for metric in found if metric.confidence_interval] == ["mAP50"]


def test_a_bill_that_says_something_else_is_a_broken_link(prepared: Prepared, registry: Registry, name: str) -> None:
    """Also where somebody has put its SHA-256 into register's receipt, and into the statement."""
    register(prepared, name, 2)
    result = chain(registry, name)["register"]
    before, stated = (result.read(f"model/{file}") for file in (bom.FILE, statement.FILE))

    def altered(change: Callable[[Any], Any]) -> None:
        value = json.loads(before)
        change(value)
        data = json.dumps(value).encode()
        put(result, bom.FILE, data)
        put(result, statement.FILE, restated(stated, data))

    def model(value: Any) -> Any:
        return value["metadata"]["component"]

    changes: list[Callable[[Any], Any]] = [
        lambda value: model(value)["hashes"][0].update(content="0" * 64),
        lambda value: model(value)["modelCard"]["modelParameters"].update(task="pose"),
        lambda value: model(value)["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0].update(value="1"),
        lambda value: value["components"][0]["hashes"][0].update(content="0" * 64),
        lambda value: value["components"][0]["properties"][0].update(value="snap_000000000000"),
        lambda value: value["components"].pop(),
        lambda value: value["components"][1].update(version="0.1"),
        lambda value: value["components"].append({"type": "firmware", "name": "more"}),
        lambda value: value.update(specVersion="1.4"),
        lambda value: value.pop("metadata"),
    ]
    for change in changes:
        altered(change)
        assert broken_at(registry, name, "none") == "bom"
    put(result, bom.FILE, before)
    put(result, statement.FILE, stated)
    assert [link.link for link in verify(registry, f"{name}/1", "none").links][3] == "bom"


def restated(data: bytes, bill: bytes) -> bytes:
    """A statement that has the SHA-256 of another bill."""
    value = json.loads(data)
    (subject,) = (entry for entry in value["subject"] if entry["name"] == bom.FILE)
    subject["digest"]["sha256"] = sha256(bill)
    return json.dumps(value).encode()


def test_equal_inputs_give_equal_bytes_but_for_the_time(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    data = open_prefix(version(registry, name, 1).source, "results").read(bom.FILE)
    made = bom.read(data, name)
    assert made.encode() == data
    other = msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, timestamp="2026-01-01T00:00:00Z")
    )
    bom.check(made, other, name)


def test_a_version_of_an_earlier_release_has_none(prepared: Prepared, registry: Registry, name: str) -> None:
    register(prepared, name, 2)
    result = chain(registry, name)["register"]
    left_out = (bom.FILE, statement.FILE)
    outputs = {output: entry for output, entry in result.receipt.outputs.items() if not output.endswith(left_out)}
    result.prefix.write(receipts.FILE, msgspec.structs.replace(result.receipt, outputs=outputs).encode())
    notes = verify(registry, f"{name}/1", "none").notes
    assert f"The version was registered before Visionloop wrote {bom.FILE}." in notes
