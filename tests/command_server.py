"""Runs command lines as ``visionloop`` does, each in a fork of a process that has imported everything already.

Importing is nearly all that a small command takes, so hundreds of them fit into a test run. One JSON object a line on
stdin says what to run, in which environment and where its output goes; the exit code comes back on stdout.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any

import boto3  # noqa: F401
import jinja2  # noqa: F401
import obstore.store  # noqa: F401
import PIL.PngImagePlugin  # noqa: F401
import pyarrow.parquet  # noqa: F401

import visionloop.components.evaluate
import visionloop.components.register
import visionloop.components.train
import visionloop.components.validate.page
import visionloop.pipelines.cli.compile
import visionloop.pipelines.cli.demo
import visionloop.pipelines.cli.plan
import visionloop.pipelines.cli.schedule
import visionloop.pipelines.plan  # noqa: F401
from visionloop.pipelines.cli import main
from visionloop.training.tracking.connection import prepare_import, quiet_import


def run(request: dict[str, Any]) -> int:
    """In the fork: becomes the command."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["visionloop", *request["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def import_mlflow() -> None:
    """Imports the registry's client as the commands do, and what it needs for a database: three seconds of each command."""
    prepare_import()
    with quiet_import():
        for name in (
            "mlflow.pyfunc",
            "mlflow.store.model_registry.sqlalchemy_store",
            "mlflow.store.tracking.sqlalchemy_store",
        ):
            importlib.import_module(name)


def serve() -> None:
    """One command after the other."""
    import_mlflow()
    for line in sys.stdin:
        gc.freeze()
        process = os.fork()
        if process == 0:
            code = 70
            try:
                code = run(json.loads(line))
                sys.stdout.flush()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
