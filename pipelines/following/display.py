"""Shows a run on an engine: a tree that is updated in place on a terminal, a line for each change anywhere else."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from visionloop.core import texts
from visionloop.pipelines.console import plain
from visionloop.pipelines.following.rows import Row
from visionloop.pipelines.terminal import redraws

_STYLES = {"succeeded": "green", "failed": "red", "running": "bold", "waiting": "yellow"}


class Display:
    """Shows rows as they change. Everything goes to stderr: stdout belongs to the result."""

    def __init__(self, title: str, stages: tuple[str, ...], console: Console | None = None) -> None:
        """``title`` names the run; ``stages`` set the width of the names' column."""
        self.console = console or plain(stderr=True)
        self._title, self._width = title, max(map(len, stages))
        self._rows: tuple[Row, ...] = ()
        self._message: str | None = None
        self._shown: dict[str, tuple[str, str]] = {}
        self._noted: set[str] = set()
        self._failures: dict[str, str] = {}
        # The tree's times are refreshed four times a second, without a change.
        self._live = Live(get_renderable=self._tree, console=self.console, refresh_per_second=4, transient=False)
        if redraws(self.console):
            self._live.start()
        else:
            self._print(title)

    def show(self, rows: tuple[Row, ...], message: str | None = None) -> None:
        """Shows the state of the run; ``message`` is the engine's message about the whole run."""
        self._failures = {row.stage: row.text for row in rows if row.state == "failed"}
        # The sentence of the stage that ended the run is the command's last line, and stands nowhere else.
        rows = tuple(replace(row, text="failed") if row.state == "failed" else row for row in rows)
        self._rows, self._message = rows, message
        for row in rows:
            for text in row.notices:
                self.note(f"{row.stage}: {text}")
        if redraws(self.console):
            return
        if message:
            self.note(message)
        for row in rows:
            before, current = self._shown.get(row.stage), (row.state, row.text)
            # The record reports a stage's end first, and the engine later, with another time.
            ended_before = before is not None and before[0] == row.state == "succeeded"
            if row.state != "pending" and before != current and not ended_before:
                self._shown[row.stage] = current
                self._print(self._line(row))

    def note(self, text: str) -> None:
        """Prints a text once, above the tree."""
        if text not in self._noted:
            self._noted.add(text)
            self._print(f"note: {text}")

    def tell_failures(self, raised: str) -> None:
        """Prints why other stages failed than the one whose sentence ``raised`` ends the command."""
        for stage, text in self._failures.items():
            if text not in raised:
                self.note(f"{stage}: {text}")

    def close(self) -> None:
        """Stops updating; the tree stays on the screen."""
        if self._live.is_started:
            self._live.stop()

    def _print(self, text: str) -> None:
        # markup off: what comes from data is shown as it is
        self.console.print(texts.outgoing(text), markup=False)

    def _line(self, row: Row) -> str:
        return f"{row.mark} {row.stage:<{self._width}}  {row.text or '…'}".rstrip()

    def _tree(self) -> RenderableType:
        tree = Tree(Text(texts.outgoing(self._title), style="bold"), guide_style="dim")
        for row in self._rows:
            line = Text(f"{row.mark} ", style=_STYLES.get(row.state, "dim"))
            line.append(f"{row.stage:<{self._width}}", style="" if row.state != "pending" else "dim")
            line.append(f"  {texts.outgoing(row.text)}", style="" if row.state != "failed" else "red")
            if elapsed := row.elapsed():
                line.append(f"  {elapsed}", style="dim")
            tree.add(line)
        return Group(tree, Text(texts.outgoing(self._message), style="yellow")) if self._message else tree
