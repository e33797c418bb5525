"""Downloads the library's own weights, if the user allowed it, in a process of its own, because this one stays offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from visionloop.core.errors import NotFound, Transient, shortened
from visionloop.core.folders import temporary_folder
from visionloop.training.environment import PROXY_VARIABLES, child_environment
from visionloop.training.trainers.ultralytics.environment import VARIABLES
from visionloop.training.trainers.ultralytics.names import weights_names

TIMEOUT_SECONDS = 280

_PROGRAM = (
    "import sys; from ultralytics.utils.downloads import attempt_download_asset; attempt_download_asset(sys.argv[1])"
)


def download_weights(model: str, folder: Path) -> Path:
    """Fetches the weights of a bare model name into ``folder``.

    Raises:
        NotFound: If the library has no weights of that name.
        Transient: If the network is down.
    """
    names = weights_names(model)
    if not names:
        raise NotFound(model)
    target = folder / names[0]
    with temporary_folder("download") as settings:
        environment = {
            **child_environment(os.environ, PROXY_VARIABLES),
            **VARIABLES,
            "YOLO_OFFLINE": "false",
            "YOLO_CONFIG_DIR": str(settings),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(target)],
                cwd=settings,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Transient(
                f"model {model}: its weights were not downloaded within {TIMEOUT_SECONDS} s; see that the network answers."
            ) from None
    if target.is_file() and target.stat().st_size:
        return target
    if done.returncode == 0:
        raise NotFound(model)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise Transient(
        f"model {model}: its weights can't be downloaded ({shortened(last, 200)}); see that the network answers, or put them into VISIONLOOP_WEIGHTS."
    )
