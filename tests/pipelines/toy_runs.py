"""A distribution of toy stages that stands before the real one, and runs of the pipelines with them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import toy_pipeline

from visionloop.core.receipts import Receipt
from visionloop.core.runs import StageState

RUNNER = "import sys; from visionloop.pipelines.engines.laptop.runner import main; sys.exit(main(sys.argv[1]))"

#: What makes each pipeline in the runner's process.
TRAIN = "visionloop.pipelines.engines.kubeflow.train:train_pipeline"
RETRAIN = "visionloop.pipelines.engines.kubeflow.retrain:retrain_pipeline"


def write_distribution(folder: Path, groups: dict[str, dict[str, str]]) -> None:
    """A distribution without code: its metadata with entry points."""
    metadata = folder / "visionloop_toys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: visionloop-toys\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entry.items())
        for group, entry in groups.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


@dataclass
class ToyRuns:
    """Runs a pipeline of the toy stages on this machine, each run in a process of its own."""

    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def run(
        self, name: str, *, pipeline: str = TRAIN, variables: dict[str, str] | None = None, **arguments: Any
    ) -> tuple[int, str, list[str]]:
        """Exit status, output, and the stages that computed."""
        log = self.folder / f"{name}.log"
        job = self.folder / f"{name}.json"
        fields = {"workspace": str(self.workspace), "model_name": "Toy Model", "dataset": "somewhere"} | arguments
        job.write_bytes(
            msgspec.json.encode({"pipeline": pipeline, "arguments": fields, "root": str(self.folder / "kfp" / name)})
        )
        path = f"{self.folder / 'toys'}{os.pathsep}{Path(toy_pipeline.__file__).parent}"
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "TOY_LOG": str(log),
            "VISIONLOOP_RUN": name,
            **(variables or {}),
        }
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(job)],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().split() if log.exists() else []

    def state(self, run: str, stage: str) -> StageState | None:
        """What the run's record says of a stage."""
        file = self.workspace / "runs" / run / f"{stage}.json"
        return msgspec.json.decode(file.read_bytes(), type=StageState) if file.exists() else None

    def receipt(self, run: str, stage: str) -> Receipt:
        """The receipt that a stage of a run ended with."""
        state = self.state(run, stage)
        assert state is not None
        return msgspec.json.decode(
            (self.workspace / stage / str(state.key) / "receipt.json").read_bytes(), type=Receipt
        )
