"""The process in which ClearML's SDK works: it does what it is asked line by line, and answers each line by one.

The SDK keeps one task a process, handles signals and ``sys.exit``, writes to stdout, waits for seconds, and ends its process when somebody
aborts the task on ClearML's page. So it has none of the stage's process, and ends with it: once its stdin is closed.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

#: What the SDK would look for in its process by itself: frameworks that train, and the repository of the code.
_NOTHING_ELSE = dict.fromkeys(
    (
        "catboost",
        "detect_repository",
        "fastai",
        "gradio",
        "hydra",
        "joblib",
        "jsonargparse",
        "lightgbm",
        "matplotlib",
        "megengine",
        "pytorch",
        "scikit",
        "tensorboard",
        "tensorflow",
        "tfdefines",
        "xgboost",
    ),
    False,
)

#: Before the id of a task that is kept in a file.
OFFLINE = "offline-"


class Session:
    """A training's task. Arguments and answers are what JSON holds."""

    def __init__(self) -> None:
        """There is no task yet."""
        self._task: Any = None

    def start(
        self,
        project: str,
        name: str,
        description: str,
        params: Mapping[str, Any],
        properties: Mapping[str, str],
        earlier: str | None,
    ) -> dict[str, Any]:
        """Opens the task, or goes on in an earlier one that the server has."""
        from clearml import Task

        self._task = Task.init(
            project_name=project,
            task_name=name,
            task_type="training",
            reuse_last_task_id=False,
            continue_last_task=earlier or False,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=_NOTHING_ELSE,
            auto_resource_monitoring=False,
            auto_connect_streams=False,
        )
        task = self._task
        task.set_parameters({name: "" if value is None else value for name, value in params.items()})
        task.set_comment(description)
        self._set_properties(properties)
        return self._entry()

    def log(self, epochs: Mapping[str, Mapping[str, float | None]]) -> None:
        """Reports epochs; the SDK sends them in the background."""
        logger = self._task.get_logger()
        for epoch, metrics in epochs.items():
            for name, value in metrics.items():
                if value is not None:  # JSON's word for a number that is not finite
                    series, _, title = name.rpartition("/")
                    logger.report_scalar(title, series or title, value, int(epoch))

    def attach(self, files: Mapping[str, str]) -> None:
        """Puts files beside the task, by their names there."""
        for name, path in files.items():
            if not self._task.upload_artifact(name, path, wait_on_upload=True):
                raise RuntimeError(f"{name} could not be uploaded")

    def finish(self, status: str) -> dict[str, Any]:
        """Sends what is still to be sent, and ends the task; one that is kept in a file becomes a whole file."""
        self._set_properties({"visionloop.status": status})
        entry = self._entry()
        # Nothing else waits for what is on its way. It ends the task as completed, and says nothing of what went wrong.
        self._task.close()
        if not entry["run_id"].startswith(OFFLINE):
            _mark(self._found(entry["run_id"]), status)
        return entry

    def end(self, run_id: str, status: str) -> None:
        """Ends a task of the server's that was left open; one that has failed, was stopped or is published stays as it is."""
        task = self._found(run_id)
        if str(task.status) not in ("failed", "stopped", "published", "closed"):
            _mark(task, status)

    def add(self, run_id: str, metrics: Mapping[str, float | None], files: Mapping[str, str]) -> None:
        """Adds values without an epoch and files to a task of the server's."""
        self._task = task = self._found(run_id)
        for name, value in metrics.items():
            if value is not None:
                task.get_logger().report_single_value(name, value)
        self.attach(files)
        task.close()

    def _found(self, run_id: str) -> Any:
        from clearml import Task

        return Task.get_task(task_id=run_id)

    def _set_properties(self, properties: Mapping[str, str]) -> None:
        self._task.set_user_properties(*({"name": name, "value": value} for name, value in properties.items()))

    def _entry(self) -> dict[str, Any]:
        task = self._task
        if task.id.startswith(OFFLINE):
            return {"run_id": task.id, "url": f"{task.get_offline_mode_folder().as_uri()}.zip"}
        return {"run_id": task.id, "url": task.get_output_log_web_page()}


def _mark(task: Any, status: str) -> None:
    """Gives a task the state that a run of ``runs`` has."""
    if status == "succeeded":
        task.mark_completed(ignore_errors=False, force=True)
    elif status == "cancelled":
        task.stopped(ignore_errors=False, force=True)
    else:
        task.mark_failed(ignore_errors=False, force=True)


def main() -> None:
    """Answers on what stdout was: the SDK's own lines go nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.argv = ["visionloop"]  # the SDK shows the command line
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            asked.put(line)
        os._exit(0)  # whoever asked has gone, and waits for nothing

    threading.Thread(target=listen, daemon=True).start()
    session = Session()
    while True:
        question = json.loads(asked.get())
        try:
            answer = {"answer": getattr(session, question["call"])(**question["arguments"])}
        except BaseException as error:  # noqa: BLE001 - whatever the SDK raises, whoever asked is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
