"""A pipeline whose task says what kfp.local can't take: for test_runner_output.py, run by the local runner."""

from typing import Any

from kfp import dsl


@dsl.component(base_image="python", install_kfp_package=False)
def loud(sleeper: str):
    """Writes bytes that are not UTF-8, and leaves a process behind that holds stdout and stderr open."""
    import os
    import subprocess
    from pathlib import Path

    os.write(1, b"a library's caf\xe9 \xff\n")
    os.write(2, b"and on stderr \xff\n")
    Path(sleeper).write_text(str(subprocess.Popen(["sleep", "120"]).pid))


@dsl.component(base_image="python", install_kfp_package=False)
def after():
    """The task after it."""
    print("the task after it ran")


def pipeline(target: Any) -> Any:
    """The two tasks in a row."""

    @dsl.pipeline(name="loud")
    def tasks(sleeper: str) -> None:
        after().after(loud(sleeper=sleeper))

    return tasks
