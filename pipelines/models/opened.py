"""The registry, and the store that a model's files lie in, for the commands that a person calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from visionloop.pipelines.environment import services_for, workspace_of, workspace_store

if TYPE_CHECKING:
    from visionloop.registry import Registry


@contextlib.contextmanager
def opened(*wanted: str, command: str) -> Iterator[Registry]:
    """The registry, and the store in which the workspaces of models lie: the embedded ones where no other is configured.

    Args:
        wanted: ``NAME``, ``NAME/VERSION`` or ``NAME@ALIAS``.
        command: Who opens it, for the sentence about a missing MLflow.
    """
    from visionloop.registry import Registry

    with services_for({}):
        registry = Registry(os.environ, command)
        with workspace_store(workspace_of(registry, wanted)):
            yield registry
