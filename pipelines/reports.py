"""The report pages of a run, where a browser on this machine can open them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.receipts import Result, load
from visionloop.core.reports import LINKS, linked
from visionloop.core.runs import StageState
from visionloop.core.stores import local_path
from visionloop.pipelines.services.folder import find_folder

#: The stages that write a page, in the order of the pipeline.
STAGES = ("validate", "evaluate")


def save_reports(run: str, stages: Mapping[str, StageState]) -> dict[str, str]:
    """The report pages of a run by stage, copied into the home's ``reports/{run}/`` with links to each other.

    A page that can't be copied is named where it lies: by a path of this machine, or its URI.
    """
    pages: dict[str, tuple[Result, str]] = {}
    for stage in STAGES:
        state = stages.get(stage)
        if state is None or not state.receipt:
            continue
        # A report is a decoration: a run that did its work never fails for one.
        with contextlib.suppress(VisionloopError, NotFound):
            result = load(state.receipt, stage)
            name = next(
                (name for name, output in result.receipt.outputs.items() if output.path.endswith(".html")), None
            )
            if name is not None:
                pages[stage] = (result, name)
    folder = find_folder(None).path / "reports" / run
    others = {stage: {LINKS[other]: f"{other}.html" for other in pages if other != stage} for stage in pages}
    return {stage: _copied(*page, folder / f"{stage}.html", others[stage]) for stage, page in pages.items()}


def _copied(result: Result, name: str, copy: Path, links: Mapping[str, str]) -> str:
    with contextlib.suppress(VisionloopError, NotFound, OSError):
        page = linked(result.read(name), links)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(page)
        return str(copy)
    uri = result.output_uri(name)
    return str(local_path(uri) or uri)
