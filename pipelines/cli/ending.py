"""How every run ends for a person: the model and its version, the verdict with its reason, metrics, warnings, and where to read on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from visionloop.core import texts
from visionloop.pipelines.cli.output import Format, link, show
from visionloop.pipelines.completion import embedded_database
from visionloop.training.stopwatch import described, described_answers

#: Where the metrics of a run were measured.
SPLIT = "test"


def show_end(summary: Mapping[str, Any], output: Format | None) -> None:
    """Prints how a run ended.

    Args:
        summary: What the engine returned: a run's summary, or the run that was submitted and left alone.
        output: The option ``--output``.
    """
    show(summary, lines(summary) if "stages" in summary else _submitted(summary), output)


def lines(summary: Mapping[str, Any]) -> Iterator[Text]:
    """A run's summary (docs/contract.md, "Commands") as lines for a person."""
    yield Text("")
    yield _line("Model", _model(summary))
    if predicted := summary.get("predicted"):
        yield from _predicted(predicted)
    reason = str(summary.get("reason") or "")
    if summary.get("verdict"):
        yield _line("Verdict", f"{summary['verdict']}: {reason}" if reason else str(summary["verdict"]))
    elif reason:
        yield _line("Reason", reason)
    if metrics := summary.get("metrics"):
        values = ", ".join(f"{name} {value:.3f}" for name, value in sorted(metrics.items()))
        split = (summary.get("measured") or {}).get("split") or SPLIT
        yield _line("Metrics", f"{values} on the {split} split")
    for name, outcome in (summary.get("exports") or {}).items():
        yield _line("Export", f"{name} {outcome}")
    if warnings := summary.get("warnings"):
        yield _line("Warnings", _warnings(warnings))
    for page in summary["reports"].values():
        yield _line("Report", link(page))
    yield _line("Time", _time(summary))
    if text := _training(summary):
        yield _line("Training", text)
    if rows := described_answers(summary.get("timings") or {}):
        yield _line("Speed", "; ".join(f"{name} {value}" for name, value in rows))
    if summary.get("mlflow"):
        yield _line("MLflow", _mlflow(str(summary["mlflow"])))


def _submitted(summary: Mapping[str, Any]) -> Iterator[Text]:
    yield _line("Run", f"{summary['name']}  {summary['engine']}")
    if summary.get("page"):
        yield _line("Page", link(str(summary["page"])))


def _line(name: str, text: str | Text) -> Text:
    return Text.assemble(f"{name:<8} ", texts.outgoing(text) if isinstance(text, str) else text)


def _model(summary: Mapping[str, Any]) -> str:
    if predicted := summary.get("predicted"):
        return f"{predicted['model']}, predicted"
    if measured := summary.get("measured"):
        return f"{measured['model']}, measured"
    name = str(summary["model_name"])
    if summary.get("version") is None:
        return f"{name}, no new version"
    alias = f", alias {summary['alias']}" if summary.get("alias") else ""
    why = f" ({summary['alias_reason'].rstrip('.')})" if summary.get("alias_reason") else ""
    return f"{name}, version {summary['version']}{alias}{why}"


def _predicted(predicted: Mapping[str, Any]) -> Iterator[Text]:
    """What was predicted, and where it lies."""
    if predicted["images"] is not None:
        refused = f", {predicted['unreadable']:,} can't be read" if predicted["unreadable"] else ""
        yield _line("Images", f"{predicted['images']:,} with {predicted['objects']:,} objects{refused}")
    if predicted["results"]:
        yield _line("Results", str(predicted["results"]))
    if predicted.get("images_per_second"):
        yield _line("Pace", f"{predicted['images_per_second']:,.1f} images a second")


def _warnings(warnings: Mapping[str, Mapping[str, int]]) -> str:
    """The number of warnings, and the codes of each stage."""
    counted = {stage: codes for stage, codes in warnings.items() if codes}
    stages = [
        f"{stage} {', '.join(f'{code} ({count})' for code, count in codes.items())}" for stage, codes in counted.items()
    ]
    return f"{sum(sum(codes.values()) for codes in counted.values())}: {'; '.join(stages)}" if stages else "none"


def _time(summary: Mapping[str, Any]) -> str:
    seconds = f"{summary['seconds']:.0f} s"
    results = [stage for name, stage in summary["stages"].items() if name != "cleanup"]
    if any(stage["reused"] is None for stage in results):
        return seconds
    return f"{seconds}, {sum(stage['reused'] for stage in results)} of {len(results)} stages reused"


def _training(summary: Mapping[str, Any]) -> str:
    """Where the time of this run's training went; nothing where it was reused."""
    train = summary["stages"].get("train")
    if train is None or train["reused"] is not False:
        return ""
    return "; ".join(f"{name} {value}" for name, value in described(summary.get("timings") or {}))


def _mlflow(address: str) -> str | Text:
    if address == embedded_database():
        return "run `visionloop up`, then open the address that it prints"
    return link(address) if address.startswith(("http://", "https://")) else address
