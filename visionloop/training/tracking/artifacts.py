"""Files on the page of a run in MLflow.

Where an experiment keeps its artifacts in a store or a folder, they are written as all results are, with the results' keys:
MLflow's own client would want keys of its own. A server that takes artifacts itself gets them from MLflow's client.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionloop.core.folders import temporary_folder
from visionloop.core.storage import open_prefix


def put_artifacts(client: Any, run: Any, files: Mapping[str, Path | bytes]) -> None:
    """Writes files of a run, each by its path on the run's page (``plots/results.png``); one that is there is replaced.

    Raises:
        VisionloopError: If the store is down or refuses.
    """
    uri = str(run.info.artifact_uri)
    if uri.startswith(("s3://", "file:", "/")):
        prefix = open_prefix(uri, "results")
        for path, content in files.items():
            prefix.write(path, content if isinstance(content, bytes) else content.read_bytes())
        return
    with temporary_folder("artifacts") as folder:
        for path, content in files.items():
            local = folder / path
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
            parent = str(Path(path).parent)
            client.log_artifact(run.info.run_id, str(local), None if parent == "." else parent)
