"""The evaluate stage."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from visionloop.components.convert.converted import Converted, IndexEntry
from visionloop.components.evaluate import operating
from visionloop.components.evaluate.calibration import calibration
from visionloop.components.evaluate.champion import Rival, compare, is_own, keypoints_of, why_unavailable
from visionloop.components.evaluate.conditions import examine
from visionloop.components.evaluate.costs import Costs, parse_costs
from visionloop.components.evaluate.curves import encoded
from visionloop.components.evaluate.evaluating import evaluate, evaluate_in_tiles, write_crowd_regions
from visionloop.components.evaluate.examples import LIMIT, Examples
from visionloop.components.evaluate.figures import figures, tables
from visionloop.components.evaluate.gate import decide, resolve_gate
from visionloop.components.evaluate.interval import interval, with_difference, with_doubt
from visionloop.components.evaluate.kinds import CONFIDENCE
from visionloop.components.evaluate.latency import PICTURES, Latency, measure
from visionloop.components.evaluate.loaded import SPLIT, Loaded
from visionloop.components.evaluate.measuring import (
    Adapted,
    Candidate,
    adapted,
    check_file,
    check_fits,
    converted_of,
    found,
    parse_split,
    reason_of,
    trained,
)
from visionloop.components.evaluate.must_pass import Judged, judge, read_must_pass
from visionloop.components.evaluate.operating import OUTPUT as POINT
from visionloop.components.evaluate.page import Evaluated, render
from visionloop.components.evaluate.result import OUTPUT, EvaluationResult
from visionloop.components.evaluate.roc import curve
from visionloop.components.evaluate.seen import Lineage, lineage_of
from visionloop.components.evaluate.slicing import (
    VALUES,
    Field,
    Sliced,
    digest,
    nothing_has,
    parse_slices,
    sliced,
)
from visionloop.components.evaluate.slicing import (
    measured as measured_slices,
)
from visionloop.components.evaluate.truth import Truth, model_classes, objects_by_class
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts, reports
from visionloop.core.errors import (
    InvalidConfig,
    InvalidDataset,
    InvalidReceipt,
    VisionloopError,
)
from visionloop.core.logs import LOGGER, notice
from visionloop.core.names import sanitise
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import InputReference, Parameter, Result
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument
from visionloop.core.stdout import stdout_to_stderr
from visionloop.core.storage import Prefix
from visionloop.data import images
from visionloop.data.annotations.split import listed
from visionloop.data.decoding import decode
from visionloop.data.sentences import printable
from visionloop.registry import NO_CHAMPION, Registry, Version
from visionloop.registry.versions import EVALUATION
from visionloop.training import catalog
from visionloop.training.devices import computing_device
from visionloop.training.measurement.tiled import check_tiled
from visionloop.training.tiled import TiledPredictor, parse_tile
from visionloop.training.tracking import attach
from visionloop.training.trainers import Evaluation, PredictionSettings, Predictor

#: The parameter that says what the champion, and the models whose weights it went on from, were trained on.
LINEAGE = "champion_snapshots"

#: The parameter that says why the champion's trainer can't measure it here; absent where it can, or where there is no champion.
UNAVAILABLE = "champion_unavailable"


@dataclass(frozen=True)
class Arguments:
    """The arguments of evaluate."""

    snapshot: str = argument("URI of the snapshot's receipt: it says where the images are read from.")
    training: str | None = argument("URI of the train receipt.", default=None)
    model_name: str | None = argument("The name under which the model is registered.", default=None)
    gate: str | None = argument(
        "The gate: a file (path or URI), or a JSON object: floor, epsilon, primary_metric, primary_metric_mode, incomparable, and conditions such as max_class_drop.",
        default=None,
    )
    slices: str | None = argument(
        "Fields by which images are sliced, separated by commas: metadata.KEY, attributes.KEY; objects are always sliced by size.",
        default=None,
    )
    costs: str | None = argument(
        "What a missed object and a false alarm cost: a file (path or URI), or a JSON object such as "
        '{"miss": 5, "false_alarm": 1}, or by class name; the operating point is chosen by them on val.',
        default=None,
    )
    model: str | None = argument(
        "In place of a training, a model that is only measured: NAME/VERSION, NAME@ALIAS, or a checkpoint's path or URI.",
        default=None,
    )
    converted: str | None = argument("With --model, URI of the convert receipt.", default=None)
    split_name: str | None = argument("With --model, the split that is measured: train, val or test.", default=None)
    settings: str | None = argument(
        "With a checkpoint as --model, how it is measured as a JSON object: trainer, imgsz, batch, conf, iou, max_det, single_cls.",
        default=None,
    )
    tile: str | None = argument(
        "With --model, the side of the tiles in pixels that large images are looked at in as well, as predict --tile does (default: none).",
        default=None,
    )


@dataclass(frozen=True)
class Measured:
    """What was measured of the candidate, and of the champion beside it.

    Attributes:
        loaded: What ``resolve`` loaded; of a model that is only measured with the settings of that model.
        converted: The converted dataset.
        entries: The images of the split that were measured.
        left_out: Those that were not, with the reason by file name.
        checkpoint_bytes: The model file's size.
        fitted: Of a model that is only measured, how the dataset was made to fit it.
        candidate: The candidate's evaluation.
        rival: The champion's.
        examples: What the candidate finds in pictures, with COCO's figures and the kinds of mistakes.
        latency: How long it takes.
        point: Its operating point.
        judged: The images on which it must be right.
    """

    loaded: Loaded
    converted: Converted
    entries: list[IndexEntry]
    left_out: dict[str, str]
    checkpoint_bytes: int
    fitted: Adapted | None
    candidate: Evaluation
    rival: Rival
    examples: Examples
    latency: Latency
    point: operating.OperatingPoint | None
    judged: Judged

    @property
    def names(self) -> list[str]:
        """The file names of what was measured."""
        return [entry.file_name for entry in self.entries]


@dataclass(frozen=True)
class Decided:
    """The verdict and its reason, and the bounds of the difference to the champion and of the gate's metric."""

    verdict: Literal["promote", "keep", "reject", "none"]
    reason: str
    difference: tuple[float, float] | None
    interval: tuple[float, float] | None


class EvaluateStage:
    """Evaluates the candidate and the champion on the same images, and decides by the gate."""

    name = "evaluate"
    logic_version = 5
    policy = POLICIES["evaluate"]
    arguments = Arguments
    description = "Evaluates a training on the held-out split, compares it with the champion and gives the verdict."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Asks the registry for the champion: its training's digest is part of the key, and why its trainer can't measure it here."""
        if arguments.model:
            return _measured(context, arguments)
        if arguments.tile:
            raise InvalidConfig("--tile is for --model, which is only measured; leave it out.")
        if not arguments.training or not arguments.model_name:
            raise InvalidConfig("evaluate needs --training and --model-name, or --model, which is only measured.")
        training = receipts.load(arguments.training, "train", context.workspace)
        snapshot = receipts.load(arguments.snapshot, "snapshot", context.workspace)
        if training.receipt.inputs["snapshot"].digest != snapshot.receipt.digest:
            raise InvalidReceipt(
                f"{arguments.snapshot}: not the snapshot that {arguments.training} was trained on; give that one."
            )
        fields = parse_slices(arguments.slices)
        costs = parse_costs(arguments.costs) if arguments.costs else None
        name = sanitise(arguments.model_name)
        config = {key: entry.value for key, entry in training.receipt.parameters.items()}
        trainer = catalog.trainer(str(config["trainer"]))
        taken = Snapshot(snapshot)
        gate = resolve_gate(
            arguments.gate,
            str(config["primary_metric"]),
            str(config.get("primary_metric_mode", "max")),
            trainer.metrics.get(taken.task, ()),
        )
        required = read_must_pass(gate.must_pass) if gate.must_pass else None
        if costs is not None:
            costs.check_classes(model_classes(taken.annotations, config))
        if required is not None:
            names = taken.table["file_name"].filter(pa.array(taken.in_split(SPLIT))).to_pylist()
            required.check(taken.annotations, SPLIT, names, model_classes(taken.annotations, config))
            gate, costs = replace(gate, must_pass=required.digest), costs or Costs()
        registry = Registry(os.environ, self.name)
        registry.check_name(name, arguments.model_name)
        champion = registry.champion(name)
        unavailable = None
        # Without the candidate's own trainer nothing is measured here: this is convert's look ahead.
        if champion is not None and not is_own(champion, training.receipt.digest) and catalog.is_installed(trainer):
            unavailable = why_unavailable(champion, registry)
        lineage = Lineage()
        if champion is not None and not is_own(champion, training.receipt.digest) and not unavailable:
            lineage = lineage_of(champion, registry, context.workspace)
        found = _sliced(taken, fields, SPLIT) if fields else []
        resolution = Resolution(
            inputs={
                "training": training.reference,
                "snapshot": snapshot.reference,
                "champion": _reference(champion),
            },
            parameters={
                "model_name": Parameter(name, "argument"),
                "gate": Parameter(gate.content(), "argument" if arguments.gate else "default"),
                "split": Parameter(SPLIT, "default"),
                "trainer": Parameter([trainer.name, trainer.logic_version], "training"),
                "config": Parameter(config, "training"),
                # The verdict then depends on what is installed here, so it is part of the key.
                **({UNAVAILABLE: Parameter(unavailable, "champion")} if unavailable else {}),
                **({"slices": Parameter([*map(str, fields), digest(found)], "argument")} if fields else {}),
                **({"costs": Parameter(costs.content(), "argument")} if costs is not None and arguments.costs else {}),
                **({LINEAGE: Parameter(lineage.digests, "champion")} if lineage.snapshots else {}),
            },
            loaded=Loaded(
                trained(training),
                taken,
                trainer,
                config,
                gate,
                registry,
                champion,
                unavailable,
                lineage,
                found,
                costs=costs,
                required=required,
            ),
            run_scalars={"champion": champion.label if champion else None, "registered_name": arguments.model_name},
        )
        if champion is not None and is_own(champion, training.receipt.digest) and not context.force:
            resolution.existing = self._promoting(champion, resolution, context.workspace)
        return resolution

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Evaluates candidate and champion, decides, and writes the result and the report."""
        measured = _measure(context, resolution.loaded, attempt)
        decided = _decided(context, measured)
        LOGGER.info("verdict %s: %s", decided.verdict, decided.reason)
        candidate, rival, latency, point = measured.candidate, measured.rival, measured.latency, measured.point
        result = _result(measured, decided)
        attempt.write(OUTPUT, "evaluation.json", result.encode(), result=True)
        if candidate.curves:
            attempt.write("curves", "curves.json", encoded(candidate.curves), result=True)
        if point is not None:
            attempt.write(POINT, "operating_point.json", point.encode(), result=True)
        other = rival.evaluation if rival.evaluation is not candidate else None
        objects = objects_by_class(measured.loaded.snapshot.annotations, measured.names, candidate.classes)
        roc = curve(candidate.right, candidate.wrong)
        evaluated = Evaluated(result, candidate, other, roc, measured.examples, objects, latency, point)
        self._show(context, resolution, attempt, measured.converted, evaluated)
        return Computed(
            scalars={"verdict": decided.verdict, "reason": decided.reason, "images": candidate.images},
            metrics=dict(candidate.metrics),
            timings=latency.timings(),
        )

    def _show(
        self,
        context: Context,
        resolution: Resolution[Loaded],
        attempt: Attempt,
        converted: Converted,
        evaluated: Evaluated,
    ) -> None:
        """Writes the page and the engine's own plots, and puts metrics and pages beside the training's runs in its trackers."""
        candidate, roc = evaluated.candidate, evaluated.roc
        links, pages = _beside(converted, context.workspace)
        page = render(evaluated, resolution, context, links)
        attempt.write("report", "report.html", page, result=False)
        pages["reports/evaluate.html"] = (
            reports.linked(page, {reports.LINKS["validate"]: "validate.html"}) if pages else page
        )
        attempt.write("latency", "latency.json", msgspec.json.encode(evaluated.latency), result=False)
        # Rows predicted, columns true, the background last.
        confusion = {"classes": list(candidate.classes), "confusion": [list(row) for row in candidate.confusion]}
        if candidate.confusion:
            attempt.write("confusion", "confusion.json", msgspec.json.encode(confusion), result=False)
        if roc is not None:
            attempt.write("roc", "roc.json", msgspec.json.encode(roc), result=False)
        result = evaluated.result
        found = {**figures(result, evaluated.latency.timings()), **candidate.metrics}
        logged = {f"test/{name}": value for name, value in found.items()}
        files = {**pages, **tables(result, evaluated.objects), "evaluation/evaluation.json": result.encode()}
        attach(os.environ, resolution.loaded.candidate.tracking, logged, files)

    def _promoting(self, champion: Version, resolution: Resolution[Loaded], workspace: Prefix) -> Result | None:
        """Returns the evaluation that the champion, our candidate, was registered with, if only the champion differs."""
        with contextlib.suppress(VisionloopError):
            result = receipts.nearest(champion.tags.get(EVALUATION, ""), self.name, workspace)
            receipt = result.receipt
            others, about_champion = ("training", "snapshot"), (UNAVAILABLE, LINEAGE)
            if (
                receipt.logic_version == self.logic_version
                and all(receipt.inputs[name].digest == resolution.inputs[name].digest for name in others)
                and {name: entry.value for name, entry in receipt.parameters.items() if name not in about_champion}
                == {name: entry.value for name, entry in resolution.parameters.items() if name not in about_champion}
            ):
                return result
        return None


def _measure(context: Context, loaded: Loaded, attempt: Attempt) -> Measured:
    """Evaluates the candidate on the split, and the champion beside it."""
    split = loaded.split
    converted = Converted(loaded.candidate.converted)
    view = attempt.work / "dataset"
    count = converted.view(loaded.snapshot, view, images.ImageCache.of_environment(), (split,), context.fetched)
    if not count:
        raise InvalidDataset(
            f"{loaded.snapshot.dataset}: no usable image is in the split '{split}'; correct the split or the images."
        )
    entries = [entry for entry in converted.index() if entry.split == split]
    left_out = _left_out(loaded.snapshot, converted, entries, split)
    checkpoint = loaded.candidate.fetch(attempt.work / "candidate.pt")
    fitted: Adapted | None = None
    if loaded.candidate.label:
        catalog.check_installed(loaded.trainer)
        with stdout_to_stderr():
            predictor = loaded.trainer.predictor(checkpoint)
            check_file(loaded.candidate, predictor, loaded.snapshot)
            fitted = adapted(view, split, entries, converted, loaded.candidate.label, predictor, loaded.config)
        loaded = replace(loaded, config=fitted.config)
        entries, count = fitted.entries, len(fitted.entries)
        left_out |= fitted.left_out
    write_crowd_regions(loaded.snapshot, entries, view, fitted.positions if fitted else None)
    of_model = loaded.trainer, loaded.snapshot.task, converted.classes, checkpoint
    with stdout_to_stderr():
        if loaded.tile is None:
            candidate = evaluate(*of_model, view, loaded.config, attempt.work / "candidate", context, count, split)
        else:
            candidate = evaluate_in_tiles(*of_model, loaded.tile, loaded.snapshot, view, loaded.config, context, split)
        rival = compare(context, loaded, candidate, converted, view, attempt.work, entries)
        examples, latency = _examples(loaded, candidate.classes, checkpoint, entries, view, context)
        point = _operating_point(loaded, candidate.classes, checkpoint, converted, attempt.work, context)
        judged = _judged(loaded, point, candidate.classes, checkpoint, entries, view, context)
    if candidate.images != count:
        notice(f"evaluate: the trainer measured {candidate.images} of the {count} images of the split {split}.")
    return Measured(
        loaded,
        converted,
        entries,
        left_out,
        checkpoint.stat().st_size,
        fitted,
        candidate,
        rival,
        examples,
        latency,
        point,
        judged,
    )


def _decided(context: Context, measured: Measured) -> Decided:
    """The gate's verdict on what was measured; of a model that is only measured there is none."""
    loaded, candidate, rival = measured.loaded, measured.candidate, measured.rival
    own = is_own(loaded.champion, loaded.candidate.digest)
    champion = rival.evaluation
    compared = [name for name in measured.names if rival.candidate is None or name not in rival.seen]
    objects = objects_by_class(loaded.snapshot.annotations, compared, candidate.classes)
    conditions = examine(
        loaded.gate,
        rival.candidate or candidate,
        None if own else champion,
        {name: number for name, number in objects.items() if rival.shared is None or name in rival.shared},
        measured.checkpoint_bytes,
        measured.latency.milliseconds,
        context.alive,
    )
    verdict: Literal["promote", "keep", "reject", "none"]
    verdict, reason = decide(
        loaded.gate,
        candidate.metrics,
        champion.metrics if champion else None,
        obstacle=rival.obstacle,
        own=own,
        not_measured=candidate.not_measured,
        unmet=(*conditions.unmet, *measured.judged.unmet()),
        compared=rival.candidate.metrics if rival.candidate else None,
        where=rival.where,
    )
    if measured.fitted is not None:
        verdict = "none"
        reason = reason_of(measured.fitted.shared, measured.converted.classes, candidate.classes)
    metric = loaded.gate.primary_metric
    bounds = interval(candidate, metric, context.alive)
    reason = with_doubt(with_difference(reason, conditions.difference), metric, bounds, candidate.images)
    return Decided(verdict, reason, conditions.difference, bounds)


def _result(measured: Measured, decided: Decided) -> EvaluationResult:
    """What ``evaluation.json`` holds."""
    loaded, candidate, rival, fitted = measured.loaded, measured.candidate, measured.rival, measured.fitted
    examples, champion, again = measured.examples, rival.evaluation, rival.candidate
    coco, sizes = examples.coco.result()
    least = CONFIDENCE if loaded.snapshot.task != "classification" else 0.0
    return EvaluationResult(
        training=loaded.candidate.digest,
        snapshot=loaded.snapshot.result.receipt.digest,
        champion=_reference(loaded.champion).digest,
        split=loaded.split,
        images=candidate.images,
        left_out=measured.left_out,
        classes=list(candidate.classes),
        shared=fitted.shared if fitted else (None if rival.shared is None else list(rival.shared)),
        keypoints=list(keypoints_of(loaded.snapshot)),
        metrics=dict(candidate.metrics),
        not_measured=dict(candidate.not_measured),
        per_class=_by_class(candidate.per_class),
        not_measured_per_class={name: dict(values) for name, values in candidate.not_measured_per_class.items()},
        coco=coco,
        errors=examples.kinds.result() if examples.images else {},
        calibration=calibration(candidate.right, candidate.wrong, least),
        slices=sizes | _slices(loaded, candidate, measured.entries),
        sliced_images=examples.images,
        champion_metrics=dict(champion.metrics) if champion else None,
        champion_per_class=_by_class(champion.per_class) if champion else None,
        seen=len(rival.seen),
        compared_metrics=dict(again.metrics) if again else None,
        compared_per_class=_by_class(again.per_class) if again else None,
        difference=decided.difference,
        verdict=decided.verdict,
        reason=decided.reason,
        interval=decided.interval,
        gate=loaded.gate.content(),
        must_pass=dict(measured.judged.failed) if loaded.required is not None else None,
    )


def _by_class(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: dict(of_class) for name, of_class in values.items()}


def _slices(loaded: Loaded, candidate: Evaluation, entries: Sequence[IndexEntry]) -> dict[str, dict[str, float]]:
    """What the candidate has on the slices that were asked for, with a notice of what has none."""
    if not loaded.sliced:
        return {}
    kept = {entry.file_name for entry in entries}
    found = [
        replace(each, values={name: values for name, values in each.values.items() if name in kept})
        for each in loaded.sliced
    ]
    for each in found:
        if not each.slices():
            notice(f"evaluate: {nothing_has(each.field, loaded.split)}")
        elif more := each.left_out():
            notice(
                f"evaluate: {printable(str(each.field))} has {more:,} more values than the {VALUES} commonest, which alone are slices."
            )
    if len(candidate.files) != candidate.images or candidate.resampled is None:
        notice(
            f"evaluate: the trainer {loaded.trainer.name} measures no samples of images, so slices have counts alone."
        )
    names = {entry.path: entry.file_name for entry in entries}
    return measured_slices(found, candidate, names, loaded.gate.primary_metric)


def _measured(context: Context, arguments: Arguments) -> Resolution[Loaded]:
    """Resolves a model that is only measured: no gate and no champion, and its training's digest stands for it in the key."""
    if arguments.training or arguments.gate or arguments.model_name or arguments.costs:
        raise InvalidConfig("--model is only measured: leave out --training, --model-name, --gate and --costs.")
    if not arguments.converted:
        raise InvalidConfig("evaluate needs --converted beside --model: the convert receipt of the snapshot.")
    snapshot = receipts.load(arguments.snapshot, "snapshot", context.workspace)
    converted = converted_of(arguments.converted, snapshot, context.workspace)
    split, fields, taken = parse_split(arguments.split_name), parse_slices(arguments.slices), Snapshot(snapshot)
    tile = parse_tile(arguments.tile)
    check_tiled(tile, taken.task)
    model = found(arguments.model or "", taken.task, arguments.settings, context.workspace)
    check_fits(model, taken)
    primary, mode = (str(model.config.get(name) or "") for name in ("primary_metric", "primary_metric_mode"))
    gate = resolve_gate(None, primary, mode or "max", model.trainer.metrics.get(taken.task, ()))
    sliced = _sliced(taken, fields, split) if fields else []
    return Resolution(
        inputs={
            "model": model.reference,
            "snapshot": snapshot.reference,
            "converted": converted.reference,
        },
        parameters={
            "split": Parameter(split, "argument" if arguments.split_name else "default"),
            "trainer": Parameter([model.trainer.name, model.trainer.logic_version], "model"),
            "config": Parameter(model.config, "model"),
            **({"tile": Parameter(tile, "argument")} if tile is not None else {}),
            **({"slices": Parameter([*map(str, fields), digest(sliced)], "argument")} if fields else {}),
        },
        loaded=Loaded(
            Candidate(model.reference.digest, converted, model.fetch, label=model.label),
            taken,
            model.trainer,
            model.config,
            gate,
            sliced=sliced,
            split=split,
            tile=tile,
        ),
        run_scalars={"model": model.label, "split": split, **({"tile": tile} if tile is not None else {})},
    )


def _sliced(snapshot: Snapshot, fields: Sequence[Field], split: str) -> list[Sliced]:
    """The values of fields on the images of the split."""
    table = snapshot.table.filter(pa.array(snapshot.in_split(split)))
    return sliced(snapshot.annotations, table["file_name"].to_pylist(), fields)


def _reference(champion: Version | None) -> InputReference:
    if champion is None:
        return InputReference(None, NO_CHAMPION)
    return InputReference(champion.training_receipt, champion.identity)


def _left_out(
    snapshot: Snapshot, converted: Converted, entries: list[IndexEntry], split: str = SPLIT
) -> dict[str, str]:
    """The images of the split that are not in the converted dataset, with the codes of what validate says of them."""
    kept = {entry.file_name for entry in entries}
    missing = sorted(row.file_name for row in snapshot.rows if split in row.splits and row.file_name not in kept)
    if not missing:
        return {}
    report = validation.read(receipts.load(converted.result.receipt.inputs["report"].receipt or "", "validate"))
    codes: dict[str, dict[str, None]] = {}
    for finding in report.findings:
        if finding.file_name is not None:
            codes.setdefault(finding.file_name, {})[finding.code] = None
    return {name: ", ".join(codes.get(name, ())) or "left out by convert" for name in missing}


def _beside(converted: Converted, workspace: Prefix) -> tuple[dict[str, str], dict[str, bytes]]:
    """The link to the page of the dataset's check, and for MLflow that page with a link back; empty where it is gone."""
    with contextlib.suppress(VisionloopError):
        checked = converted.result.input("report", "validate")
        link = reports.relative(checked.output_uri("page"), workspace.uri)
        page = reports.linked(checked.read("page"), {reports.LINKS["evaluate"]: "evaluate.html"})
        return {reports.LINKS["validate"]: link} if link else {}, {"reports/validate.html": page}
    return {}, {}


def _operating_point(
    loaded: Loaded, classes: Sequence[str], checkpoint: Path, converted: Converted, work: Path, context: Context
) -> operating.OperatingPoint | None:
    """The model's operating point, with a notice where val decides none although it was asked for; None for one that is only measured."""
    if loaded.candidate.label:
        return None
    if loaded.costs is None:
        return operating.default_point(classes)
    measured_by = loaded.trainer, checkpoint, classes, loaded.snapshot, converted
    point = operating.choose(loaded.costs, *measured_by, work / "operating", context.alive)
    if point.not_chosen:
        notice(
            f"evaluate: no operating point is chosen for {listed(list(point.not_chosen))}, because the split {operating.SPLIT} "
            f"has no object of these classes; {operating.DEFAULT} counts there."
        )
    return point


def _judged(
    loaded: Loaded,
    point: operating.OperatingPoint | None,
    classes: Sequence[str],
    checkpoint: Path,
    entries: Sequence[IndexEntry],
    view: Path,
    context: Context,
) -> Judged:
    """What became of the images on which the model must be right."""
    if loaded.required is None or point is None:
        return Judged()
    wanted = set(loaded.required.images)
    shown = [entry for entry in entries if entry.file_name in wanted]
    pictures = (decode((view / entry.path).read_bytes()) for entry in shown)
    asked, predicted = PredictionSettings(confidence=min(point.confidence.values())), {}
    for entry, seen_there in zip(shown, loaded.trainer.predictor(checkpoint).predict(pictures, asked), strict=True):
        predicted[entry.file_name] = seen_there
        context.alive()
    truth = Truth(loaded.snapshot.annotations, classes, loaded.required.images)
    return judge(loaded.required, truth, predicted, point, classes)


def _examples(
    loaded: Loaded, classes: Sequence[str], checkpoint: Path, entries: list[IndexEntry], view: Path, context: Context
) -> tuple[Examples, Latency]:
    """Predicts on the split for COCO's figures, the kinds of mistakes and the pictures; and how long that takes for an image."""
    shown = entries[:LIMIT]
    examples = Examples(loaded.snapshot.annotations, classes, [entry.file_name for entry in shown])
    paths = [view / entry.path for entry in shown]
    predictor: Predictor = loaded.trainer.predictor(checkpoint)
    if loaded.tile is not None:
        predictor = TiledPredictor(predictor, loaded.tile)
    pictures = (decode(path.read_bytes()) for path in paths)
    for entry, path, predicted in zip(shown, paths, predictor.predict(pictures, examples.settings), strict=True):
        examples.add(entry.file_name, path, predicted)
        context.alive()
    few = [decode(path.read_bytes()) for path in paths[:PICTURES]]
    batch = int(loaded.config.get("batch") or 1)
    return examples, measure(predictor, few, batch, computing_device, context.alive)


STAGE: Stage[Arguments, Loaded] = EvaluateStage()
