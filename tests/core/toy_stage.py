"""A toy stage, and a command that runs it: it writes one file for each input, and does as its variables say.

TOY_COUNT is a folder that gets one file for each execution. TOY_FAIL names the error to end with (TOY_TIMES times,
always unless set), TOY_WAIT a file that must exist before it goes on, TOY_SLEEP the seconds between outputs,
TOY_SILENT how many executions finish no work, TOY_LIMIT the stage's time limit, TOY_BACKOFF the seconds between attempts.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visionloop.core import errors
from visionloop.core.policy import StagePolicy
from visionloop.core.receipts import InputReference, Parameter
from visionloop.core.running import Invocation, run_stage
from visionloop.core.stage import Attempt, Computed, Context, Outcome, Resolution, argument


@dataclass(frozen=True)
class ToyArguments:
    """What the toy is told."""

    inputs: str = argument("Names of the files to write, separated by commas.")
    value: float = argument("Part of the key.", default=1.0)


class Toy:
    """The toy."""

    name = "toy"
    logic_version = 1
    arguments = ToyArguments
    description = "Writes one file for each input."

    @property
    def policy(self) -> StagePolicy:
        limit = int(os.environ.get("TOY_LIMIT", "600"))
        wait = int(os.environ.get("TOY_BACKOFF", "0"))
        return replace(StagePolicy(), timeout=limit, backoff_first=wait, backoff_longest=wait)

    def resolve(self, context: Context, arguments: ToyArguments) -> Resolution:
        inputs = {name: InputReference(None, name) for name in arguments.inputs.split(",")}
        return Resolution(
            inputs, {"value": Parameter(float(arguments.value), "given")}, ["This is a toy."], run_scalars={"beside": 1}
        )

    def compute(self, context: Context, resolution: Resolution, attempt: Attempt) -> Computed:
        count = executions()
        if folder := os.environ.get("TOY_COUNT"):
            (Path(folder) / uuid.uuid4().hex).touch()
        for name in resolution.inputs:
            data = f"{name} {resolution.parameters['value'].value}".encode()
            attempt.write(name, f"{name}.txt", data, result=True)
            time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
        if count < int(os.environ.get("TOY_SILENT", "0")):
            time.sleep(60)
        while (wait := os.environ.get("TOY_WAIT")) and not Path(wait).exists():
            context.alive()
            time.sleep(0.01)
        (attempt.work / "picture").write_bytes(os.urandom(8))
        attempt.upload("picture", "picture.bin", attempt.work / "picture", result=False)
        if (failure := os.environ.get("TOY_FAIL")) and count < int(os.environ.get("TOY_TIMES", "1000")):
            raise make_error(failure)
        return Computed({"files": len(resolution.inputs)}, {"mAP50": 0.5, "none": float("nan")})


def executions() -> int:
    """How often the toy was executed."""
    folder = os.environ.get("TOY_COUNT")
    return len(list(Path(folder).iterdir())) if folder else 0


def make_error(name: str) -> BaseException:
    """An error by its class's name."""
    if hasattr(errno, name):
        return OSError(getattr(errno, name), "Told so", "/somewhere/file")
    kind: Any = getattr(errors, name, None) or getattr(builtins, name)
    error: BaseException = kind("The toy failed\nas it was told; run it again.")
    if isinstance(error, errors.OutOfMemory):
        error.batch, error.last_successful_epoch = 8, 3
    return error


#: Its policy is read from the variables each time, which the protocol's plain attribute doesn't say.
TOY: Any = Toy()


def run(workspace: str, inputs: str = "a,b", value: float = 1.0, **invocation: Any) -> Outcome:
    """Runs the toy in this process."""
    return run_stage(TOY, {"inputs": inputs, "value": value}, Invocation(workspace, **invocation))


def main() -> int:
    """``python toy_stage.py '{"workspace": …, "run": …}'``: the summary on stdout, or the sentence on stderr."""
    request = json.loads(sys.argv[1])
    try:
        print(json.dumps(run(**request).summary()))
    except errors.VisionloopError as error:
        print(error.sentence, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
