"""From ``models:/NAME@alias`` to its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionloop.core import workspace
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.folders import temporary_folder
from visionloop.core.names import sanitise
from visionloop.core.storage import Prefix, open_prefix
from visionloop.registry import package
from visionloop.registry.versions import STORAGE_URI, Registry, Version, not_registered

#: Where register puts a version's files: the workspace, and the path below it.
_SOURCE = re.compile(
    r"(?P<workspace>(?:s3|file)://.+)/(?P<path>register/(?P<key>[0-9a-f]{64})/(?P<attempt>[0-9a-f]+)/[^/]+)"
)

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]{1,9}))")

_LABEL = re.compile(r"[^/@]+/[0-9]{1,9}")

#: How many of the names that exist a sentence about an unknown one has.
NAMED = 10


@dataclass(frozen=True)
class Registration:
    """Where register put a version's files: the workspace's URI, register's key and attempt."""

    workspace: str
    key: str
    attempt: str


def registration(source: str) -> Registration | None:
    """Where register put a version's files, by its source; None for a source that register did not make."""
    match = _SOURCE.fullmatch(source)
    return Registration(match["workspace"], match["key"], match["attempt"]) if match else None


def find(reference: str, registry: Registry) -> Version:
    """The version that ``models:/NAME@alias`` or ``models:/NAME/3`` refers to; NAME is the original or the sanitised name.

    Raises:
        InvalidConfig: If the reference has another form.
        NotFound: If there is no such model, version or alias.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidConfig(f"{reference}: not a registered model; give models:/NAME@alias or models:/NAME/VERSION.")
    for name in dict.fromkeys((match["name"], sanitise(match["name"], what=reference))):
        if match["alias"]:
            version = registry.by_alias(name, match["alias"])
        else:
            version = registry.version(name, int(match["version"]))
        if version is not None:
            return version
    raise not_registered(reference)


def names_a_version(model: str) -> bool:
    """Whether a text is ``NAME/VERSION``, where it could be a path as well."""
    return _LABEL.fullmatch(model) is not None


def named(model: str, registry: Registry) -> Version:
    """The version that a person names: ``NAME/VERSION`` or ``NAME@ALIAS``, with or without ``models:/`` before it.

    Raises:
        InvalidConfig: If it has another form, or there is no such model, version or alias; the sentence names some that exist.
    """
    reference = model if model.startswith("models:/") else f"models:/{model}"
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InvalidConfig(f"{model}: not a registered model; give NAME/VERSION or NAME@ALIAS.")
    try:
        return find(reference, registry)
    except NotFound:
        name = registered_name(match["name"], registry)
    if match["alias"]:
        existing = [f"{name}@{alias}" for alias in sorted(registry.aliases(name))]
    else:
        existing = [version.label for version in reversed(registry.of_name(name))]
    kind = "alias" if match["alias"] else "version"
    raise InvalidConfig(
        f"{model}: no such {kind} of {name} is registered; there is {some(existing, f'no {kind} of it')}."
    )


def registered_name(name: str, registry: Registry) -> str:
    """The registered model that a person names by its registered name, or by the one that was given to it.

    Raises:
        InvalidConfig: If there is none, the sentence names some that exist; or if a version or an alias is named with it.
    """
    name = name.removeprefix("models:/")
    if re.search("[/@]", name):
        raise InvalidConfig(f"{name}: give the model's name alone, without a version or an alias.")
    for candidate in dict.fromkeys((name, sanitise(name, what="model"))):
        if registry.has_model(candidate):
            return candidate
    raise InvalidConfig(f"{name}: no such model is registered; there is {some(registry.names(), 'none')}.")


def some(existing: Sequence[str], none: str) -> str:
    """At most ten of the names that exist, and the number of the others."""
    more = f" and {len(existing) - NAMED:,} more" if len(existing) > NAMED else ""
    return f"{', '.join(existing[:NAMED])}{more}" if existing else none


def model_uris(version: Version, registry: Registry) -> list[str]:
    """The URIs that may hold a version's files: its source, then the copy that its tag names."""
    return [uri for uri in (registry.download_uri(version), version.tags.get(STORAGE_URI)) if uri]


def describe(version: Version, registry: Registry) -> tuple[str, package.Description]:
    """The URI of a version's files, and the model's description of itself.

    Raises:
        InvalidConfig: If its files lay in a workspace that is gone, because it was moved.
        InvalidReceipt: If none of its URIs holds a model that Visionloop registered.
    """
    uris = model_uris(version, registry)
    for uri in uris:
        if package.is_complete(uri):
            return uri, package.read(uri)
    if old := _moved_workspace(version.source):
        raise InvalidConfig(
            f"{version.uri}: its files lay in the workspace {old}, which is gone from there; move it back, or run again "
            "with --force register, which puts the files there again."
        )
    raise InvalidReceipt(
        f"{version.uri}: no model of Visionloop's lies at {' or '.join(uris)}; register it again or correct the alias."
    )


def check_workspace(version: Version, registry: Registry, workspace_uri: str) -> None:
    """Checks that a version's files do not lie in a workspace that is gone, but for one that was moved to ``workspace_uri``.

    Raises:
        InvalidConfig: If they do.
        InvalidReceipt: If none of its URIs holds a model that Visionloop registered.
    """
    match = _SOURCE.fullmatch(version.source)
    if match is None or not package.is_complete(f"{workspace_uri.rstrip('/')}/{match['path']}"):
        describe(version, registry)


def _moved_workspace(source: str) -> str | None:
    """The workspace that register put a version's files into, if no workspace lies there any more."""
    match = _SOURCE.fullmatch(source)
    if match is None or open_prefix(match["workspace"], "results").exists(workspace.FILE):
        return None
    return match["workspace"]


def resolve_model(reference: str, environment: Mapping[str, str], workspace: Prefix | None = None) -> str:
    """The URI of a registered model's checkpoint, for starting weights, once its digest is what the version records.

    Args:
        reference: ``models:/NAME@alias`` or ``models:/NAME/3``.
        environment: The process's variables.
        workspace: The workspace that is open now, where an altered checkpoint is marked as damaged.

    Raises:
        NotFound: If there is no such model, version or alias.
        InvalidConfig: If no MLflow is configured, or the reference has another form.
        InvalidReceipt: If the version's files are gone, altered or not Visionloop's.
    """
    registry = Registry(environment, f"model {reference}")
    version = find(reference, registry)
    uri, description = describe(version, registry)
    with temporary_folder("registered") as folder:
        package.fetch_checkpoint(uri, description, folder / "checkpoint", version.checkpoint_sha256, workspace)
    return f"{uri}/{description.checkpoint}"
