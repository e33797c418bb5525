"""The report pages of a run, where a browser on this machine can open them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from visionloop.core.errors import NotFound, VisionloopError
from visionloop.core.receipts import Result, load
from visionloop.core.runs import StageState
from visionloop.core.stores import local_path
from visionloop.pipelines.services.folder import find_folder

#: The stages that write a page, in the order of the pipeline.
STAGES = ("validate", "evaluate")


def save_reports(run: str, stages: Mapping[str, StageState]) -> dict[str, str]:
    """The report pages of a run by stage: a path of this machine, or the page's URI where it can't be copied here.

    A page in a workspace on files is named where it lies; any other is copied into the home's ``reports/{run}/``.
    """
    pages = {}
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
                pages[stage] = _page(result, name, find_folder(None).path / "reports" / run / f"{stage}.html")
    return pages


def _page(result: Result, name: str, copy: Path) -> str:
    uri = result.output_uri(name)
    if (local := local_path(uri)) is not None:
        return str(local)
    with contextlib.suppress(VisionloopError, NotFound, OSError):
        return str(result.fetch(name, copy))
    return uri
