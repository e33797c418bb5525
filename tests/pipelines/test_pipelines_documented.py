"""docs/engines.md says what an engine can't express, as the compiler does."""

from __future__ import annotations

import re
from pathlib import Path

from visionloop.pipelines.engines.kubeflow.tasks import UNEXPRESSED

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def test_the_page_lists_what_kubeflow_pipelines_cannot_express() -> None:
    listed = re.search(r"<!-- unexpressed -->\n(.*?)<!-- end -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    wanted = "".join(f"- {sentence}\n" for sentence in UNEXPRESSED)
    assert listed[1].strip() == wanted.strip()
