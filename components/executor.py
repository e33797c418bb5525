"""KFP's executor in a stage's pod, with its log lines in the form of Visionloop's: it prints every argument of the stage."""

from __future__ import annotations

import contextlib
import logging
import sys

from visionloop.core import logs, variables
from visionloop.core.errors import InvalidConfig


def main() -> None:
    """Runs the component that the command line names, as ``kfp.dsl.executor_main`` does.

    That name is the first argument: by it ``kfp.local`` knows a component that it can run as a process.
    """
    del sys.argv[1]
    # A variable with a wrong value is the stage's to tell, which records it in the run.
    with contextlib.suppress(InvalidConfig):
        variables.prepare()
        logs.configure(trace_id="", run="", stage="")
    # KFP's own set-up leaves a logger alone that has a handler.
    logging.getLogger().setLevel(logging.INFO)
    from kfp.dsl.executor_main import executor_main

    executor_main()


if __name__ == "__main__":
    main()
