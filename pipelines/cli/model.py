"""``visionloop model``: the registered models, and what people decide about them."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from visionloop.pipelines.cli.output import Output, show
from visionloop.pipelines.environment import services_for, workspace_store

if TYPE_CHECKING:
    from visionloop.pipelines.models.decisions import Decided
    from visionloop.registry import Registry, Version

application = typer.Typer(
    no_args_is_help=True, help="Promote registered models, and go back to an earlier one.", rich_markup_mode=None
)


@application.callback()
def model() -> None:
    """Promote registered models, and go back to an earlier one."""


Model = Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]
Reason = Annotated[str, typer.Option(help="Why, for the version's tags and the run's record.")]
By = Annotated[str | None, typer.Option(help="Who decides (default: this machine's user).")]


@application.command("promote")
def promote(model: Model, reason: Reason = "", by: By = None, output: Output = None) -> None:
    """Makes a version the champion. What the gate kept can be promoted; what it rejected can't.

    Example: visionloop model promote bottles/3 --reason "better at night"
    """
    from visionloop.pipelines.models import decisions

    with _opened(model) as registry:
        decided = decisions.promote(registry, model, _person(by), reason)
    show(asdict(decided), _decided(decided), output)


@application.command("rollback")
def rollback(
    model: Name,
    to: Annotated[
        int | None,
        typer.Option(metavar="VERSION", help="Where to (default: the version that the champion superseded).", min=1),
    ] = None,
    reason: Reason = "",
    by: By = None,
    output: Output = None,
) -> None:
    """Makes the version before the champion once more; the one that it leaves comes back by promote alone.

    Example: visionloop model rollback bottles --reason "misses every lid"
    """
    from visionloop.pipelines.models import decisions

    with _opened(model) as registry:
        decided = decisions.rollback(registry, model, to, _person(by), reason)
    show(asdict(decided), _decided(decided), output)


@contextlib.contextmanager
def _opened(wanted: str) -> Iterator[Registry]:
    """The registry, and the store in which the workspace of a model lies: the embedded ones where no other is configured.

    Args:
        wanted: ``NAME``, ``NAME/VERSION`` or ``NAME@ALIAS``.
    """
    from visionloop.registry import Registry

    with services_for({}):
        registry = Registry(os.environ, "visionloop model")
        with workspace_store(_workspace(registry, wanted)):
            yield registry


def _workspace(registry: Registry, wanted: str) -> str:
    """The workspace that a model's version was registered from; of a name alone that of its newest one."""
    from visionloop.registry import resolve

    versions: list[Version]
    if re.search("[/@]", wanted.removeprefix("models:/")):
        versions = [resolve.named(wanted, registry)]
    else:
        versions = registry.of_name(resolve.registered_name(wanted, registry))
    return next((version.workspace for version in reversed(versions) if version.workspace), "")


def _person(by: str | None) -> str:
    """Who decides: as the option says, else the user of this process."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"uid {os.getuid()}"


def _decided(decided: Decided) -> Iterator[str]:
    """What a person reads of a decision."""
    label = f"{decided.model}/{decided.version}"
    if not decided.changed:
        yield f"{label} is the champion already; nothing to do."
        return
    before = f"before it was {decided.model}/{decided.previous}" if decided.previous else "before there was none"
    yield f"{label} is the champion now; {before}."
    why = f": {decided.reason}" if decided.reason else ""
    yield f"Decided by {decided.by} at {decided.at}{why}"
