"""What a model is made of, in the form that others read: an ML-BOM by CycloneDX 1.6.

https://cyclonedx.org/docs/1.6/json/ states the fields. The model is the component that the bill describes, with its model card; the
dataset and the packages that the model needs are its components.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from visionloop import __version__
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.register.statement import starting_weights
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import secrets, structs, texts
from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidReceipt
from visionloop.core.receipts import Result
from visionloop.training.licences import licence_of

#: The bill's file in the model's folder.
FILE = "bom.cdx.json"

FORMAT, SPECIFICATION = "CycloneDX", "1.6"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

#: References within the bill: to the model, and to the dataset.
MODEL, DATASET = "model", "dataset"

#: What a prediction of each task is, as an output's format.
OUTPUTS = {
    "detection": ("boxes",),
    "segmentation": ("outlines", "boxes"),
    "pose": ("keypoints", "boxes"),
    "classification": ("classes",),
}

_REMEDY = "run the model's own run again with --force register"


class Hash(msgspec.Struct, frozen=True, kw_only=True):
    """A digest."""

    alg: str = "SHA-256"
    content: str


class Property(msgspec.Struct, frozen=True):
    """A name and a value of ours."""

    name: str
    value: str


class Licence(msgspec.Struct, frozen=True):
    """A licence by its name, as a package states it."""

    name: str


class LicenceChoice(msgspec.Struct, frozen=True):
    """What stands in a list of licences."""

    license: Licence


class Reference(msgspec.Struct, frozen=True):
    """A reference to a component of the bill."""

    ref: str


class Format(msgspec.Struct, frozen=True):
    """What a model takes or gives."""

    format: str


class Approach(msgspec.Struct, frozen=True):
    """How a model learned."""

    type: str


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a model is."""

    approach: Approach
    task: str
    model_architecture: str | None = None
    datasets: list[Reference]
    inputs: list[Format]
    outputs: list[Format]


class Interval(msgspec.Struct, frozen=True, rename="camel"):
    """The bounds between which a metric lies in 95 % of samples."""

    lower_bound: str
    upper_bound: str


class Metric(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A metric and what it was measured on."""

    type: str
    value: str
    slice: str
    confidence_interval: Interval | None = None


class QuantitativeAnalysis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How good a model is."""

    performance_metrics: list[Metric]


class Considerations(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a model is for, and what its figures do not say."""

    use_cases: list[str]
    technical_limitations: list[str]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The model card."""

    model_parameters: ModelParameters
    quantitative_analysis: QuantitativeAnalysis
    considerations: Considerations


class Pedigree(msgspec.Struct, frozen=True):
    """What a model was trained from."""

    ancestors: list[Component]


class Component(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"bom_ref": "bom-ref", "model_card": "modelCard"},
):
    """A component."""

    type: str
    name: str
    bom_ref: str | None = None
    version: str | None = None
    purl: str | None = None
    hashes: list[Hash] = []
    licenses: list[LicenceChoice] = []
    pedigree: Pedigree | None = None
    model_card: ModelCard | None = None
    properties: list[Property] = []


class Tools(msgspec.Struct, frozen=True):
    """What wrote the bill."""

    components: list[Component]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """When the bill was written, by what, and what it describes."""

    timestamp: str
    tools: Tools
    component: Component


class Dependency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a component needs."""

    ref: str
    depends_on: list[str]


class Bom(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "schema": "$schema",
        "bom_format": "bomFormat",
        "spec_version": "specVersion",
        "serial_number": "serialNumber",
    },
):
    """A bill of materials."""

    schema: str = SCHEMA
    bom_format: str = FORMAT
    spec_version: str = SPECIFICATION
    serial_number: str = ""
    version: int = 1
    metadata: Metadata
    components: list[Component]
    dependencies: list[Dependency]

    def encode(self) -> bytes:
        """Its JSON, indented for people; equal bills have equal bytes."""
        return msgspec.json.format(canonical(msgspec.to_builtins(self)), indent=2)


def stated(
    name: str,
    chain: Mapping[str, Result],
    snapshot: Snapshot,
    result: EvaluationResult,
    requirements: Sequence[str],
    timestamp: str,
    use_cases: Sequence[str] = (),
    limitations: Sequence[str] = (),
) -> Bom:
    """The bill of a model.

    Args:
        name: The registered name.
        chain: The receipts by stage, from evaluate to snapshot.
        snapshot: What it was trained on.
        result: Its evaluation.
        requirements: The lines of its ``requirements.txt``.
        timestamp: When it is registered (ISO 8601, UTC).
        use_cases: What it is for.
        limitations: What its figures do not say.
    """
    libraries = [library(line) for line in requirements if line.strip()]
    dataset = Component(
        type="data",
        bom_ref=DATASET,
        name=texts.sentence(snapshot.dataset),
        # Of its content as docs/contract.md, "Datasets", has it: it is many files.
        hashes=[Hash(content=snapshot.identity.dataset_hash)],
        licenses=[LicenceChoice(Licence(texts.sentence(licence))) for licence in snapshot.licences],
        properties=[Property("visionloop:snapshot", snapshot.id)],
    )
    model = _model(name, chain, snapshot, result, use_cases, limitations)
    components = [dataset, *libraries]
    needs = [str(component.bom_ref) for component in components]
    bom = Bom(
        metadata=Metadata(
            timestamp=timestamp,
            tools=Tools([Component(type="application", name="visionloop", version=__version__)]),
            component=model,
        ),
        components=components,
        dependencies=[Dependency(ref=MODEL, depends_on=needs)],
    )
    # Of the content: the same model, registered twice, has one bill.
    content = sha256(canonical(msgspec.to_builtins([model, components])))
    return msgspec.structs.replace(bom, serial_number=f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}")


def _model(
    name: str,
    chain: Mapping[str, Result],
    snapshot: Snapshot,
    result: EvaluationResult,
    use_cases: Sequence[str],
    limitations: Sequence[str],
) -> Component:
    training = chain["train"]
    weights = starting_weights(training)
    started = training.receipt.parameters.get("model")
    return Component(
        type="machine-learning-model",
        bom_ref=MODEL,
        name=name,
        hashes=[Hash(content=training.output("best").sha256)],
        pedigree=Pedigree(
            [
                Component(
                    type="machine-learning-model",
                    name="starting weights",
                    hashes=[Hash(content=weights)],
                )
            ]
        )
        if weights
        else None,
        model_card=ModelCard(
            model_parameters=ModelParameters(
                approach=Approach("supervised"),
                task=snapshot.task,
                model_architecture=str(started.value) if started is not None and not weights else None,
                datasets=[Reference(DATASET)],
                inputs=[Format("image")],
                outputs=[Format(each) for each in OUTPUTS[snapshot.task]],
            ),
            quantitative_analysis=QuantitativeAnalysis(performance_metrics=metrics(result)),
            considerations=Considerations(use_cases=list(use_cases), technical_limitations=list(limitations)),
        ),
        properties=[
            Property("visionloop:training", result.training),
            Property("visionloop:trainer", str(training.receipt.parameters["trainer"].value)),
        ],
    )


def metrics(result: EvaluationResult) -> list[Metric]:
    """The metrics of the split, the one that decided with its interval, and what was measured of each slice."""
    primary = result.gate["primary_metric"]
    interval = Interval(*(f"{bound:.6g}" for bound in result.interval)) if result.interval else None
    whole = [
        Metric(
            type=name,
            value=f"{value:.6g}",
            slice=result.split,
            confidence_interval=interval if name == primary else None,
        )
        for name, value in sorted(result.metrics.items())
    ]
    return whole + [
        Metric(type=name, value=f"{value:.6g}", slice=texts.sentence(part))
        for part, values in sorted(result.slices.items())
        for name, value in sorted(values.items())
        if name not in ("images", "objects")
    ]


def library(line: str) -> Component:
    """The component of a package that a model needs, from a line of its ``requirements.txt``."""
    try:
        requirement = Requirement(secrets.redact_urls(line))
    except InvalidRequirement:
        # As pip takes it and no standard does: an address, an option.
        text = texts.sentence(line)
        return Component(type="library", bom_ref=text, name=text)
    name = canonicalize_name(requirement.name)
    pinned = [
        each.version for each in requirement.specifier if each.operator in ("==", "===") and "*" not in each.version
    ]
    version = pinned[0] if len(pinned) == 1 else None
    # A version may be a local one, such as 2.15.0+cpu.
    purl = f"pkg:pypi/{name}" + (f"@{quote(version, safe='')}" if version else "")
    licence = licence_of(name)
    licences = [LicenceChoice(Licence(texts.sentence(licence)))] if licence else []
    return Component(type="library", bom_ref=purl, name=name, version=version, purl=purl, licenses=licences)


def read(data: bytes, uri: str) -> Bom:
    """Reads a bill. Raises InvalidReceipt if it is none of this form."""
    try:
        bom = structs.decode(data, Bom)
    except msgspec.MsgspecError as error:
        raise InvalidReceipt(f"{uri}: not a bill of materials ({error}); {_REMEDY}.") from error
    if (bom.bom_format, bom.spec_version) != (FORMAT, SPECIFICATION):
        raise InvalidReceipt(f"{uri}: of {bom.bom_format} {bom.spec_version}, not {FORMAT} {SPECIFICATION}; {_REMEDY}.")
    return bom


def check(bom: Bom, expected: Bom, uri: str) -> None:
    """Compares what a bill says of the model, its dataset, its metrics and its packages; words, licences and times may differ.

    Raises:
        InvalidReceipt: If one differs; the sentence names it.
    """
    theirs, ours = _facts(bom), _facts(expected)
    for field, value in ours.items():
        if theirs[field] != value:
            raise InvalidReceipt(f"{uri}: {field} is not what the receipts and the model's files say; {_REMEDY}.")


def _facts(bom: Bom) -> dict[str, Any]:
    model = bom.metadata.component
    card = model.model_card
    data = [component for component in bom.components if component.type == "data"]
    return {
        "metadata.component.hashes": model.hashes,
        "metadata.component.pedigree": model.pedigree,
        "modelCard.modelParameters": card and (card.model_parameters.task, card.model_parameters.datasets),
        "modelCard.quantitativeAnalysis": card and card.quantitative_analysis.performance_metrics,
        "components of type data": [(component.bom_ref, component.hashes, component.properties) for component in data],
        "components of type library": {
            (component.name, component.version, component.purl)
            for component in bom.components
            if component.type == "library"
        },
        "components": len(bom.components),
    }
