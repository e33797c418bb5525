"""The workspace that a version was registered from, and the lock of its model's name there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from visionloop.core import workspace
from visionloop.core.errors import AccessDenied, InvalidConfig, NotFound
from visionloop.core.logs import notice
from visionloop.core.runs import RunRecord
from visionloop.core.storage import Prefix, open_prefix
from visionloop.registry import Version
from visionloop.registry.lock import locked
from visionloop.registry.resolve import registration


def workspace_of(version: Version) -> str:
    """The URI of the workspace that a version's evaluation names, in which its files lie too.

    Raises:
        InvalidConfig: If Visionloop did not register it, or its files lie elsewhere.
    """
    uri = version.workspace
    if uri is None or version.training_digest is None:
        raise _not_ours(version)
    made = registration(version.source)
    if made is None or made.workspace != uri:
        raise InvalidConfig(
            f"{version.label}: its files lie at {version.source}, outside the workspace {uri} of its evaluation; "
            "use MLflow itself for it, or train again."
        )
    return uri


def results_of(version: Version) -> Prefix:
    """The workspace that a version's evaluation names, wherever the version's files lie.

    Raises:
        InvalidConfig: If Visionloop did not register it, or the workspace is gone.
    """
    uri = version.workspace
    if uri is None or version.training_digest is None:
        raise _not_ours(version)
    results = open_prefix(uri, "results")
    if not results.exists(workspace.FILE):
        raise _gone(version.label, uri)
    return results


@contextlib.contextmanager
def held(uri: str, name: str, command: str) -> Iterator[Prefix]:
    """Holds register's lock of a model's name, so that no registration moves an alias of it meanwhile.

    Args:
        uri: The workspace.
        name: The registered name.
        command: Who holds it, for people.

    Yields:
        The workspace.

    Raises:
        InvalidConfig: If the workspace is gone or can't be written.
    """
    results = open_prefix(uri, "results")
    told: list[str] = []

    def waiting() -> None:
        if not told:
            told.append(name)
            notice(f"Another process moves an alias of {name}; {command} waits until it has ended.")

    with contextlib.ExitStack() as stack:
        try:
            if not results.exists(workspace.FILE):
                raise NotFound(uri)
            stack.enter_context(locked(results, (name,), command, waiting))
        except NotFound:
            raise _gone(name, uri) from None
        except AccessDenied as error:
            raise InvalidConfig(
                f"{name}: {command} locks the name in the workspace {uri}, which can't be written from here "
                f"({error.sentence.rstrip('.')}); use keys or a user that may write it."
            ) from error
        yield results


def _not_ours(version: Version) -> InvalidConfig:
    return InvalidConfig(f"{version.label} was not registered by Visionloop; use MLflow itself for it.")


def _gone(name: str, uri: str) -> InvalidConfig:
    return InvalidConfig(f"{name}: it was registered from the workspace {uri}, which is gone from there; move it back.")


def run_of(version: Version) -> RunRecord | None:
    """The record of the run that registered a version, or None if it is gone."""
    made = registration(version.source)
    if made is None:
        return None
    results = open_prefix(made.workspace, "results")
    names = sorted(results.children("runs")[0])
    states = results.map(lambda run: RunRecord(results, run).state("register"), names)
    found = [run for run, state in zip(names, states, strict=True) if made.attempt in state.attempts]
    return RunRecord(results, found[0]) if found else None
