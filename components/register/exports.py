"""What a run exported, put beside the registered version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visionloop.components.export.result import FOUND, ExportResult, of_key, read
from visionloop.core import receipts
from visionloop.core.errors import InvalidReceipt
from visionloop.core.logs import notice
from visionloop.core.receipts import InputReference, Result
from visionloop.core.stage import Context
from visionloop.core.storage import Prefix, open_prefix

#: The folder of a version that holds its exports.
FOLDER = "exports"

#: The head of the table of exports in a card.
HEAD = (
    "export",
    "",
    "metric",
    "its",
    "the model's",
    "bytes",
    "objects",
    "least overlap",
    "confidence",
    "other",
    "ms an image",
    "the model's",
)


@dataclass(frozen=True)
class Export:
    """One export: what became of it, and its receipt."""

    found: ExportResult
    receipt: Result

    def row(self) -> tuple[str, ...]:
        """Its row of the table: how it was found, the largest differences, and the median times."""
        found, timings = self.found, self.receipt.receipt.timings
        values = (found.value, found.model_value)
        differences = (found.least_overlap, found.score_difference, found.further_difference)
        times = (timings.get(name) for name in ("latency_median_seconds", "model_latency_median_seconds"))
        return (
            found.wanted.text,
            "accepted" if found.accepted else f"refused: {found.reason}",
            found.metric or "not measured",
            *("" if value is None else f"{value:.4f}" for value in values),
            f"{found.size:,}" if found.size else "",
            f"{found.objects:,}" if found.pictures else "",
            *("" if value is None else f"{value:.4f}" for value in differences),
            *("" if value is None else f"{1000 * value:.1f}" for value in times),
        )


@dataclass(frozen=True)
class Exports:
    """The exports of a training, and the reference to the receipt that names them."""

    reference: InputReference
    each: Sequence[Export]

    def refusals(self) -> Iterator[str]:
        """A sentence for each that is not registered."""
        for export in self.each:
            if not export.found.accepted:
                yield f"the export {export.found.wanted.text} is refused and not registered: {export.found.reason}."

    def put(self, copy: str, work: Path, context: Context) -> None:
        """Copies the accepted ones beside a version's files, each once: what is there stays.

        Args:
            copy: The URI of the version's folder.
            work: A folder of this machine.
            context: Where register runs.
        """
        for export in self.each:
            wanted = export.found.wanted
            there = open_prefix(f"{copy}/{FOLDER}/{wanted.folder}", "results")
            if export.found.accepted and not there.exists("export.json"):
                _put(export.receipt, there, work / wanted.folder, context)
            elif export.found.accepted and there.read("export.json") != export.found.encode():
                notice(f"register: {there.uri} holds an earlier export of this version, which stays as it is.")


def load(uri: str, training: str, context: Context) -> Exports:
    """The exports that an export receipt names.

    Args:
        uri: The receipt's URI.
        training: The result digest of the training that is registered.
        context: Where register runs.

    Raises:
        InvalidReceipt: If there is no such receipt, it is of another training, or an export is gone.
    """
    result = receipts.load(uri, "export", context.workspace)
    if result.receipt.inputs["training"].digest != training:
        raise InvalidReceipt(f"{uri}: exports of another training; give those of the one that was evaluated.")
    each = [Export(listed.result, of_key(context.workspace, listed.key)) for listed in read(result)]
    return Exports(result.reference, each)


def _put(export: Result, there: Prefix, work: Path, context: Context) -> None:
    """Copies an export's files, then its result, by which it is complete."""
    work.mkdir(parents=True)
    for output, entry in export.receipt.outputs.items():
        if output != FOUND:
            name = PurePosixPath(entry.path).name
            there.upload(export.fetch(output, work / name), name, context.alive)
    there.create("export.json", export.read(FOUND))
