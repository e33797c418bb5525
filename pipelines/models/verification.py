"""Whether a registered version is what its records say: the whole chain is read again, from the registry to the images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from visionloop.components.evaluate import operating
from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.components.register import bom, signature, statement
from visionloop.components.register.lineage import LINKS
from visionloop.components.register.stage import MODEL, Registered, read_registration
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.snapshot.stage import missing_or_changed, no_longer
from visionloop.core import receipts, runs, texts
from visionloop.core.errors import InvalidDataset, InvalidReceipt, NotFound
from visionloop.core.folders import temporary_folder
from visionloop.core.limits import Limits
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Output, Result
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data.images import ImageRow, read_frozen
from visionloop.pipelines.models.workspace import results_of
from visionloop.registry import Registry, Version, package, resolve
from visionloop.registry.versions import (
    CHECKPOINT_SHA256,
    DATASET_HASH,
    EVALUATION,
    METRIC,
    OPERATING_POINT,
    SNAPSHOT_ID,
    STARTING_WEIGHTS,
    STORAGE_URI,
    TRAINING_DIGEST,
    TRAINING_KEY,
)

#: How images are looked at: not at all; as their store declares them; read whole.
Images = Literal["none", "listing", "bytes"]

#: Called with what is done ("files", in bytes, or "images"), how much of it, and of how much.
Advanced = Callable[[str, int, int], None]

#: Tags that every version has, and those that versions of earlier releases lack.
_ALWAYS = (TRAINING_KEY, TRAINING_DIGEST, SNAPSHOT_ID, DATASET_HASH)


@dataclass(frozen=True)
class Link:
    """A link of the chain that holds.

    Attributes:
        link: ``version``, a stage, ``copy``, ``provenance``, ``bom``, ``signature`` or ``images``.
        subject: What was read: a URI, or the version.
        files: How many files were hashed again; of the link ``images``, how many images were compared.
        bytes: Their size; 0 where images were not read.
        compared: What of it was compared, in words.
    """

    link: str
    subject: str
    files: int
    bytes: int
    compared: str


@dataclass(frozen=True)
class Verified:
    """A chain without a broken link.

    Attributes:
        model: The registered name.
        version: The version.
        links: Its links, from the registry to the images.
        notes: What was not checked, and why.
    """

    model: str
    version: int
    links: list[Link]
    notes: list[str]


def verify(
    registry: Registry,
    wanted: str,
    images: Images,
    advanced: Advanced = lambda what, done, total: None,
    public_key: Path | None = None,
) -> Verified:
    """Reads a version's whole chain again: first the records, then the files, the model's first, then the images.

    Args:
        registry: The registry.
        wanted: ``NAME/VERSION`` or ``NAME@ALIAS``.
        images: How the snapshot's images are looked at.
        advanced: Called as work goes on.
        public_key: The PEM file of the key that the signature is checked with; it is not checked without one.

    Raises:
        InvalidReceipt: If a link is broken; the sentence names the first one.
        InvalidConfig: If there is no such version, Visionloop did not register it, or its workspace is gone.
    """
    version = resolve.named(wanted, registry)
    results = results_of(version)
    chain = _Chain(registry, version, results)
    chain.read()
    chain.compare_tags()
    chain.compare_files()
    total = sum(entry.size for result in chain.results.values() for entry in result.receipt.outputs.values())
    total += sum(entry.size for entry in chain.files.values()) if chain.copy else 0
    done = 0

    def alive(size: int) -> None:
        nonlocal done
        done += size
        advanced("files", done, total)

    chain.hash("register", alive)
    chain.compare_statement()
    chain.compare_bom()
    chain.check_signature(public_key)
    chain.hash_copy(alive)
    for _, stage in LINKS:
        chain.hash(stage, alive)
    chain.look_at_images(images, lambda done, total: advanced("images", done, total))
    return Verified(version.name, version.number, chain.links, chain.notes)


@dataclass
class _Chain:
    """The chain of one version, as far as it was read. ``results`` holds the receipts by stage, ``files`` the model's by path."""

    registry: Registry
    version: Version
    workspace: Prefix
    results: dict[str, Result] = field(default_factory=dict)
    files: dict[str, Output] = field(default_factory=dict)
    snapshot: Snapshot = field(init=False)
    copy: Prefix | None = None
    links: list[Link] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self) -> None:
        """Reads the receipts, from that of register down to the snapshot's; each against the digest in the one above it."""
        with self._link("version"):
            made = resolve.registration(self.version.source)
            if made is None or made.workspace != self.workspace.uri:
                raise InvalidReceipt(
                    f"its source is {self.version.source}, which is not where register puts a model in the workspace "
                    f"{self.workspace.uri} of its evaluation; register it again."
                )
        with self._link("register"):
            uri = f"{self.workspace.uri}/register/{made.key}/{receipts.FILE}"
            result = receipts.load(uri, "register", self.workspace, outputs=False)
            self.results["register"] = result
        for name, stage in LINKS:
            with self._link(stage):
                result = result.input(name, stage, outputs=False)
                self.results[stage] = result
        frozen = self.results["snapshot"]
        for stage in ("evaluate", "train", "convert"):
            with self._link(stage):
                result = self.results[stage]
                if result.input("snapshot", "snapshot", outputs=False).receipt.digest != frozen.receipt.digest:
                    raise InvalidReceipt(
                        f"{result.uri}: made from another snapshot than {frozen.uri}; run again with --force {stage}."
                    )
        self._note_lineage()

    def compare_tags(self) -> None:
        """Compares what the registry says of the version with the receipts."""
        training = self.results["train"].receipt
        with self._link("register"):
            registration = read_registration(self.results["register"])
        with self._link("train"):
            best = self.results["train"].output("best").sha256
        with self._link("snapshot"):
            self.snapshot = Snapshot(self.results["snapshot"])
        with self._link("evaluate"):
            metrics = read_evaluation(self.results["evaluate"]).metrics
            point = operating.read(self.results["evaluate"])
        weights = training.parameters.get("model")
        expected = {
            TRAINING_KEY: training.key,
            TRAINING_DIGEST: training.digest,
            SNAPSHOT_ID: self.snapshot.id,
            DATASET_HASH: self.snapshot.identity.dataset_hash,
            CHECKPOINT_SHA256: best,
            STORAGE_URI: self.results["register"].receipt.scalars.get("storage_uri"),
            **({STARTING_WEIGHTS: str(weights.value)} if weights else {}),
            **{f"{METRIC}{name}": f"{value:.6g}" for name, value in metrics.items()},
        }
        with self._link("version"):
            own = Registered(model_name=self.version.name, training=training.digest, version=self.version.number)
            if registration != own:
                raise InvalidReceipt(
                    f"{self.results['register'].uri} is of {registration.model_name}/{registration.version} and the training "
                    f"{registration.training}, not of {self.version.label} and {training.digest}; register it again."
                )
            for tag, value in expected.items():
                self._compare_tag(tag, value)
            self._compare_point(point.digest if point else None)
            self._compare_evaluation()
        compared = (
            f"source and {len([tag for tag in expected if tag in self.version.tags]) + 1} tags as the receipts say"
        )
        self.links.append(Link("version", self.version.uri, 0, 0, compared))

    def compare_files(self) -> None:
        """Compares the list of the model's files, and what they say of themselves, with the receipts."""
        result, source = self.results["register"], self.version.source
        with self._link("register"):
            start = f"{MODEL}/"
            outputs = result.receipt.outputs.items()
            self.files = {name.removeprefix(start): entry for name, entry in outputs if name.startswith(start)}
            if not self.files:
                raise InvalidReceipt(f"{result.uri}: names no file of the model; run again with --force register.")
            for name, entry in self.files.items():
                if f"{result.prefix.uri}/{entry.path}" != f"{source}/{name}":
                    raise InvalidReceipt(
                        f"{result.uri}: outputs.{start}{name}.path is not in {source}, the version's source; "
                        "run again with --force register."
                    )
            try:
                description = package.read(source)
            except NotFound:
                raise InvalidReceipt(
                    f"{source}/{package.DESCRIPTION_FILE} is gone; run the model's own run again: register puts it there again."
                ) from None
            best = self.results["train"].output("best").sha256
            checkpoint = self.files.get(description.checkpoint)
            if checkpoint is None or {checkpoint.sha256, description.checkpoint_sha256} != {best}:
                raise InvalidReceipt(
                    f"{source}/{description.checkpoint}: its recorded SHA-256 is not that of the training's best checkpoint, {best}; "
                    "run the model's own run again with --force register."
                )
        more = sorted({info.key for info in open_prefix(source, "results").objects()} - set(self.files))
        if more:
            self.notes.append(f"{source} holds {len(more):,} more files that no receipt names: {_first(more)}.")
        if copy := self.version.tags.get(STORAGE_URI):
            self._find_copy(copy)

    def hash(self, stage: str, alive: Callable[[int], None]) -> None:
        """Hashes every output of a stage again."""
        result = self.results[stage]
        outputs = result.receipt.outputs
        with self._link(stage):
            for name in outputs:
                result.check(name, alive)
        size = sum(entry.size for entry in outputs.values())
        compared = "key, digest and inputs of the receipt; size and SHA-256 of each output"
        self.links.append(Link(stage, result.uri, len(outputs), size, compared))

    def compare_statement(self) -> None:
        """Compares the statement beside the model's files with these files and the receipts."""
        if statement.FILE not in self.files:
            self.notes.append(f"The version was registered before Visionloop wrote {statement.FILE}.")
            return
        result, uri = self.results["register"], f"{self.version.source}/{statement.FILE}"
        with self._link("provenance"):
            made = statement.read(result.read(f"{MODEL}/{statement.FILE}"), uri)
            files = {name: entry.sha256 for name, entry in self.files.items()}
            chain = {stage: self.results[stage] for _, stage in LINKS}
            registration = {name: entry.value for name, entry in result.receipt.parameters.items()}
            metadata = made.predicate.run_details.metadata
            statement.check(made, statement.stated(files, chain, self.snapshot, registration, metadata), uri)
        compared = "the statement's files, settings and inputs as the model's files and the receipts say"
        self.links.append(Link("provenance", uri, 0, 0, compared))

    def compare_bom(self) -> None:
        """Compares the bill of materials beside the model's files with these files and the receipts."""
        if bom.FILE not in self.files:
            self.notes.append(f"The version was registered before Visionloop wrote {bom.FILE}.")
            return
        result, uri = self.results["register"], f"{self.version.source}/{bom.FILE}"
        with self._link("bom"):
            made = bom.read(result.read(f"{MODEL}/{bom.FILE}"), uri)
            requirements = result.read(f"{MODEL}/{package.REQUIREMENTS_FILE}").decode().splitlines()
            chain = {stage: self.results[stage] for _, stage in LINKS}
            evaluation = read_evaluation(chain["evaluate"])
            expected = bom.stated(
                self.version.name, chain, self.snapshot, evaluation, requirements, made.metadata.timestamp
            )
            bom.check(made, expected, uri)
        compared = "the model, its dataset, metrics and packages as the model's files and the receipts say"
        self.links.append(Link("bom", uri, 0, 0, compared))

    def check_signature(self, public_key: Path | None) -> None:
        """Checks the signature over the model's files, where a key is given; else tells that there is one."""
        result, uri = self.results["register"], f"{self.version.source}/{signature.FILE}"
        if public_key is None:
            if signature.FILE in self.files:
                self.notes.append(f"{uri} was not checked: give the key of whoever signed the model (--public-key).")
            return
        with self._link("signature"), temporary_folder("signed") as folder:
            if signature.FILE not in self.files:
                raise InvalidReceipt(
                    f"{self.version.source} holds no {signature.FILE}: the model was not signed; register it again with --force register "
                    f"and {signature.VARIABLE}."
                )
            for name in self.files:
                result.fetch(f"{MODEL}/{name}", folder / name)
            signature.verify(folder, public_key, uri)
        compared = f"the model's files against the signature by the key in {public_key}"
        self.links.append(Link("signature", uri, 0, 0, compared))

    def hash_copy(self, alive: Callable[[int], None]) -> None:
        """Hashes the copy of the model's files again, where there is one."""
        if self.copy is None:
            return
        remedy = "run the model's own run again with --force register"
        with self._link("copy"):
            for name, entry in self.files.items():
                try:
                    sent = self.copy.checksum(name, alive)
                except NotFound:
                    raise InvalidReceipt(f"{self.copy.uri}/{name} is gone; {remedy}.") from None
                if (sent.size, sent.sha256) != (entry.size, entry.sha256):
                    raise InvalidReceipt(f"{self.copy.uri}/{name} is not the file that was registered; {remedy}.")
        size = sum(entry.size for entry in self.files.values())
        self.links.append(Link("copy", self.copy.uri, len(self.files), size, "size and SHA-256 of each file"))

    def look_at_images(self, how: Images, advanced: Callable[[int, int], None]) -> None:
        """Compares the snapshot's images with what lies in the dataset now."""
        rows = [row for row in self.snapshot.rows if row.etag is not None]
        if missing := len(self.snapshot.rows) - len(rows):
            self.notes.append(f"{missing:,} images were missing already when {self.snapshot.id} was taken.")
        if how == "none":
            self.notes.append(f"{len(rows):,} images of {self.snapshot.dataset} were not looked at (--images none).")
            return
        read = 0
        with self._link("images"):
            try:
                if how == "bytes":
                    differences = _first_difference(self.snapshot, rows, advanced)
                else:
                    differences = missing_or_changed(self.snapshot, _watched(self.workspace, advanced))
            except NotFound as error:
                raise InvalidDataset(f"{self.snapshot.dataset}: nothing lies there any more; restore it.") from error
            if differences:
                raise no_longer(self.snapshot, differences)
        on_files = all(open_prefix(dataset.uri, "dataset").on_files for dataset in self.snapshot.datasets)
        if how == "bytes" or on_files:
            read = sum(row.size or 0 for row in rows)
        compared = {
            (True, "bytes"): "size and SHA-256",
            (True, "listing"): "size and SHA-256",
            (False, "bytes"): "size and ETag, each read whole; of a folder the SHA-256",
            (False, "listing"): "size and ETag as the store lists them; of a folder the SHA-256",
        }[on_files, how]
        self.links.append(Link("images", self.snapshot.dataset, len(rows), read, compared))

    @contextlib.contextmanager
    def _link(self, name: str) -> Iterator[None]:
        """Names the link in the error of one that is broken."""
        try:
            yield
        except InvalidDataset as error:
            raise InvalidReceipt(f"{self.version.label}: the link {name} is broken: {error.sentence}") from error

    def _compare_tag(self, tag: str, value: Any) -> None:
        stated = self.version.tags.get(tag)
        if stated is None:
            if tag in _ALWAYS:
                raise InvalidReceipt(f"the tag {tag} is gone; set it to {value}.")
            if not tag.startswith(METRIC):
                self.notes.append(f"The version has no tag {tag}.")
        elif stated != texts.visible(str(value)):
            raise InvalidReceipt(
                f"the tag {tag} says {stated}, and the receipts {value}; set it to that, or register it again."
            )

    def _compare_point(self, digest: str | None) -> None:
        if self.version.operating_point != digest:
            remedy = f"set it to {digest}" if digest else "remove it"
            raise InvalidReceipt(
                f"the tag {OPERATING_POINT} is not that of the evaluation's operating point; {remedy}, or register it again."
            )

    def _compare_evaluation(self) -> None:
        """Compares the evaluation that the version names: register's, or a later one of the same training and point that made it the champion."""
        tagged = self.version.tags[EVALUATION]
        named = self.results["register"].receipt.inputs["evaluation"]
        later = receipts.nearest(tagged, "evaluate", self.workspace, outputs=False)
        if later.receipt.digest == named.digest:
            return
        point = operating.read(later)
        of = later.receipt.inputs.get("training")
        if (of.digest if of else None, point.digest if point else None) != (
            self.version.training_digest,
            self.version.operating_point,
        ):
            raise InvalidReceipt(
                f"the tag {EVALUATION} names {tagged}, which is another evaluation than that of register's receipt, and not of this "
                f"training and operating point; set it to {named.receipt}."
            )
        for name in later.receipt.outputs:
            later.check(name)
        self.notes.append(
            f"It was registered by {named.receipt}, and its verdict is that of a later evaluation, whose files were hashed too: {tagged}."
        )

    def _find_copy(self, uri: str) -> None:
        """Finds the copy of the model's files; one that somebody removed as a whole is told: MLflow loads from the source."""
        copy = open_prefix(uri, "results")
        if next(copy.objects(), None) is None:
            self.notes.append(
                f"The copy at {uri} is gone: it was not checked; MLflow loads the model from {self.version.source}."
            )
        else:
            self.copy = copy

    def _note_lineage(self) -> None:
        """Tells what is not part of this chain: the starting weights, and the champion that it was compared with."""
        weights = statement.starting_weights(self.results["train"])
        if weights is not None:
            found = self.registry.of_checkpoint(weights)
            others = [each.label for each in found if each.label != self.version.label]
            if others:
                self.notes.append(
                    f"It was trained from the weights of {others[0]}, which is a chain of its own: visionloop model verify {others[0]}."
                )
            else:
                self.notes.append(
                    f"It was trained from the weights sha256:{weights}, which no registered version has: they were not checked."
                )
        champion = self.results["evaluate"].receipt.inputs.get("champion")
        if champion is None or champion.receipt is None:
            return
        try:
            found_digest = receipts.nearest(
                champion.receipt, "train", self.workspace, champion.digest, outputs=False
            ).receipt.digest
        except InvalidReceipt as error:
            self.notes.append(f"The training of the champion that it was compared with can't be read: {error.sentence}")
            return
        if found_digest != champion.digest:
            self.notes.append(f"{champion.receipt}: the champion that it was compared with was trained again since.")


class _Watched(Context):
    """A context whose images that are read are told to ``advanced``."""

    advanced_images: Callable[[int, int], None]

    def fetched(self, done: int, total: int, size: int, whole: int) -> None:
        """Tells how many images are done."""
        self.advanced_images(done, total)


def _watched(workspace: Prefix, advanced: Callable[[int, int], None]) -> Context:
    record = runs.RunRecord(workspace, runs.run_name(None))
    policy = POLICIES["snapshot"]
    context = _Watched(workspace, record, "", Limits("snapshot", policy.timeout, 0.0), policy, planning=True)
    context.advanced_images = advanced
    return context


def _first_difference(snapshot: Snapshot, rows: list[ImageRow], advanced: Callable[[int, int], None]) -> list[str]:
    """The first image that is gone or differs, as one part of a sentence; every image is read whole until then."""
    location = snapshot.open_images()

    def look(row: ImageRow) -> str | None:
        try:
            return f"{row.key} changed" if read_frozen(location, row)[1] else None
        except NotFound:
            return f"{row.key} is gone"

    for done, difference in enumerate(location.map(look, rows), 1):
        if difference:
            return [difference]
        advanced(done, len(rows))
    return []


def _first(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
