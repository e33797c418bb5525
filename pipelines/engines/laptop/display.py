"""What a person sees of a local run: a line for each stage and epoch, and on a terminal a bar for the stage that works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from visionloop.core import texts
from visionloop.pipelines.console import plain
from visionloop.pipelines.sizes import size_text
from visionloop.pipelines.terminal import redraws
from visionloop.pipelines.warned import warnings_text

#: The validation metrics that a line for an epoch shows, as far as the task has them.
SHOWN = ("mAP50-95", "mAP50", "accuracy_top1")


def epoch_text(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """An epoch for people: its number, the loss and the metrics of SHOWN."""
    parts = [f"loss {metrics['loss']:.3f}"] if "loss" in metrics else []
    parts += [f"{name} {metrics[name]:.3f}" for name in SHOWN if name in metrics]
    return f"epoch {epoch}/{epochs}  {'  '.join(parts)}".rstrip()


#: Where nothing can be redrawn a line says how far a stage is, after at least so many seconds each.
LINE_SECONDS = 30


def listed_text(number: int, size: int, before: int) -> str:
    """How many objects are listed, for people: "listed 12,000 of about 40,000, 2.4 GB"."""
    total = f" of about {before:,}" if before >= number else " objects"
    return f"listed {number:,}{total}, {size_text(size)}"


def done_text(done: int, total: int, unit: str) -> str:
    """How much is done, for people: "412 of 5,000 images"."""
    return f"{done:,} of {total:,} {unit}"


class _TimeLeft(ProgressColumn):
    """How long the rest takes at the speed of the last half minute; nothing where that is unknown."""

    def render(self, task: Task) -> Text:
        """The time left as hours, minutes and seconds."""
        left = task.time_remaining
        return Text(f"{timedelta(seconds=int(left))} left" if left else "")


@dataclass
class _Work:
    """What a stage does: its unit, when it was first seen and how much was done then, and when a line last said so."""

    unit: str
    began: float
    first: float
    said: float


class Display:
    """Turns live events into lines, and on a terminal shows the stage that works. Everything goes to stderr: stdout belongs to the result.

    Attributes:
        bar: The bar of the stage that works; None between stages, and where nothing can be redrawn.
    """

    def __init__(self, stages: tuple[str, ...], console: Console | None = None) -> None:
        """``stages`` in the order of the pipeline; they set the width of the names' column."""
        self.console = console or plain(stderr=True)
        self._width = max(map(len, stages))
        self.bar: Progress | None = None
        self._task: Any = None
        self._work: dict[str, _Work] = {}
        self._failed = False
        self._last_epoch: dict[str, int] = {}
        self._printed: set[tuple[str, str]] = set()

    def event(self, event: Mapping[str, Any]) -> None:
        """Shows one event."""
        match event.get("kind"):
            case "stage":
                self._stage(event)
            case "batch":
                epochs, batches = int(event["epochs"]), max(1, int(event["batches"]))
                done = int(event["epoch"]) - 1 + min(1.0, int(event["batch"]) / batches)
                self._works(str(event["stage"]), f"epoch {event['epoch']}/{epochs}", done, epochs)
            case "progress":
                done, total, unit = int(event["done"]), int(event["total"]), str(event["unit"])
                text = done_text(done, total, unit)
                if whole := int(event.get("total_bytes", 0)):
                    text += f", {size_text(int(event['bytes']))} of {size_text(whole)}"
                self._progress(str(event["stage"]), unit, text, done, total)
            case "listing":
                done, before = int(event["done"]), int(event["before"])
                text = listed_text(done, int(event["bytes"]), before)
                self._progress(str(event["stage"]), "objects", text, done, max(done, before))
            case "epoch":
                self._epoch(event)
            case "notice":
                self._line(str(event["stage"]), f"note: {event['text']}", once=True)
            case "follow":
                self._line(str(event["stage"]), f"run {event['run']} computes the same already; following it")
            case "retry":
                self._line(
                    str(event["stage"]),
                    f"{event['sentence']} Trying again ({event['attempt']} of {event['attempts']}).",
                )
            case _:
                pass

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _stage(self, event: Mapping[str, Any]) -> None:
        stage = str(event["stage"])
        match event["state"]:
            case "running":
                self._works(stage, "", 0, None)
                if not redraws(self.console):
                    self._line(stage, "…", once=True)
            case "succeeded":
                self.close()
                self._line(stage, "reused" if event["reused"] else f"done in {event['seconds']:g} s", mark="✓")
                if text := warnings_text(event.get("warnings") or {}, event.get("report")):
                    self._line(stage, text, once=True)
            case "failed":
                self.close()
                # The first failure's sentence is the command's last line.
                self._line(stage, str(event["sentence"]) if self._failed else "failed", mark="✗")
                self._failed = True

    def _progress(self, stage: str, unit: str, text: str, done: int, total: int) -> None:
        """How far a stage is: in its bar, or where nothing can be redrawn in a line now and then; a listing without a total with its speed."""
        now = self.console.get_time()
        work = self._work.get(stage)
        if work is None or work.unit != unit:
            work = self._work[stage] = _Work(unit, now, done, now)
            if self.bar is not None:
                self.bar.reset(self._task)
        speed = (done - work.first) / (now - work.began) if now > work.began else 0.0
        if unit == "objects" and speed >= 1 and total <= done:
            text += f", {speed:,.0f} a second"
        self._works(stage, text, done, total if total > done or unit != "objects" else None)
        if not redraws(self.console) and now - work.said >= LINE_SECONDS:
            work.said = now
            left = f", {timedelta(seconds=int((total - done) / speed))} left" if speed and total > done else ""
            self._line(stage, text + left)

    def _works(self, stage: str, text: str, done: float, total: float | None) -> None:
        """On a terminal: the stage that works, how far it is, and since when; without a total the bar only moves."""
        if not redraws(self.console):
            return
        if self.bar is None:
            self.bar = Progress(
                TextColumn("  {task.description}"),
                BarColumn(24),
                TextColumn("{task.fields[text]}"),
                # On a narrow terminal the bar gives way.
                TimeElapsedColumn(table_column=Column(no_wrap=True)),
                _TimeLeft(table_column=Column(no_wrap=True)),
                console=self.console,
                transient=True,
            )
            self._task = self.bar.add_task("", total=None, text="")
            self.bar.start()
        self.bar.update(
            self._task, completed=done, total=total, description=f"{stage:<{self._width}}", text=text, refresh=False
        )

    def _epoch(self, event: Mapping[str, Any]) -> None:
        stage, epoch = str(event["stage"]), int(event["epoch"])
        if self._last_epoch.get(stage) == epoch:
            return
        self._last_epoch[stage] = epoch
        self._line(stage, epoch_text(epoch, event["epochs"], event["metrics"]))

    def _line(self, stage: str, text: str, *, mark: str = " ", once: bool = False) -> None:
        if once and (stage, text) in self._printed:
            return
        self._printed.add((stage, text))
        # markup off: what comes from data is shown as it is
        self.console.print(texts.outgoing(f"{mark} {stage:<{self._width}}  {text}"), markup=False)
