"""The check of a machine before a training: what would end it later, or make it wait for nothing, is told before anything is downloaded.

A module a check; each raises what the training would end with, and passes over what can't be asked here. Whether the model fits
into a GPU's memory (`memory`) is asked by the trainer, once the model is there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from visionloop.core.logs import LOGGER
from visionloop.training.preflight import batch, gpus, health, shared_memory
from visionloop.training.preflight.planned import Planned

__all__ = ["Planned", "check_machine"]


def check_machine(planned: Planned, environment: Mapping[str, str]) -> None:
    """Checks the machine for a training, in seconds, and tells in one line of the log that all is well.

    Args:
        planned: What the training will use.
        environment: The process's variables.

    Raises:
        InvalidConfig: If the settings ask for what can't be: a device that is not there, more images in a step than the training sees,
            loading processes without shared memory.
        SickMachine: If a GPU reports errors of its memory, or can't be used by torch, or several can't exchange values.
    """
    began = time.monotonic()
    well = [batch.check(planned), health.check(planned, environment)]
    device = gpus.check(planned, environment)
    well += [device, shared_memory.check(planned) if device else None]
    LOGGER.info("preflight: %s; %.1f s", ", ".join(filter(None, well)), time.monotonic() - began)
