"""The variables of a process that runs a training library: those that it needs, and no key, password or address of a store.

A trainer's `environment` names further ones of its library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from visionloop.core.policy import CACHE_VARIABLE, POD_GPUS_VARIABLE
from visionloop.training.trainers import Trainer

#: What a trainer's child process is given, where it is set; ``*`` stands for any characters. RANK and its like stay out:
#: the processes of several devices are given their numbers where they are started.
CHILD_VARIABLES = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_*",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_*",
    "NVIDIA_*",
    "NCCL_*",
    "OMP_*",
    "MKL_*",
    "OPENBLAS_*",
    "TORCH_*",
    "PYTORCH_*",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "HF_HUB_DISABLE_TELEMETRY",
    "YOLO_*",
    "ULTRALYTICS_*",
    "VISIONLOOP_LOG_*",
    f"{CACHE_VARIABLE}*",
    POD_GPUS_VARIABLE,
    "XDG_CACHE_HOME",
    "PYTHON*",
    "MPLCONFIGDIR",
    "CUBLAS_WORKSPACE_CONFIG",
    "KMP_*",
    "GLOO_*",
    "SSL_CERT_FILE",
)

#: What a child that downloads weights is given as well.
PROXY_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)


def child_environment(environment: Mapping[str, str], further: Iterable[str] = ()) -> dict[str, str]:
    """The variables of a child process.

    Args:
        environment: The variables of this process.
        further: Names that are handed on as well; ``*`` stands for any characters.
    """
    patterns = (*CHILD_VARIABLES, *further)
    return {
        name: value for name, value in environment.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def trainer_variables(trainer: Trainer) -> tuple[str, ...]:
    """The variables that a trainer's `environment` names; a trainer may have none."""
    return tuple(getattr(trainer, "environment", ()))
