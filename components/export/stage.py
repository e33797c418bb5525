"""The export stage."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from visionloop.components.convert.converted import Converted, IndexEntry
from visionloop.components.evaluate import operating
from visionloop.components.evaluate.examples import LIMIT
from visionloop.components.evaluate.result import EvaluationResult
from visionloop.components.evaluate.result import read as read_evaluation
from visionloop.components.evaluate.scenes import Scene, scenes_of
from visionloop.components.export import child, precision
from visionloop.components.export.formats import CHOICES, PROGRAM, PROGRAM_FILE, Wanted, exporter, parse_exports
from visionloop.components.export.making import Described, check_packages, tolerance
from visionloop.components.export.result import FOUND, LIST, ExportResult, Listed, encode, read, read_one
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.core.errors import InvalidConfig, Killed
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import Parameter, Result
from visionloop.core.running import publish
from visionloop.core.runs import StageState, now
from visionloop.core.shards import EXPORT
from visionloop.core.stage import Attempt, Computed, Context, Resolution, Stage, argument, key_of
from visionloop.data.images import ImageCache
from visionloop.training import catalog
from visionloop.training.environment import child_environment, trainer_variables
from visionloop.training.trainers import Trainer

#: The parameter of a list: its exports. That of one export is `EXPORT`.
EXPORTS = "exports"

#: The parameter that counts how often a list was made: its exports may be gone, or damaged.
AGAIN = "again"

#: The most images that an export is run on, the first by file name: those that evaluate's COCO figures are of.
MOST_IMAGES = LIMIT


@dataclass(frozen=True)
class Arguments:
    """The arguments of export."""

    evaluation: str = argument("URI of the evaluate receipt.")
    export: str = argument(
        f"The formats, separated by commas, each with its precision or without: {', '.join(CHOICES)}."
    )


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` loaded."""

    training: Result
    converted: Converted
    snapshot: Snapshot
    trainer: Trainer
    described: Described
    split: str
    exports: tuple[Wanted, ...]


class ExportStage:
    """Makes a list of exports, each of them a result with key and receipt of its own; its own receipt names these."""

    name = "export"
    logic_version = 2
    policy = POLICIES["export"]
    arguments = Arguments
    description = "Writes a model in other formats, and accepts what finds the same on the same images."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Refuses a format that the trainer does not write; a list whose exports are gone takes the next key."""
        exports = parse_exports(arguments.export)
        if not exports:
            raise InvalidConfig("--export is empty; name a format, such as onnx.")
        evaluation = receipts.load(arguments.evaluation, "evaluate", context.workspace)
        result = read_evaluation(evaluation)
        if result.verdict not in ("promote", "keep"):
            raise InvalidConfig(
                f"{arguments.evaluation}: the evaluation's verdict is {result.verdict}, and only what may be registered is exported; "
                "give the evaluation of such a training."
            )
        training = evaluation.input("training", "train")
        snapshot = evaluation.input("snapshot", "snapshot")
        converted = training.input("converted", "convert")
        trainer = catalog.trainer(str(training.receipt.parameters["trainer"].value))
        for wanted in exports:
            exporter(trainer, wanted, "--export")
        described = _described(result, evaluation, training, converted)
        resolution = Resolution(
            inputs={
                "training": training.reference,
                "snapshot": snapshot.reference,
                "converted": converted.reference,
            },
            parameters={
                EXPORTS: Parameter([wanted.text for wanted in exports], "argument"),
                "trainer": Parameter(trainer.name, "training"),
                "imgsz": Parameter(training.receipt.parameters["imgsz"].value, "training"),
                "split": Parameter(result.split, "evaluation"),
                "operating_point": Parameter(described.operating_point, "evaluation"),
                "images": Parameter(MOST_IMAGES, "default"),
            },
            loaded=Loaded(
                training, Converted(converted), Snapshot(snapshot), trainer, described, result.split, exports
            ),
        )
        self._see_exports(context, resolution)
        return resolution

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Makes each export that is not there yet, and names them all."""
        inputs = _Inputs(context, resolution.loaded, attempt.work)
        listed: list[Listed] = []
        left = deque(resolution.loaded.exports)
        while left:
            wanted = left.popleft()
            one = self._one(context, resolution, wanted, inputs)
            listed.append(Listed(one.receipt.key, read_one(one)))
            other = wanted.fallback
            if (
                other
                and not listed[-1].result.accepted
                and other not in (*left, *(each.result.wanted for each in listed))
            ):
                notice(f"export: {wanted.text} is refused, so {other.text} is made in its place.")
                left.append(other)
        attempt.write(LIST, "exports.json", encode(listed), result=True)
        said = {each.result.wanted.text: f"refused: {each.result.reason}" for each in listed}
        said |= {each.result.wanted.text: "accepted" for each in listed if each.result.accepted}
        return Computed(scalars={EXPORTS: said})

    def _see_exports(self, context: Context, resolution: Resolution[Loaded]) -> None:
        """Believes an earlier list only while the exports that it names are there and whole."""
        while (existing := receipts.look(context.workspace, self.name, key_of(self, resolution))) is not None:
            if context.force or not existing.intact() or self._are_there(context, existing):
                return
            again = resolution.parameters.get(AGAIN)
            resolution.parameters[AGAIN] = Parameter(1 + (again.value if again else 1), "an export was gone")

    def _are_there(self, context: Context, existing: Result) -> bool:
        keys = (listed.key for listed in read(existing))
        ones = (receipts.look(context.workspace, self.name, key) for key in keys)
        return all(one is not None and one.intact() for one in ones)

    def _one(self, context: Context, resolution: Resolution[Loaded], wanted: Wanted, inputs: _Inputs) -> Result:
        """The receipt of one export: an earlier one, or a new one."""
        kept = {name: entry for name, entry in resolution.parameters.items() if name not in (EXPORTS, AGAIN)}
        one = Resolution[Loaded](
            inputs=resolution.inputs,
            parameters={
                **kept,
                EXPORT: Parameter(wanted.text, "argument"),
                "tolerance": Parameter(tolerance(wanted.precision), "default"),
                **({"calibration": Parameter(precision.MOST, "default")} if wanted.precision == "int8" else {}),
            },
            loaded=resolution.loaded,
        )
        key = key_of(self, one)
        state = StageState(stage=self.name, shard=wanted.folder, key=key, state="running", started_at=now())
        existing = receipts.look(context.workspace, self.name, key)
        if existing is not None and not context.force and existing.intact():
            state.state, state.reused, state.receipt = "succeeded", True, existing.uri
            context.run.write_state(state)
            return existing
        # In the record: cleanup removes what a lost process leaves of this attempt.
        attempt = Attempt(
            context.workspace.child(f"{self.name}/{key}"), uuid.uuid4().hex[:12], inputs.work, context.alive
        )
        state.attempt, state.attempts = 1, [attempt.name]
        context.run.write_state(state)
        began = time.monotonic()
        computed = self._made(context, wanted, inputs, attempt)
        seconds = time.monotonic() - began
        etag = existing.etag if existing is not None else None
        result = publish(self, context, one, attempt, computed, seconds, key, etag)
        state.state, state.reused, state.receipt, state.seconds = "succeeded", False, result.uri, round(seconds, 1)
        context.run.write_state(state)
        return result

    def _made(self, context: Context, wanted: Wanted, inputs: _Inputs, attempt: Attempt) -> Computed:
        """Makes an export. What crashes is tried again by the next attempt of the stage; the last one writes it as refused."""
        loaded, timings = inputs.loaded, dict[str, float]()
        check_packages(wanted.format, "export")
        calibration = inputs.calibration if wanted.precision == "int8" else []
        if wanted.precision == "int8" and not calibration:
            few = f"train has fewer than the {precision.LEAST} images that int8 is calibrated on"
            return _written(attempt, _refused(wanted, few), timings)
        work = inputs.work / wanted.folder
        (work / "export").mkdir(parents=True)
        job = child.Job(
            trainer=loaded.trainer.name,
            checkpoint=str(inputs.checkpoint),
            format=wanted.format,
            precision=wanted.precision,
            described=loaded.described,
            pictures=inputs.pictures,
            scenes=inputs.scenes,
            calibration=calibration,
            folder=str(work / "export"),
            run=context.run.name,
            trace_id=context.trace_id,
        )
        variables = child_environment(os.environ, trainer_variables(loaded.trainer))
        try:
            files, result, speed = child.run(
                # Not on a GPU: the stage has none, and where the file is used there may be none.
                job,
                work,
                variables | {"CUDA_VISIBLE_DEVICES": ""},
                context.advanced,
            )
        except child.Crashed as crash:
            if crash.again and context.run.state(self.name).attempt < self.policy.attempts:
                raise Killed(f"The export {wanted.text} failed: {crash}; it is tried again.") from crash
            result = _refused(wanted, f"the export failed: {crash}")
        else:
            timings = {
                "latency_median_seconds": round(speed.latency_ms / 1000, 6),
                "model_latency_median_seconds": round(speed.model_latency_ms / 1000, 6),
            }
            if result.accepted:
                names = {**wanted.files(), PROGRAM: PROGRAM_FILE}
                for output, file in files.items():
                    attempt.upload(output, names[output], file, result=output != PROGRAM)
        return _written(attempt, result, timings)


def _refused(wanted: Wanted, reason: str) -> ExportResult:
    """What there is no file of."""
    return ExportResult(format=wanted.format, precision=wanted.precision, accepted=False, reason=reason)


def _written(attempt: Attempt, result: ExportResult, timings: dict[str, float]) -> Computed:
    """Puts what became of an export into its attempt."""
    attempt.write(FOUND, "export.json", result.encode(), result=True)
    return Computed(scalars={"accepted": result.accepted, "reason": result.reason}, timings=timings)


@dataclass(frozen=True)
class _Inputs:
    """What exports are made from, fetched once and only where one has to be made."""

    context: Context
    loaded: Loaded
    work: Path

    @cached_property
    def checkpoint(self) -> Path:
        """The training's best checkpoint; libraries tell a file's kind by its ending."""
        name = Path(self.loaded.training.output("best").path).name
        return self.loaded.training.fetch("best", self.work / name)

    @cached_property
    def entries(self) -> list[IndexEntry]:
        """The images that both are run on."""
        every = (entry for entry in self.loaded.converted.index() if entry.split == self.loaded.split)
        return list(itertools.islice(every, MOST_IMAGES))

    @cached_property
    def pictures(self) -> list[str]:
        """Their files."""
        return self._fetched(self.entries, self.loaded.split, "dataset")

    @cached_property
    def calibration(self) -> list[str]:
        """The files that int8 is calibrated on, of train alone."""
        entries = [entry for entry in self.loaded.converted.index() if entry.split == "train"]
        names = {entry.file_name for entry in entries}
        chosen = set(precision.chosen(self.loaded.snapshot.annotations, sorted(names)))
        return self._fetched([entry for entry in entries if entry.file_name in chosen], "train", "calibration")

    def _fetched(self, entries: Sequence[IndexEntry], split: str, folder: str) -> list[str]:
        """The files of some images of a split."""
        loaded, view = self.loaded, self.work / folder
        others = {entry.file_name for entry in loaded.converted.index()} - {entry.file_name for entry in entries}
        cache, fetched = ImageCache.of_environment(), self.context.fetched
        loaded.converted.view(loaded.snapshot, view, cache, (split,), fetched, without=others, label_files=False)
        return [str(view / path) for path in dict.fromkeys(entry.path for entry in entries)]

    @cached_property
    def scenes(self) -> list[Scene]:
        """What is true of each."""
        names = [entry.file_name for entry in self.entries]
        by_name = scenes_of(self.loaded.snapshot.annotations, self.loaded.described.classes, names, "bbox")
        return [by_name[name] for name in names]


def _described(evaluated: EvaluationResult, evaluation: Result, training: Result, converted: Result) -> Described:
    """What the files say of the model."""
    dataset = Converted(converted)
    point = operating.read(evaluation) or operating.default_point(evaluated.classes)
    return Described(
        task=dataset.task,
        classes=evaluated.classes or list(dataset.classes),
        keypoints=evaluated.keypoints,
        training_digest=evaluated.training,
        checkpoint_sha256=training.output("best").sha256,
        operating_point=dict(point.confidence),
    )


STAGE: Stage[Arguments, Loaded] = ExportStage()
