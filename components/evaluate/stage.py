"""The evaluate stage."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from visionloop.components.convert.converted import Converted, IndexEntry
from visionloop.components.evaluate import operating
from visionloop.components.evaluate.calibration import calibration
from visionloop.components.evaluate.conditions import examine
from visionloop.components.evaluate.costs import Costs, parse_costs
from visionloop.components.evaluate.crowds import crowds_of
from visionloop.components.evaluate.curves import encoded
from visionloop.components.evaluate.examples import LIMIT, Examples
from visionloop.components.evaluate.figures import figures, tables
from visionloop.components.evaluate.gate import MAX_SEEN, Gate, decide, resolve_gate
from visionloop.components.evaluate.interval import interval, with_difference, with_doubt
from visionloop.components.evaluate.kinds import CONFIDENCE
from visionloop.components.evaluate.latency import PICTURES, Latency, measure
from visionloop.components.evaluate.measuring import (
    MEASURING,
    Adapted,
    Candidate,
    adapted,
    check_file,
    check_fits,
    converted_of,
    found,
    parse_split,
    reason_of,
    restricted,
    trained,
)
from visionloop.components.evaluate.must_pass import Judged, MustPass, judge, read_must_pass
from visionloop.components.evaluate.operating import OUTPUT as POINT
from visionloop.components.evaluate.page import Evaluated, render
from visionloop.components.evaluate.result import OUTPUT, EvaluationResult
from visionloop.components.evaluate.roc import curve
from visionloop.components.evaluate.seen import Lineage, lineage_of, seen
from visionloop.components.evaluate.slicing import (
    VALUES,
    Field,
    Sliced,
    digest,
    measured,
    nothing_has,
    parse_slices,
    sliced,
)
from visionloop.components.evaluate.truth import Truth, model_classes, objects_by_class
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.components.validate import report as validation
from visionloop.core import receipts, reports
from visionloop.core.errors import (
    AccessDenied,
    InvalidConfig,
    InvalidDataset,
    InvalidReceipt,
    NotFound,
    OutOfMemory,
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
from visionloop.data.annotations.images import images as images_of
from visionloop.data.annotations.labels import class_index, keypoint_names
from visionloop.data.annotations.split import listed
from visionloop.data.annotations.tables import column
from visionloop.data.decoding import decode
from visionloop.data.sentences import printable
from visionloop.data.view import ImageCrowds, write_crowds
from visionloop.registry import NO_CHAMPION, Registry, Version, package, resolve
from visionloop.registry.versions import EVALUATION
from visionloop.training import catalog
from visionloop.training.devices import computing_device, first_device
from visionloop.training.tracking import attach
from visionloop.training.trainers import Evaluation, PredictionSettings, Trainer

#: The split on which a training is judged.
SPLIT = "test"

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


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` loaded."""

    candidate: Candidate
    snapshot: Snapshot
    trainer: Trainer
    config: dict[str, Any]
    gate: Gate
    registry: Registry | None = None
    champion: Version | None = None
    unavailable: str | None = None
    lineage: Lineage = Lineage()
    sliced: Sequence[Sliced] = ()
    split: str = SPLIT
    costs: Costs | None = None
    required: MustPass | None = None


@dataclass(frozen=True)
class Rival:
    """The champion, as far as it can be compared.

    Attributes:
        evaluation: Its evaluation; None where there is no champion or it can't be compared.
        obstacle: Why an existing champion can't be compared.
        seen: The file names of the split's images that it has learned from, which are not compared.
        candidate: The candidate on what is compared; None where that is all images and classes.
        shared: The classes that both have, where they have others too: these alone are compared.
    """

    evaluation: Evaluation | None = None
    obstacle: str | None = None
    seen: Set[str] = frozenset()
    candidate: Evaluation | None = None
    shared: Sequence[str] | None = None

    @property
    def where(self) -> str:
        """What is compared, in words, where it is not all."""
        parts = []
        if self.shared is not None:
            number = len(self.shared)
            parts.append(f"the {number:,} class{'' if number == 1 else 'es'} that both have")
        if self.seen:
            parts.append("the images that the champion was not trained on")
        return " and ".join(parts)


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
        if champion is not None and not _is_own(champion, training.receipt.digest) and catalog.is_installed(trainer):
            unavailable = _unavailable(champion, registry)
        lineage = Lineage()
        if champion is not None and not _is_own(champion, training.receipt.digest) and not unavailable:
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
        if champion is not None and _is_own(champion, training.receipt.digest) and not context.force:
            resolution.existing = self._promoting(champion, resolution, context.workspace)
        return resolution

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Evaluates candidate and champion, decides, and writes the result and the report."""
        loaded, split = resolution.loaded, resolution.loaded.split
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
        _write_crowds(loaded.snapshot, entries, view, fitted.positions if fitted else None)
        with stdout_to_stderr():
            candidate = _evaluate(
                loaded.trainer,
                loaded.snapshot.task,
                converted.classes,
                checkpoint,
                view,
                loaded.config,
                attempt.work / "candidate",
                context,
                count,
                split,
            )
            rival = self._champion(context, loaded, candidate, converted, view, attempt.work, entries)
            examples, latency = _examples(loaded, candidate.classes, checkpoint, entries, view, context)
            point = _operating_point(loaded, candidate.classes, checkpoint, converted, attempt.work, context)
            judged = _judged(loaded, point, candidate.classes, checkpoint, entries, view, context)
        if candidate.images != count:
            notice(f"evaluate: the trainer measured {candidate.images} of the {count} images of the split {split}.")
        own = _is_own(loaded.champion, loaded.candidate.digest)
        champion, deciding = rival.evaluation, rival.candidate or candidate
        annotations = loaded.snapshot.annotations
        compared = [entry for entry in entries if rival.candidate is None or entry.file_name not in rival.seen]
        conditions = examine(
            loaded.gate,
            deciding,
            None if own else champion,
            {
                name: number
                for name, number in objects_by_class(
                    annotations, [entry.file_name for entry in compared], candidate.classes
                ).items()
                if rival.shared is None or name in rival.shared
            },
            checkpoint.stat().st_size,
            latency.milliseconds,
            context.alive,
        )
        verdict, reason = decide(
            loaded.gate,
            candidate.metrics,
            champion.metrics if champion else None,
            obstacle=rival.obstacle,
            own=own,
            not_measured=candidate.not_measured,
            unmet=(*conditions.unmet, *judged.unmet()),
            compared=rival.candidate.metrics if rival.candidate else None,
            where=rival.where,
        )
        if fitted is not None:
            verdict, reason = "none", reason_of(fitted.shared, converted.classes, candidate.classes)
        reason = with_difference(reason, conditions.difference)
        metric = loaded.gate.primary_metric
        bounds = interval(candidate, metric, context.alive)
        reason = with_doubt(reason, metric, bounds, candidate.images)
        LOGGER.info("verdict %s: %s", verdict, reason)
        coco, sizes = examples.coco.result()
        result = EvaluationResult(
            training=loaded.candidate.digest,
            snapshot=loaded.snapshot.result.receipt.digest,
            champion=_reference(loaded.champion).digest,
            split=split,
            images=candidate.images,
            left_out=left_out,
            classes=list(candidate.classes),
            shared=fitted.shared if fitted else (None if rival.shared is None else list(rival.shared)),
            keypoints=list(_keypoints(loaded.snapshot)),
            metrics=dict(candidate.metrics),
            not_measured=dict(candidate.not_measured),
            per_class={name: dict(values) for name, values in candidate.per_class.items()},
            not_measured_per_class={name: dict(values) for name, values in candidate.not_measured_per_class.items()},
            coco=coco,
            errors=examples.kinds.result() if examples.images else {},
            calibration=calibration(
                candidate.right, candidate.wrong, CONFIDENCE if loaded.snapshot.task != "classification" else 0.0
            ),
            slices=sizes | self._slices(loaded, candidate, entries),
            sliced_images=examples.images,
            champion_metrics=dict(champion.metrics) if champion else None,
            champion_per_class={name: dict(values) for name, values in champion.per_class.items()}
            if champion
            else None,
            seen=len(rival.seen),
            compared_metrics=dict(rival.candidate.metrics) if rival.candidate else None,
            compared_per_class={name: dict(values) for name, values in rival.candidate.per_class.items()}
            if rival.candidate
            else None,
            difference=conditions.difference,
            verdict=verdict,
            reason=reason,
            interval=bounds,
            gate=loaded.gate.content(),
            must_pass=dict(judged.failed) if loaded.required is not None else None,
        )
        attempt.write(OUTPUT, "evaluation.json", result.encode(), result=True)
        if candidate.curves:
            attempt.write("curves", "curves.json", encoded(candidate.curves), result=True)
        if point is not None:
            attempt.write(POINT, "operating_point.json", point.encode(), result=True)
        other = champion if champion is not candidate else None
        objects = objects_by_class(annotations, [entry.file_name for entry in entries], candidate.classes)
        roc = curve(candidate.right, candidate.wrong)
        self._show(
            context,
            resolution,
            attempt,
            converted,
            Evaluated(result, candidate, other, roc, examples, objects, latency, point),
        )
        return Computed(
            scalars={"verdict": verdict, "reason": reason, "images": candidate.images},
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

    def _champion(
        self,
        context: Context,
        loaded: Loaded,
        candidate: Evaluation,
        converted: Converted,
        view: Path,
        work: Path,
        entries: Sequence[IndexEntry],
    ) -> Rival:
        """The champion on the same images, but for those that it has learned from; or why an existing champion can't be compared."""
        champion = loaded.champion
        if champion is None or loaded.registry is None:
            return Rival()
        if _is_own(champion, loaded.candidate.digest):
            return Rival(candidate)
        if loaded.unavailable:
            return Rival(obstacle=_obstacle(champion, loaded.unavailable))
        try:
            uri, description = resolve.describe(champion, loaded.registry)
        except InvalidReceipt as error:
            return Rival(obstacle=_obstacle(champion, error.sentence))
        except AccessDenied as error:
            if champion.training_digest:
                raise  # Visionloop registered it: the keys are wrong, and a person must correct them
            return Rival(obstacle=_obstacle(champion, error.sentence))
        trainer = catalog.trainer(description.trainer)
        # A checkpoint that was altered ends the stage: it must not decide the verdict.
        checkpoint = package.fetch_checkpoint(
            uri, description, work / "champion.pt", champion.checkpoint_sha256, context.workspace
        )
        others = f"{champion.label} has other classes than this model"
        classes, shared = tuple(description.classes), None
        if classes != tuple(candidate.classes):
            both = [name for name in candidate.classes if name in classes and name in converted.classes]
            if loaded.gate.incomparable != "shared" or not both:
                none = ", and none of them in common" if loaded.gate.incomparable == "shared" else ""
                return Rival(obstacle=_obstacle(champion, f"{others}{none}"))
            shared = both
        if description.task != converted.task:
            return Rival(obstacle=_obstacle(champion, f"{champion.label} was trained for {description.task}"))
        if tuple(description.keypoints) != _keypoints(loaded.snapshot):
            return Rival(obstacle=_obstacle(champion, f"{champion.label} has other keypoints than this model"))
        measuring = {name: loaded.config[name] for name in MEASURING if name in loaded.config}
        config = {**description.config, **measuring}
        learned, again, count = self._learned(loaded, champion, entries), None, len(entries)
        if learned and (obstacle := _mostly_seen(loaded.gate, champion, len(learned), count)):
            return Rival(obstacle=_obstacle(champion, obstacle), seen=learned)
        kept = [entry for entry in entries if entry.file_name not in learned]
        named: list[IndexEntry] = list(entries)

        def part(folder: Path, of_model: Sequence[str]) -> list[IndexEntry]:
            """A view of what is compared, with the class numbers of a model."""
            cache = images.ImageCache.of_environment()
            converted.view(loaded.snapshot, folder, cache, (SPLIT,), context.fetched, without=learned)
            left, positions = kept, None
            if shared is not None:
                left, positions = restricted(folder, SPLIT, kept, converted, of_model, shared)
            _write_crowds(loaded.snapshot, left, folder, positions)
            return left

        if learned or shared is not None:
            view = work / "compared"
            left = part(view, candidate.classes)
            named, count = left, len(left)
            ours, own = loaded.trainer, work / "candidate.pt"
            task = loaded.snapshot.task
            again = _evaluate(ours, task, candidate.classes, own, view, loaded.config, work / "again", context, count)
            again = _compared(again, named, shared)
            if loaded.gate.primary_metric not in again.metrics:
                why = again.not_measured.get(loaded.gate.primary_metric, "it is not measured")
                obstacle = f"{why} but for the {len(learned):,} images that {champion.label} was trained on"
                if shared is not None:
                    obstacle = f"{why} on {Rival(seen=learned, shared=shared).where}"
                return Rival(obstacle=_obstacle(champion, obstacle), seen=learned)
        if shared is not None:
            view = work / "compared-champion"
            named = part(view, classes)
        measured_by = trainer, description.task, classes
        evaluation = _evaluate(*measured_by, checkpoint, view, config, work / "champion", context, count)
        if tuple(evaluation.classes) != classes:  # registered before models were described by their own classes
            return Rival(obstacle=_obstacle(champion, others))
        if again is not None:
            evaluation = _compared(evaluation, named, shared)
        return Rival(evaluation, seen=learned, candidate=again, shared=shared)

    @staticmethod
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
        return measured(found, candidate, names, loaded.gate.primary_metric)

    @staticmethod
    def _learned(loaded: Loaded, champion: Version, entries: Sequence[IndexEntry]) -> Set[str]:
        """The measured images that the champion has learned from, with a notice of them and of a lineage that can't be read."""
        if loaded.lineage.gap:
            notice(
                f"evaluate: whether the champion {champion.label} was trained on images of the split {SPLIT} is not known: "
                f"{loaded.lineage.gap}; the comparison stands."
            )
        known = {name for each in loaded.lineage.snapshots for name in seen(Snapshot(each), loaded.snapshot, SPLIT)}
        learned = frozenset(entry.file_name for entry in entries if entry.file_name in known)
        if learned:
            notice(
                f"evaluate: the champion {champion.label} was trained on {len(learned):,} of the {len(entries):,} images of the "
                f"split {SPLIT}: {listed(sorted(learned))}; they are left out of the comparison."
            )
        return learned


def _measured(context: Context, arguments: Arguments) -> Resolution[Loaded]:
    """Resolves a model that is only measured: no gate and no champion, and its training's digest stands for it in the key."""
    if arguments.training or arguments.gate or arguments.model_name or arguments.costs:
        raise InvalidConfig("--model is only measured: leave out --training, --model-name, --gate and --costs.")
    if not arguments.converted:
        raise InvalidConfig("evaluate needs --converted beside --model: the convert receipt of the snapshot.")
    snapshot = receipts.load(arguments.snapshot, "snapshot", context.workspace)
    converted = converted_of(arguments.converted, snapshot, context.workspace)
    split, fields, taken = parse_split(arguments.split_name), parse_slices(arguments.slices), Snapshot(snapshot)
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
        ),
        run_scalars={"model": model.label, "split": split},
    )


def _compared(evaluation: Evaluation, entries: Sequence[IndexEntry], shared: Sequence[str] | None) -> Evaluation:
    """With the images' own names, for in a classification's view their paths have a model's class numbers; and the shared classes alone."""
    names = {entry.path: entry.file_name for entry in entries}
    per_class = {name: of for name, of in evaluation.per_class.items() if shared is None or name in shared}
    return replace(evaluation, files=[names.get(file, file) for file in evaluation.files], per_class=per_class)


def _sliced(snapshot: Snapshot, fields: Sequence[Field], split: str) -> list[Sliced]:
    """The values of fields on the images of the split."""
    table = snapshot.table.filter(pa.array(snapshot.in_split(split)))
    return sliced(snapshot.annotations, table["file_name"].to_pylist(), fields)


def _reference(champion: Version | None) -> InputReference:
    if champion is None:
        return InputReference(None, NO_CHAMPION)
    return InputReference(champion.training_receipt, champion.identity)


def _keypoints(snapshot: Snapshot) -> tuple[str, ...]:
    """The names of the dataset's keypoints; empty for another task than pose."""
    return keypoint_names(snapshot.annotations) or ()


def _is_own(champion: Version | None, digest: str) -> bool:
    """Whether the champion is the candidate itself, by its training's digest."""
    return champion is not None and champion.training_digest == digest


def _unavailable(champion: Version, registry: Registry) -> str | None:
    """Why the champion's trainer can't measure it here; None where it can, or where ``compute`` reports another obstacle."""
    try:
        _, description = resolve.describe(champion, registry)
    except (AccessDenied, InvalidConfig, InvalidReceipt, NotFound):
        return None
    try:
        trainer = catalog.trainer(description.trainer)
    except InvalidConfig as error:
        return error.sentence
    if catalog.is_installed(trainer):
        return None
    # Each trainer has an image of its own, and a team may change from one to another.
    missing = f"it was trained by {trainer.name}, whose library is not installed here"
    return f"{missing} ({catalog.install_command(trainer)})"


def _mostly_seen(gate: Gate, champion: Version, number: int, total: int) -> str | None:
    """Why too few images are left to compare on; None where there are enough."""
    most = MAX_SEEN if gate.max_seen is None else gate.max_seen
    if number < total and number <= most * total:
        return None
    return f"{champion.label} was trained on {number:,} of the {total:,} images of the split {SPLIT}, and the gate's max_seen is {most:g}"


def _obstacle(champion: Version, why: str) -> str:
    notice(f"evaluate: the champion {champion.label} can't be evaluated: {why}")
    return why.rstrip(".")


def _evaluate(
    trainer: Trainer,
    task: str,
    classes: Sequence[str],
    checkpoint: Path,
    view: Path,
    config: Mapping[str, Any],
    work: Path,
    context: Context,
    count: int,
    split: str = SPLIT,
) -> Evaluation:
    """Evaluates one model, halving the batch whenever the GPU's memory runs out; each metric has a value or a reason."""
    batch = int(config.get("batch") or 1)

    def on_batch(done: int, total: int) -> None:
        context.advanced(round(count * done / max(1, total)), count)

    while True:
        # An evaluation computes on one device, even where the training had several.
        used = {**config, "batch": batch, "device": first_device(os.environ.get("DEVICE"))}
        work.mkdir(parents=True, exist_ok=True)
        try:
            evaluation = trainer.evaluate(checkpoint, view, split, used, work, on_batch)
        except OutOfMemory:
            if batch == 1:
                raise
            batch //= 2
            notice(f"evaluate: the GPU's memory ran out; trying again with batch {batch}.")
            continue
        return _complete(evaluation, trainer.metrics.get(task, ()), classes)


def _complete(evaluation: Evaluation, names: Sequence[str], classes: Sequence[str]) -> Evaluation:
    """Leaves out values that are not finite, gives each metric without a value a reason, and the classes if none are named."""

    def reasons(values: Mapping[str, float], stated: Mapping[str, str], wanted: Sequence[str] = ()) -> dict[str, str]:
        lost = {name: "its value is not a finite number" for name, value in values.items() if not math.isfinite(value)}
        missing = {name: "the evaluation does not yield it" for name in wanted if name not in values}
        return missing | lost | dict(stated)

    measured = dict.fromkeys([*evaluation.per_class, *evaluation.not_measured_per_class])
    by_class = {
        name: reasons(evaluation.per_class.get(name, {}), evaluation.not_measured_per_class.get(name, {}))
        for name in measured
    }
    return replace(
        evaluation,
        metrics=_finite(evaluation.metrics),
        per_class={name: _finite(values) for name, values in evaluation.per_class.items()},
        not_measured=reasons(evaluation.metrics, evaluation.not_measured, names),
        not_measured_per_class={name: values for name, values in by_class.items() if values},
        classes=tuple(evaluation.classes or classes),
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


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


def _write_crowds(
    snapshot: Snapshot, entries: Sequence[IndexEntry], folder: Path, positions: Sequence[int | None] | None = None
) -> None:
    """Writes where the images' crowd regions are, for trainers that pass over what is detected there.

    ``positions`` are the model's class numbers by the dataset's, where they are not the same.
    """
    annotations, paths = snapshot.annotations, {entry.file_name: entry.path for entry in entries}
    owners = column(annotations.objects, "image")[np.asarray(annotations.objects["iscrowd"])]
    rows = np.unique(owners)
    # By the dataset's own classes, which a model's are compared with before anything is measured.
    index: Mapping[int, int | None] = class_index(annotations)
    if positions is not None:
        index = {class_id: positions[number] for class_id, number in class_index(annotations).items()}
    regions = (
        ImageCrowds(paths[image.file_name], crowds)
        for image in images_of(annotations, rows)
        if image.file_name in paths and (crowds := crowds_of(image, index))
    )
    write_crowds(folder, regions)


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
    predictor = loaded.trainer.predictor(checkpoint)
    pictures = (decode(path.read_bytes()) for path in paths)
    for entry, path, predicted in zip(shown, paths, predictor.predict(pictures, examples.settings), strict=True):
        examples.add(entry.file_name, path, predicted)
        context.alive()
    few = [decode(path.read_bytes()) for path in paths[:PICTURES]]
    batch = int(loaded.config.get("batch") or 1)
    return examples, measure(predictor, few, batch, computing_device, context.alive)


STAGE: Stage[Arguments, Loaded] = EvaluateStage()
