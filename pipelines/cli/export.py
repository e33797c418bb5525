"""What ``visionloop model export`` does: opens the model, reads the images, writes the files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from visionloop.components.evaluate.operating import default_point
from visionloop.components.export.formats import MODEL, PROGRAM, PROGRAM_FILE, Wanted
from visionloop.components.export.making import Described
from visionloop.components.predict.images import Picture, named
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import Defect, InvalidConfig, InvalidDataset, InvalidReceipt
from visionloop.core.files import atomic_write
from visionloop.core.folders import temporary_folder
from visionloop.core.stdout import stdout_to_stderr
from visionloop.data.decoding import Undecodable, decode
from visionloop.pipelines.cli.dataset import dataset_store
from visionloop.pipelines.environment import workspace_store
from visionloop.pipelines.models.opened import opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visionloop.components.export.result import ExportResult, Speed
    from visionloop.training.trainers import Trainer


@dataclass(frozen=True)
class Report:
    """What an export is, and how it was found (``components.export.result``).

    Attributes:
        model: The registered name; of a checkpoint where it lies.
        version: Its number; None of a checkpoint.
        format: The format.
        precision: ``fp32`` …
        accepted: Whether it finds what the model finds.
        reason: Why not; empty where it is accepted.
        file: Where it was put; None where it is refused.
        beside: The files that were put beside it: its weights, and what runs it.
        size: Of the file and its weights, in bytes.
        sha256: Of the file.
        pictures: How many pictures both were run on.
        objects: How many objects were compared on them.
        least_overlap: The least overlap (IoU) of an object's two boxes.
        score_difference: The largest difference of a confidence; None where it is not finite.
        further_difference: The same of another output: a keypoint in pixels of the input, a mask.
        metric: What both were measured by on labels; empty where there were none.
        value: What the file has.
        model_value: What the model has.
        latency_ms: The median time for a picture, without its preparation, on the CPU of the machine that exported.
        model_latency_ms: The same of the model itself.
    """

    model: str
    version: int | None
    format: str
    precision: str
    accepted: bool
    reason: str
    file: str | None
    beside: list[str]
    size: int
    sha256: str
    pictures: int
    objects: int
    least_overlap: float | None
    score_difference: float | None
    further_difference: float | None
    metric: str
    value: float | None
    model_value: float | None
    latency_ms: float | None
    model_latency_ms: float | None

    @property
    def label(self) -> str:
        """What people call the model."""
        return self.model if self.version is None else f"{self.model}/{self.version}"


def exported(
    model: str, format: str, out: Path, images: Sequence[str], command: str, settings: Sequence[str] = ()
) -> Report:
    """Exports a model.

    Args:
        model: ``NAME/VERSION`` or ``NAME@ALIAS``, or a checkpoint's path or URI.
        format: The format, with its precision or without: ``onnx:fp16``.
        out: Where the files are put; others there stay.
        images: What is compared on, as ``visionloop predict`` takes it; drawn pictures where nothing is named.
        command: Who asks, for sentences.
        settings: Of a checkpoint ``trainer=NAME``.

    Raises:
        InvalidConfig: If there is no such model, its trainer does not write the format, a package is missing, or a precision is asked for
            that needs labels where none are known.
        InvalidDataset: If one of the images can't be read.
        OSError: If the files can't be put there.
    """
    from visionloop.components.evaluate.measuring import is_registered
    from visionloop.components.export.formats import parse_export
    from visionloop.components.export.making import BY_METRIC

    wanted = parse_export(format, "--format")
    if not is_registered(model):
        return _of_checkpoint(model, wanted, out, images, settings)
    if settings:
        raise InvalidConfig("--set is for a checkpoint; a registered model knows its trainer, so leave it out.")
    if wanted.precision in BY_METRIC:
        return _by_metric(model, wanted, out, images, command)
    return _of_version(model, wanted, out, images, command)


def _of_version(model: str, wanted: Wanted, out: Path, images: Sequence[str], command: str) -> Report:
    """A registered version, compared on pictures."""
    from visionloop.components.export.formats import exporter
    from visionloop.registry import resolve
    from visionloop.registry.loaded import loaded
    from visionloop.training import catalog

    with ExitStack() as stack:
        registry = stack.enter_context(opened(model, command=command))
        stack.enter_context(dataset_store(*images))
        version = resolve.named(model, registry)
        uri, about = resolve.describe(version, registry)
        exporter(catalog.trainer(about.trainer), wanted)
        pictures = _pictures(images)
        stack.enter_context(stdout_to_stderr())
        found = stack.enter_context(loaded(version, uri, about))
        described = Described(
            task=about.task,
            classes=about.classes,
            keypoints=about.keypoints,
            training_digest=about.training_digest,
            checkpoint_sha256=about.checkpoint_sha256,
            operating_point=about.operating_point or default_point(about.classes).confidence,
        )
        with _made(found.trainer, found.checkpoint, wanted, described, pictures) as (files, result, speed):
            put = _put(files, wanted, out, f"{version.name}-{version.number}") if result.accepted else []
    return _report(version.name, version.number, result, put, speed.latency_ms, speed.model_latency_ms)


def _of_checkpoint(model: str, wanted: Wanted, out: Path, images: Sequence[str], settings: Sequence[str]) -> Report:
    """A checkpoint, which says itself what it is of, compared on pictures."""
    from visionloop.components.evaluate.measuring import found
    from visionloop.components.export.formats import exporter
    from visionloop.components.export.making import BY_METRIC
    from visionloop.core.canonical import sha256
    from visionloop.training import catalog
    from visionloop.training.configuration import merge_settings

    if wanted.precision in BY_METRIC:
        raise InvalidConfig(
            f"--format {wanted.text}: it is accepted by its metric, and a checkpoint comes without labels; take {wanted.format}, or export the "
            "version that its run registered."
        )
    with ExitStack() as stack:
        stack.enter_context(dataset_store(*images))
        if model.startswith("s3://"):
            stack.enter_context(workspace_store(model))
        checkpoint = found(model, None, json.dumps(merge_settings(tuple(settings), None)))
        trainer = checkpoint.trainer
        exporter(trainer, wanted)
        catalog.check_installed(trainer)
        pictures = _pictures(images)
        stack.enter_context(stdout_to_stderr())
        name = PurePosixPath(model).name
        local = checkpoint.fetch(stack.enter_context(temporary_folder("checkpoint")) / name)
        about = trainer.predictor(local)
        task = getattr(about, "task", None) or (next(iter(trainer.tasks)) if len(trainer.tasks) == 1 else None)
        if task is None:
            raise InvalidConfig(
                f"{model}: the trainer {trainer.name} does not say its task; export a registered version."
            )
        described = Described(
            task=task,
            classes=list(about.classes),
            keypoints=list(getattr(about, "keypoints", ())),
            training_digest=checkpoint.reference.digest,
            checkpoint_sha256=sha256(local.read_bytes()),
            operating_point=dict(default_point(about.classes).confidence),
        )
        with _made(trainer, local, wanted, described, pictures) as (files, result, speed):
            put = _put(files, wanted, out, PurePosixPath(name).stem) if result.accepted else []
    return _report(model, None, result, put, speed.latency_ms, speed.model_latency_ms)


def _by_metric(model: str, wanted: Wanted, out: Path, images: Sequence[str], command: str) -> Report:
    """A registered version, measured on the labels of its own evaluation by the stage export, whose receipt a run finds again."""
    from visionloop.components.export.result import read
    from visionloop.core import catalog, receipts
    from visionloop.core.running import Invocation, run_stage
    from visionloop.core.storage import open_prefix
    from visionloop.registry import resolve
    from visionloop.registry.versions import EVALUATION

    if images:
        raise InvalidConfig(
            f"--images: {wanted.text} is accepted by its metric on the labels of the version's own evaluation; leave it out."
        )
    with ExitStack() as stack:
        registry = stack.enter_context(opened(model, command=command))
        version = resolve.named(model, registry)
        if not (evaluation := version.tags.get(EVALUATION)) or version.workspace is None:
            raise InvalidConfig(
                f"{version.label}: no run registered it, so there are no labels by which {wanted.text} could be accepted; take {wanted.format}."
            )
        workspace = open_prefix(version.workspace, "results")
        receipt = receipts.load(evaluation, "evaluate", workspace)
        stack.enter_context(dataset_store(Snapshot(receipt.input("snapshot", "snapshot")).dataset))
        stack.enter_context(stdout_to_stderr())
        arguments = {"evaluation": evaluation, "export": wanted.text}
        outcome = run_stage(catalog.stage("export"), arguments, Invocation(version.workspace))
        if outcome.result is None:
            raise Defect("the stage export ended without a receipt")
        listed = next(each for each in read(outcome.result) if each.result.wanted == wanted)
        one = receipts.look(workspace, "export", listed.key)
        if one is None:
            raise InvalidReceipt(f"{outcome.result.uri} names an export that is gone; run the command again.")
        with temporary_folder("export") as folder:
            outputs = {**wanted.files(), PROGRAM: PROGRAM_FILE} if listed.result.accepted else {}
            there = {output: name for output, name in outputs.items() if output in one.receipt.outputs}
            files = {output: one.fetch(output, folder / name) for output, name in there.items()}
            put = _put(files, wanted, out, f"{version.name}-{version.number}")
        times = one.receipt.timings
        own, its = (times.get(name) for name in ("latency_median_seconds", "model_latency_median_seconds"))
    return _report(version.name, version.number, listed.result, put, own and own * 1000, its and its * 1000)


@contextmanager
def _made(
    trainer: Trainer, checkpoint: Path, wanted: Wanted, described: Described, pictures: Sequence[NDArray[np.uint8]]
) -> Iterator[tuple[dict[str, Path], ExportResult, Speed]]:
    """The export in a folder of this process, compared on pictures or on drawn ones."""
    from visionloop.components.export import making

    making.check_packages(wanted.format, "model export")
    with temporary_folder("export") as folder:
        yield making.make(trainer, checkpoint, wanted, described, pictures or making.drawn(), folder)


def _put(files: Mapping[str, Path], wanted: Wanted, target: Path, stem: str) -> list[str]:
    """Puts an export's files into a folder, the one that is opened last: without it the others are nothing yet."""
    if not files:
        return []
    names = {**wanted.files(stem), PROGRAM: PROGRAM_FILE}
    target.mkdir(parents=True, exist_ok=True)
    for output in sorted(files, key=lambda output: output == MODEL):
        with atomic_write(target / names[output]) as partial:
            partial.write_bytes(files[output].read_bytes())
    return [str(target / names[output]) for output in sorted(files, key=lambda output: output != MODEL)]


def _report(
    model: str,
    version: int | None,
    found: ExportResult,
    put: Sequence[str],
    latency_ms: float | None,
    model_latency_ms: float | None,
) -> Report:
    return Report(
        model=model,
        version=version,
        format=found.format,
        precision=found.precision,
        accepted=found.accepted,
        reason=found.reason,
        file=put[0] if put else None,
        beside=list(put[1:]),
        size=found.size,
        sha256=found.sha256,
        pictures=found.pictures,
        objects=found.objects,
        least_overlap=found.least_overlap,
        score_difference=found.score_difference,
        further_difference=found.further_difference,
        metric=found.metric,
        value=found.value,
        model_value=found.model_value,
        latency_ms=latency_ms,
        model_latency_ms=model_latency_ms,
    )


def _pictures(images: Sequence[str]) -> list[NDArray[np.uint8]]:
    from visionloop.components.export.making import COMPARED

    return [_decoded(picture) for picture in named(images, _refuse)[:COMPARED]]


def _decoded(picture: Picture) -> NDArray[np.uint8]:
    try:
        return decode(picture.read())
    except Undecodable as error:
        raise InvalidDataset(f"{picture.name}: {error}; give a PNG, JPEG, WebP, BMP or TIFF.") from error


def _refuse(sentence: str) -> None:
    raise InvalidDataset(sentence)
