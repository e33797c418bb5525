"""The champion on the images that the candidate was measured on, as far as the two can be compared."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from visionloop.components.convert.converted import Converted, IndexEntry
from visionloop.components.evaluate.evaluating import evaluate, write_crowd_regions
from visionloop.components.evaluate.gate import MAX_SEEN, Gate
from visionloop.components.evaluate.loaded import SPLIT, Loaded
from visionloop.components.evaluate.measuring import MEASURING, restricted
from visionloop.components.evaluate.seen import seen
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.errors import AccessDenied, InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.logs import notice
from visionloop.core.stage import Context
from visionloop.data import images
from visionloop.data.annotations.labels import keypoint_names
from visionloop.data.annotations.split import listed
from visionloop.registry import Registry, Version, package, resolve
from visionloop.training import catalog
from visionloop.training.trainers import Evaluation


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


def compare(
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
    if is_own(champion, loaded.candidate.digest):
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
    if tuple(description.keypoints) != keypoints_of(loaded.snapshot):
        return Rival(obstacle=_obstacle(champion, f"{champion.label} has other keypoints than this model"))
    measuring = {name: loaded.config[name] for name in MEASURING if name in loaded.config}
    config = {**description.config, **measuring}
    learned, again, count = _learned(loaded, champion, entries), None, len(entries)
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
        write_crowd_regions(loaded.snapshot, left, folder, positions)
        return left

    if learned or shared is not None:
        view = work / "compared"
        left = part(view, candidate.classes)
        named, count = left, len(left)
        ours, own = loaded.trainer, work / "candidate.pt"
        task = loaded.snapshot.task
        again = evaluate(ours, task, candidate.classes, own, view, loaded.config, work / "again", context, count, SPLIT)
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
    evaluation = evaluate(*measured_by, checkpoint, view, config, work / "champion", context, count, SPLIT)
    if tuple(evaluation.classes) != classes:  # registered before models were described by their own classes
        return Rival(obstacle=_obstacle(champion, others))
    if again is not None:
        evaluation = _compared(evaluation, named, shared)
    return Rival(evaluation, seen=learned, candidate=again, shared=shared)


def is_own(champion: Version | None, digest: str) -> bool:
    """Whether the champion is the candidate itself, by its training's digest."""
    return champion is not None and champion.training_digest == digest


def keypoints_of(snapshot: Snapshot) -> tuple[str, ...]:
    """The names of the dataset's keypoints; empty for another task than pose."""
    return keypoint_names(snapshot.annotations) or ()


def why_unavailable(champion: Version, registry: Registry) -> str | None:
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


def _mostly_seen(gate: Gate, champion: Version, number: int, total: int) -> str | None:
    """Why too few images are left to compare on; None where there are enough."""
    most = MAX_SEEN if gate.max_seen is None else gate.max_seen
    if number < total and number <= most * total:
        return None
    return f"{champion.label} was trained on {number:,} of the {total:,} images of the split {SPLIT}, and the gate's max_seen is {most:g}"


def _compared(evaluation: Evaluation, entries: Sequence[IndexEntry], shared: Sequence[str] | None) -> Evaluation:
    """With the images' own names, for in a classification's view their paths have a model's class numbers; and the shared classes alone."""
    names = {entry.path: entry.file_name for entry in entries}
    per_class = {name: of for name, of in evaluation.per_class.items() if shared is None or name in shared}
    return replace(evaluation, files=[names.get(file, file) for file in evaluation.files], per_class=per_class)


def _obstacle(champion: Version, why: str) -> str:
    notice(f"evaluate: the champion {champion.label} can't be evaluated: {why}")
    return why.rstrip(".")
