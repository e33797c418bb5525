"""The registry, and the store that a model's files lie in, for the commands that a person calls."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from visionloop.pipelines.environment import services_for, workspace_store

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
        with workspace_store(_workspace(registry, wanted)):
            yield registry


def _workspace(registry: Registry, wanted: Sequence[str]) -> str:
    """The workspace that the versions of models were registered from; of several one that lies in a store."""
    from visionloop.registry import resolve

    names = dict.fromkeys(re.split("[/@]", model.removeprefix("models:/"))[0] for model in wanted)
    versions = [each for name in names for each in registry.of_name(resolve.registered_name(name, registry))]
    workspaces = sorted({version.workspace or "" for version in versions}, reverse=True)  # s3:// behind file://
    return workspaces[0] if workspaces else ""
