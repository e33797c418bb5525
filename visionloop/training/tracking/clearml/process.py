"""The way to the process in which ClearML's SDK works (``sdk``)."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any, cast

import msgspec

from visionloop.core import texts
from visionloop.core.errors import Transient, shortened
from visionloop.training.environment import PROXY_VARIABLES, child_environment
from visionloop.training.tracking.connection import LONGEST_TEXT

#: Seconds that the SDK may take for an answer; it goes on trying for hours by itself.
ANSWER_SECONDS = 120.0

#: The variables of ClearML that count. No other one reaches the SDK, nor does a configuration file.
KEYS = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
TOKEN = "CLEARML_AUTH_TOKEN"  # noqa: S105 - a variable's name
HOST = "CLEARML_API_HOST"
OFFLINE_MODE = "CLEARML_OFFLINE_MODE"
VARIABLES = (
    *KEYS,
    TOKEN,
    HOST,
    "CLEARML_WEB_HOST",
    "CLEARML_FILES_HOST",
    "CLEARML_API_HOST_VERIFY_CERT",
    "CLEARML_CACHE_DIR",
)

#: What the SDK is told besides: it reads no file, asks nobody whether there is a newer one, and numbers a resumed training's epochs as they are.
_SETTINGS = {
    "CLEARML_CONFIG_FILE": os.devnull,
    "CLEARML_SUPPRESS_UPDATE_MESSAGE": "1",
    "CLEARML_SET_ITERATION_OFFSET": "0",
}


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether a task is kept in a file, for a server to import it later."""
    return environment.get(OFFLINE_MODE, "").strip().lower() in ("1", "true", "yes", "on")


class SdkProcess:
    """The SDK's process; it begins with the first question, and is gone after one that it could not answer."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment`` are the variables of this process."""
        variables = child_environment(environment, (*VARIABLES, *PROXY_VARIABLES, "REQUESTS_CA_BUNDLE"))
        self._environment = variables | _SETTINGS | ({OFFLINE_MODE: "1"} if is_offline(environment) else {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it is there, with all that it was told."""
        return self._process is not None and self._process.poll() is None

    def ask(self, call: str, **arguments: Any) -> Any:
        """Has a method of `sdk.Session` called, and returns its answer.

        Raises:
            Transient: If the SDK raised, does not answer in time, or its process has ended.
        """
        process = self._process if self._process is not None and self.runs else self._begin()
        asks, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        question = msgspec.json.encode({"call": call, "arguments": arguments})
        line = b""
        with contextlib.suppress(BrokenPipeError), selectors.DefaultSelector() as selector:
            asks.write(question + b"\n")
            asks.flush()
            selector.register(answers, selectors.EVENT_READ)
            if not selector.select(ANSWER_SECONDS):
                self.close()
                raise Transient("it does not answer")
            line = answers.readline()
        if not line:
            self.close()
            raise Transient("the process of ClearML's SDK has ended")
        answer = msgspec.json.decode(line)
        if "error" in answer:
            self.close()
            raise Transient(shortened(texts.sentence(answer["error"]), LONGEST_TEXT))
        return answer["answer"]

    def close(self) -> None:
        """Ends it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was never read
                        pipe.close()

    def _begin(self) -> subprocess.Popen[bytes]:
        self.close()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "visionloop.training.tracking.clearml.sdk"],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is the stage's to handle.
            process_group=0,
        )
        return self._process
