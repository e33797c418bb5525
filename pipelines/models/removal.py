"""How a registered version is deleted: what refuses it, what goes, and in which order.

The version goes first, then register's receipt, then the files. A tag of the registered model stands until all of it is done, so that a
deletion that was cut off is finished by the same command.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

import msgspec

from visionloop.core import receipts, structs
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound, VisionloopError
from visionloop.core.logs import notice
from visionloop.core.receipts import Result
from visionloop.core.storage import Prefix, open_prefix
from visionloop.pipelines.models.workspace import held, workspace_of
from visionloop.registry import CHAMPION, Registry, Version, package, resolve
from visionloop.registry.lock import locked
from visionloop.registry.resolve import Registration
from visionloop.registry.versions import DELETED, STARTING_WEIGHTS, STORAGE_URI, SUPERSEDED_BY

_VERSION = re.compile(r"(?:models:/)?(?P<name>[^/@]+)/(?P<number>[0-9]{1,9})")


class Files(msgspec.Struct, frozen=True):
    """Where a version's files lie: the folder that register put them into, and the copy, if there is one."""

    source: str
    copy: str | None

    @property
    def registration(self) -> Registration:
        """Workspace, key and attempt of the source. Raises InvalidConfig unless register made it."""
        made = resolve.registration(self.source)
        if made is None:
            raise InvalidConfig(f"{self.source}: not a folder that register made; remove it by hand.")
        return made


@dataclass(frozen=True)
class Removal:
    """What a deletion takes: the version, the objects and their size in bytes, and the folders that they lie in."""

    model: str
    version: int
    removed: bool
    objects: int
    bytes: int
    folders: list[str]


def delete(registry: Registry, wanted: str, *, force: bool, dry_run: bool) -> Removal:
    """Deletes a version and its files.

    Args:
        registry: The registry.
        wanted: ``NAME/VERSION``.
        force: Whether it goes though a version that stays was trained from its weights.
        dry_run: Whether nothing is removed.

    Raises:
        InvalidConfig: If there is no such version, an alias names it, another version's lineage needs it, or its files do not lie
            in the workspace that it was registered from, or that can't be written.
    """
    if (cut_off := _cut_off(registry, wanted)) is not None:
        name, number, files = cut_off
        with held(files.registration.workspace, name, "model delete") as results:
            return _remove_files(registry, name, number, results, files, dry_run=dry_run)
    version = resolve.named(wanted, registry)
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(held(workspace_of(version), version.name, "model delete"))
        # A registration of the same training may be putting the files there.
        subject = (version.name, version.training_digest or "")
        stack.enter_context(locked(results, subject, "model delete", lambda: None))
        version = resolve.named(version.label, registry)
        _check_aliases(version)
        if not force:
            _check_lineage(registry, version)
        files = _files(version)
        if dry_run:
            return _remove_files(registry, version.name, version.number, results, files, dry_run=True)
        _warn_of_rollback(registry, version)
        registry.tag_model(version.name, f"{DELETED}{version.number}", msgspec.json.encode(files).decode())
        registry.delete_version(version)
        return _remove_files(registry, version.name, version.number, results, files, dry_run=False)


def _cut_off(registry: Registry, wanted: str) -> tuple[str, int, Files] | None:
    """A version that is gone from the registry already, and whose files are not."""
    match = _VERSION.fullmatch(wanted)
    if match is None:
        return None
    name, number = resolve.registered_name(match["name"], registry), int(match["number"])
    if registry.version(name, number) is not None:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        files = structs.decode(registry.model_tag(name, f"{DELETED}{number}") or "", Files)
        # Nobody's tag leads elsewhere than to what register makes.
        if resolve.registration(files.source) and (files.copy is None or files.copy.endswith(f"/{name}/{number}")):
            return name, number, files
    return None


def _check_aliases(version: Version) -> None:
    if version.aliases:
        aliases = " and ".join(version.aliases)
        raise InvalidConfig(
            f"{version.label} is not deleted: the alias {aliases} names it; promote another version, or remove the alias first."
        )


def _check_lineage(registry: Registry, version: Version) -> None:
    """Refuses a version from whose weights another one was trained that stays."""
    weights = version.checkpoint_sha256 or resolve.describe(version, registry)[1].checkpoint_sha256
    for other in registry.versions():
        if other.label != version.label and _started_from(other, version) == f"sha256:{weights}":
            raise InvalidConfig(
                f"{version.label} is not deleted: {other.label} was trained from its weights, and its lineage names them; "
                "delete that one first, or give --force."
            )


def _started_from(other: Version, version: Version) -> str | None:
    """What another version was trained from; None where nothing tells it, which is an error in the workspace of ``version`` alone."""
    if (tagged := other.tags.get(STARTING_WEIGHTS)) is not None or other.training_receipt is None:
        return tagged
    # It was registered before the tag was.
    try:
        receipt = receipts.load(other.training_receipt, "train", outputs=False).receipt
    except VisionloopError as error:
        unknown = f"whether {other.label} was trained from its weights is not known ({error.sentence.rstrip('.')})"
        if other.workspace == version.workspace:
            raise InvalidConfig(
                f"{version.label} is not deleted: {unknown}; give --force to delete it anyway."
            ) from error
        notice(f"{version.label}: {unknown}.")
        return None
    model = receipt.parameters.get("model")
    return str(model.value) if model else None


def _files(version: Version) -> Files:
    """Where a version's files lie. Raises InvalidConfig if its tag names a copy that is not its own."""
    copy = version.tags.get(STORAGE_URI)
    if copy is not None and not _is_copy(copy, version):
        raise InvalidConfig(
            f"{version.label} is not deleted: {copy}, where its tag {STORAGE_URI} says that a copy lies, holds no copy of it; correct the tag or remove it."
        )
    return Files(version.source, copy)


def _is_copy(uri: str, version: Version) -> bool:
    """Whether a folder is that of a version's copy, and holds its model or nothing."""
    with contextlib.suppress(NotFound, InvalidReceipt):
        if not uri.endswith(f"/{version.label}"):
            return False
        if not open_prefix(uri, "results").exists(package.DESCRIPTION_FILE):
            return next(open_prefix(uri, "results").objects(), None) is None
        return package.read(uri).training_digest == version.training_digest
    return False


def _warn_of_rollback(registry: Registry, version: Version) -> None:
    champion = registry.champion(version.name)
    if champion is not None and version.tags.get(SUPERSEDED_BY) == str(champion.number):
        notice(
            f"{version.label} was what visionloop model rollback {version.name} would have gone back to ({CHAMPION} {champion.label})."
        )


def _remove_files(
    registry: Registry, name: str, number: int, results: Prefix, files: Files, *, dry_run: bool
) -> Removal:
    """Removes register's receipt and the files of a version that is gone; what makes them count goes first."""
    made = files.registration
    key = results.child(f"register/{made.key}")
    attempts = {made.attempt}
    receipt = receipts.look(results, "register", made.key)
    # The training may have been registered again since, by another attempt.
    own = receipt if receipt and _names(receipt, made.attempt) else None
    if own is not None:
        attempts.add(own.receipt.attempt)
    prefixes = [key.child(attempt) for attempt in sorted(attempts)]
    prefixes += [open_prefix(files.copy, "results")] if files.copy else []
    found = [(prefix, list(prefix.objects())) for prefix in prefixes]
    every = [info for _, infos in found for info in infos] + ([key.head(receipts.FILE)] if own else [])
    if not dry_run:
        if own is not None:
            key.delete([receipts.FILE])
        for prefix, infos in found:
            prefix.delete(
                sorted((info.key for info in infos), key=lambda path: not path.endswith(package.DESCRIPTION_FILE))
            )
            prefix.discard_partial()
        registry.untag_model(name, f"{DELETED}{number}")
    folders = [prefix.uri for prefix, infos in found if infos]
    return Removal(name, number, not dry_run, len(every), sum(info.size for info in every), folders)


def _names(result: Result, attempt: str) -> bool:
    """Whether a receipt names outputs of an attempt."""
    return any(output.path.startswith(f"{attempt}/") for output in result.receipt.outputs.values())
