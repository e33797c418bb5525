"""Checks of a training: each runs in a process of its own, as the train stage runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from visionloop.core.errors import Defect, Killed, OutOfMemory, Transient
from visionloop.training.conformance import samples
from visionloop.training.conformance.outcomes import Broken, Checks, NotChecked, require
from visionloop.training.conformance.subject import SMALLER, Run, Subject
from visionloop.training.measurement import OBJECT_METRICS, PREFIXES, WITHIN

CHECKS: Checks[Subject] = Checks()


@CHECKS.add
def channel(subject: Subject) -> None:
    """Whatever the trainer prints or closes, its messages reach the stage."""
    error = subject.whole.error
    silent = isinstance(error, Defect) and error.__cause__ is None
    require(
        not silent, "The training ended without a word: leave file descriptors alone that the trainer did not open."
    )


@CHECKS.add
def training(subject: Subject) -> None:
    """A training ends well, and its files exist."""
    run, epochs = subject.whole, int(str(subject.config.values["epochs"]))
    if run.error is not None:
        raise Broken(f"The training ended with {run.error.exit_code}: {run.error.sentence}{_cause(run)}")
    done = run.result
    for name, path in (("best", done.best), ("last", done.last)):
        require(
            Path(path).is_file() and Path(path).stat().st_size,
            f"{name} is {path}, which is not a file with content: write it.",
        )
    missing = [path for path in done.plots if not Path(path).is_file()]
    require(not missing, f"plots names {', '.join(missing)}, which is not there: name only what was drawn.")
    require(done.epochs == epochs, f"epochs is {done.epochs}, and {epochs} were asked for: train them all.")
    require(1 <= done.best_epoch <= done.epochs, f"best_epoch is {done.best_epoch}: give one from 1 to {done.epochs}.")


@CHECKS.add
def history(subject: Subject) -> None:
    """The history has an entry for each epoch, with finite values under the names of docs/contract.md."""
    done = subject.trained.result
    numbers = [entry.get("epoch") for entry in done.history]
    require(
        numbers == list(range(1, done.epochs + 1)),
        f"history has the epochs {numbers}: give an entry for each, in order.",
    )
    for entry, report in zip(done.history, subject.trained.epochs, strict=False):
        require(
            not report.left_out,
            f"epoch {report.epoch} gives no finite number for {', '.join(report.left_out)}: give one, or leave it out.",
        )
        for part, reported in (("train_metrics", report.train_metrics), ("val_metrics", report.val_metrics)):
            values = entry.get(part, {})
            require(
                values == reported,
                f"{part} of epoch {report.epoch} in history are not those that were reported: give the same.",
            )
            check_values(values, subject.task, f"{part} of epoch {report.epoch}")
    primary = str(subject.config.values["primary_metric"])
    unmeasured = [entry["epoch"] for entry in done.history if primary not in entry["val_metrics"]]
    require(
        not unmeasured, f"val_metrics of epoch {unmeasured} lacks {primary}, the primary metric: measure it on val."
    )


@CHECKS.add
def images(subject: Subject) -> None:
    """The images that it reports for train and val are those of the dataset."""
    reported = subject.trained.images
    for split in ("train", "val"):
        require(
            split in reported, f"It does not report the images of {split}: call listener.images before the first epoch."
        )
        used, existing = set(reported[split]), samples.names(subject.task, split)
        require(
            used == existing and len(reported[split]) == len(used),
            f"Of {split} it reports {len(reported[split])} images, and the dataset has {len(existing)} "
            f"({_some(used ^ existing)}): report each file that it trains on, once.",
        )


@CHECKS.add
def epochs(subject: Subject) -> None:
    """Each epoch is reported once, in order, with a checkpoint that is there and stays as it is."""
    run = subject.trained
    numbers = [report.epoch for report in run.epochs]
    require(
        numbers == list(range(1, run.result.epochs + 1)),
        f"The epochs {numbers} were reported: report each once, in order.",
    )
    missing = [number for number in numbers if number not in run.checkpoints]
    require(not missing, f"The checkpoint of epoch {missing} was not there when it was reported: write it before.")
    require(
        not run.changed,
        f"The checkpoint of epoch {run.changed} was changed after it was reported: write each into a new file, or all into one.",
    )
    for report in run.epochs:
        require(
            1 <= report.best_epoch <= report.epoch,
            f"best_epoch is {report.best_epoch} in epoch {report.epoch}: give one from 1 on.",
        )
        require(
            report.best_value is not None,
            f"best_value is not finite in epoch {report.epoch}: give a number.",
        )
    require(
        run.batches,
        "It reported no batch: call listener.batch after each, or the stage takes it for dead after 5 minutes.",
    )


@CHECKS.add
def determinism(subject: Subject) -> None:
    """An equal training gives equal bytes."""
    whole = subject.trained
    if subject.killed.checkpoints and _equal(whole, subject.resumed):
        return  # each epoch was trained twice, in two processes
    different = _differing(whole, subject.again)
    require(
        not different,
        f"A second training gives another {different}: seed all random numbers, and write no date, path or host into the files.",
    )


@CHECKS.add
def resume(subject: Subject) -> None:
    """A training that was killed after an epoch goes on from its checkpoint to equal bytes."""
    whole, killed = subject.trained, subject.killed
    require(
        isinstance(killed.error, Killed), "The training that was killed ended otherwise: it must not catch signals."
    )
    resumed = subject.resumed
    require(resumed.error is None, f"Resumed, the training ended with: {resumed.error}")
    numbers, rest = [report.epoch for report in resumed.epochs], list(range(2, whole.result.epochs + 1))
    require(
        numbers == rest,
        f"Resumed after epoch 1 it reported the epochs {numbers}, not {rest}: go on from job.checkpoint.",
    )
    different = _differing(whole, resumed)
    if different and _differing(whole, subject.again):
        raise NotChecked("Not checked: two trainings that nothing disturbed differ already.")
    require(
        not different,
        f"Killed after epoch 1 and resumed, the training gives another {different}: keep in the checkpoint all that the next epoch "
        "depends on (optimizer, averages, random numbers, history).",
    )


@CHECKS.add
def finalise(subject: Subject) -> None:
    """A checkpoint of the last epoch is only finalised, to equal bytes."""
    whole, finalised = subject.trained, subject.finalised
    require(
        finalised.error is None, f"With the checkpoint of the last epoch the training ended with: {finalised.error}"
    )
    numbers = [report.epoch for report in finalised.epochs]
    require(
        not numbers, f"With the checkpoint of the last epoch it trained the epochs {numbers}: only write the result."
    )
    different = _differing(whole, finalised)
    require(
        not different,
        f"From the checkpoint of the last epoch it writes another {different}: make the result from the checkpoint alone.",
    )


@CHECKS.add
def smaller_batch(subject: Subject) -> str:
    """With a smaller batch than the configured one a training ends well, and says what it used."""
    _, smaller = subject.trained, subject.smaller
    require(
        smaller.error is None, f"With half the batch (and a process that loads images) it ended with: {smaller.error}"
    )
    done = smaller.result
    require(
        done.batch == SMALLER,
        f"It was given a batch of {SMALLER}, and says that it used {done.batch}: use job.batch, and say so.",
    )
    before, after = max(subject.whole.batches), max(smaller.batches, default=0)
    require(
        after > before,
        f"With half the batch it reports {after} batches an epoch, as with the whole one ({before}): use job.batch.",
    )
    return f"With half the batch it ended well, in {after} batches an epoch in place of {before}. Not checked: that gradients add up to the whole batch's."


@CHECKS.add
def out_of_memory(subject: Subject) -> str:
    """Memory that runs out while it trains ends with OutOfMemory."""
    error = subject.starved.error
    if error is None:
        raise Broken("An error of memory was raised while it trained, and it ended well: raise OutOfMemory.")
    if isinstance(error, Transient) and "memory" in error.sentence:
        return "MemoryError is let through, which the stage tries again. Not checked: the memory of a GPU, for it imports no torch."
    require(
        isinstance(error, OutOfMemory),
        f"torch's error of memory ended the training with {error.exit_code} ({error.sentence}): raise OutOfMemory, so that the batch is halved.",
    )
    return "torch's error of memory, raised in its report of a batch, ended with OutOfMemory. Not checked: the memory of a real GPU."


@CHECKS.add
def children(subject: Subject) -> None:
    """No process outlives the training that started it."""
    _check_survivors(subject.whole, "at its end")
    if subject.killed.checkpoints:
        _check_survivors(subject.smaller, "which was resumed with a process that loads images")


def check_values(values: Mapping[str, float], task: str, what: str) -> None:
    """Raises Broken for a metric under another name than docs/contract.md's, or without a finite value."""
    for name, value in values.items():
        require(
            name in allowed(task) or "loss" in name or name == "lr",
            f"{what} has {name}, which is not a name of {task}: rename it (docs/tasks.md).",
        )
        require(
            isinstance(value, int | float) and math.isfinite(value),
            f"{name} of {what} is {value}: give a number, or leave it out.",
        )


def allowed(task: str) -> frozenset[str]:
    """The names of a task's metrics."""
    if task == "classification":
        return frozenset(WITHIN)
    return frozenset(prefix + name for prefix in PREFIXES[task] for name in OBJECT_METRICS)


def _check_survivors(run: Run, when: str) -> None:
    require(
        not run.survivors, f"{_some(run.survivors)} goes on after the training, {when}: end what the trainer started."
    )


def _equal(first: Run, second: Run) -> bool:
    return second.done is not None and not _differing(first, second)


def _differing(first: Run, second: Run) -> str:
    """Which of the results of two trainings differ."""
    if second.done is None:
        raise Broken(f"The training ended with: {second.error}")
    expected, actual = first.result, second.done
    pairs = zip(("best", "last"), first.digests(), second.digests(), strict=True)
    names = [name for name, before, after in pairs if before != after]
    names += [name for name in ("history", "best_epoch", "epochs") if getattr(expected, name) != getattr(actual, name)]
    return " and ".join(names)


def _cause(run: Run) -> str:
    """The last line of the traceback of a defect."""
    cause = run.error.__cause__ if run.error else None
    return f" ({str(cause).strip().splitlines()[-1]})" if cause and str(cause).strip() else ""


def _some(names: object) -> str:
    listed = sorted(map(str, names))  # type: ignore[call-overload]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"{', '.join(listed[:3])}{more}"
