"""Versions and aliases of registered models, as Visionloop tags them (docs/contract.md, "Gate and registration")."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from visionloop.core import texts
from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.stores import local_path, normalise_uri
from visionloop.training.tracking.address import shown
from visionloop.training.tracking.connection import (
    check_addresses,
    connect,
    error_code,
    is_server,
    mlflow_errors,
    registry_uri,
)

CHAMPION = "champion"
CHALLENGER = "challenger"

#: Represents a missing champion in a key.
NO_CHAMPION = "none"

#: Tags of a registered model (the first) and of its versions.
NAME = "visionloop.name"
TRAINING_KEY = "visionloop.training_key"
TRAINING_DIGEST = "visionloop.training_digest"
EVALUATION = "visionloop.evaluation"
SNAPSHOT_ID = "visionloop.snapshot_id"
DATASET_HASH = "visionloop.dataset_hash"
MLFLOW_RUN_ID = "visionloop.mlflow_run_id"
TRACE_ID = "visionloop.trace_id"
#: The run that registered it, the versions of the libraries that trained it (JSON), and the git commit of the working folder.
RUN = "visionloop.run"
VERSIONS = "visionloop.versions"
GIT_COMMIT = "visionloop.git_commit"
STORAGE_URI = "visionloop.storage_uri"
CHECKPOINT_SHA256 = "visionloop.checkpoint_sha256"
STARTING_WEIGHTS = "visionloop.starting_weights"
OPERATING_POINT = "visionloop.operating_point"
METRIC = "visionloop.metric."

#: How often a write that conflicts with another of the same row is tried, and the pause between, in seconds.
WRITES = 5
WRITE_PAUSE_SECONDS = 0.2

#: Set on a version when register makes it the champion, and on the version that it took the alias from. A version that
#: was promoted, was not superseded and is not the champion has been rolled back by a person.
PROMOTED = "visionloop.promoted"
SUPERSEDED_BY = "visionloop.superseded_by"

#: Set on a version that a person made the champion: who, when (ISO 8601, UTC) and why.
PROMOTED_BY = "visionloop.promoted_by"
PROMOTED_AT = "visionloop.promoted_at"
PROMOTED_REASON = "visionloop.promoted_reason"

#: Set on a registered model while a person's decision about it is carried out (JSON): one that was cut off is found by it.
DECISION = "visionloop.decision"

#: Begins the tag of a registered model that says, by a version's number, which files of it are being deleted (JSON).
DELETED = "visionloop.deleted."


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: The registered model's (sanitised) name.
        number: The version.
        source: URI of the MLflow model's folder.
        tags: The version's tags.
        aliases: The aliases that point to it.
        created: When it was registered, in seconds since 1970.
    """

    name: str
    number: int
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    created: float = field(default=0.0, compare=False)

    @property
    def training_digest(self) -> str | None:
        """The result digest of its training, or None for a version that Visionloop did not register."""
        return self.tags.get(TRAINING_DIGEST) or None

    @property
    def checkpoint_sha256(self) -> str | None:
        """The SHA-256 of its checkpoint, or None for a version that was registered before this was recorded."""
        return self.tags.get(CHECKPOINT_SHA256) or None

    @property
    def operating_point(self) -> str | None:
        """The digest of its operating point, or None where each class has the default."""
        return self.tags.get(OPERATING_POINT) or None

    @property
    def label(self) -> str:
        """``NAME/VERSION``."""
        return f"{self.name}/{self.number}"

    @property
    def uri(self) -> str:
        """``models:/NAME/VERSION``, as MLflow loads it."""
        return f"models:/{self.label}"

    @property
    def identity(self) -> str:
        """The version's identity in a key: its training's digest, else ``NAME/VERSION``."""
        return self.training_digest or self.label

    @property
    def workspace(self) -> str | None:
        """The workspace of its evaluation's receipt, or None for a version that Visionloop did not register."""
        workspace, separator, _ = self.tags.get(EVALUATION, "").rpartition("/evaluate/")
        return workspace if separator else None

    @property
    def training_receipt(self) -> str | None:
        """The URI of its training's receipt, in the workspace of its evaluation's receipt."""
        key = self.tags.get(TRAINING_KEY)
        return f"{self.workspace}/train/{key}/receipt.json" if self.workspace and key else None


class Registry:
    """The model registry of an environment. Imports mlflow and connects at the first request."""

    def __init__(self, environment: Mapping[str, str], stage: str = "this") -> None:
        """``stage`` is named in the error of a missing MLflow.

        Raises:
            InvalidConfig: If no MLflow is configured, or its URI can't be one.
        """
        check_addresses(environment)
        self.uri = registry_uri(environment)
        if not self.uri:
            raise InvalidConfig(
                f"{stage} needs an MLflow: set MLFLOW_TRACKING_URI, such as http://mlflow:5000 or sqlite:///mlflow.db."
            )
        self.on_server = is_server(self.uri)
        self._environment = environment
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = connect({"MLFLOW_TRACKING_URI": self.uri, **self._environment})
        return self._connected

    def check_workspace(self, workspace: str) -> None:
        """Refuses a workspace from which the registry's server can't read a model.

        Raises:
            InvalidConfig: If MLflow is a server and the workspace a folder of this machine.
        """
        if self.on_server and local_path(normalise_uri(workspace)) is not None:
            raise InvalidConfig(
                f"--workspace {workspace}: an MLflow server can't read models from a folder; use an s3:// workspace or a sqlite:/// MLFLOW_TRACKING_URI."
            )

    def check_name(self, name: str, original_name: str) -> None:
        """Refuses a name that another original name has already been sanitised to.

        Raises:
            InvalidConfig: If the registered model ``name`` was created under another original name.
        """
        tags = self._model_tags(name)
        first = tags.get(NAME) if tags is not None else None
        # An earlier registration wrote the tag as the name was given.
        if first is not None and texts.visible(first) != texts.visible(original_name):
            raise InvalidConfig(
                f"--model-name {original_name!r}: '{name}' is registered under the given name {first!r} already; give that one, or a name that differs in letters or digits."
            )

    def champion(self, name: str) -> Version | None:
        """The version that the alias ``champion`` points to."""
        return self.by_alias(name, CHAMPION)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to, or None."""
        with mlflow_errors(self.uri):
            try:
                return _version(self._client.get_model_version_by_alias(name, alias))
            except Exception as error:
                if _is_missing(error):
                    return None
                raise

    def version(self, name: str, number: int) -> Version | None:
        """One version with its aliases, or None if it does not exist."""
        with mlflow_errors(self.uri):
            try:
                return _version(self._client.get_model_version(name, str(number)))
            except Exception as error:
                if _is_missing(error):
                    return None
                raise

    def of_training(self, name: str, training_digest: str) -> list[Version]:
        """The versions of a training, oldest first: one for each operating point, unless two runs registered at once or a person copied it."""
        return self._search(f"name='{name}' and tag.`{TRAINING_DIGEST}`='{training_digest}'")

    def of_snapshot(self, snapshot_id: str) -> list[Version]:
        """The versions of every name that were trained on a snapshot, in any workspace, oldest first."""
        return self._search(f"tag.`{SNAPSHOT_ID}`='{snapshot_id}'")

    def of_checkpoint(self, sha256: str) -> list[Version]:
        """The versions of every name with this checkpoint, oldest first."""
        return self._search(f"tag.`{CHECKPOINT_SHA256}`='{sha256}'")

    def of_name(self, name: str) -> list[Version]:
        """The versions of a registered model, oldest first, without their aliases."""
        return self._search(f'name="{name}"' if "'" in name else f"name='{name}'")

    def versions(self, name: str | None = None) -> list[Version]:
        """The versions of a registered model, or of every one, with their aliases; oldest first."""
        if name is not None:
            aliases = {name: self.aliases(name)}
            found = self.of_name(name)
        else:
            aliases = {str(model.name): dict(model.aliases) for model in self._models()}
            found = self._search("")
        return [replace(version, aliases=_pointing(aliases.get(version.name, {}), version.number)) for version in found]

    def names(self) -> list[str]:
        """The registered names, in the order of the alphabet."""
        return sorted(str(model.name) for model in self._models())

    def aliases(self, name: str) -> dict[str, int]:
        """The version that each alias of a registered model points to; none where there is no such model."""
        with mlflow_errors(self.uri):
            try:
                found = self._client.get_registered_model(name).aliases
            except Exception as error:
                if _is_missing(error):
                    return {}
                raise
        return {str(alias): int(number) for alias, number in found.items()}

    def has_model(self, name: str) -> bool:
        """Whether a model of this registered name exists, with versions or without."""
        return self._model_tags(name) is not None

    def _models(self) -> list[Any]:
        with mlflow_errors(self.uri):
            entities: list[Any] = []
            token = None
            while True:
                page = self._client.search_registered_models(page_token=token)
                entities += page
                token = page.token
                if not token:
                    return entities

    def _search(self, wanted: str) -> list[Version]:
        with mlflow_errors(self.uri):
            entities: list[Any] = []
            token = None
            while True:
                page = self._client.search_model_versions(wanted, page_token=token)
                entities += page
                token = page.token
                if not token:
                    break
        return sorted((_version(entity) for entity in entities), key=lambda version: (version.number, version.name))

    def download_uri(self, version: Version) -> str:
        """The actual URI of a version's files, whatever form its source has."""
        with mlflow_errors(self.uri):
            return str(self._client.get_model_version_download_uri(version.name, str(version.number)))

    def ensure_model(self, name: str, original_name: str) -> None:
        """Creates the registered model unless it exists. Its tag shows every character of the given name: MLflow's page obeys some.

        Raises:
            InvalidConfig: If it was created under another original name.
        """
        with mlflow_errors(self.uri):
            try:
                self._client.create_registered_model(name, tags={NAME: texts.visible(original_name)})
            except Exception as error:
                if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                    raise
        tags = self._model_tags(name)
        if tags is not None and NAME not in tags:
            with mlflow_errors(self.uri):
                _write(self._client.set_registered_model_tag, name, NAME, texts.visible(original_name))
        self.check_name(name, original_name)

    def create_version(self, name: str, source: str, tags: Mapping[str, str], description: str) -> Version:
        """Creates a version together with its tags.

        Raises:
            InvalidConfig: If the server refuses the source.
        """
        with mlflow_errors(self.uri):
            try:
                made = self._client.create_model_version(
                    name,
                    source,
                    run_id=self._existing_run(tags.get(MLFLOW_RUN_ID)),
                    tags={tag: texts.visible(value) for tag, value in tags.items()},
                    description=description,
                    await_creation_for=0,  # it is ready at once when only a source is named
                )
            except Exception as error:
                if "Invalid model version source" in str(error):
                    raise InvalidConfig(
                        f"{source}: the MLflow server {shown(self.uri)} takes no model from there; use an s3:// workspace."
                    ) from error
                raise
        return _version(made)

    def delete_version(self, version: Version) -> None:
        """Deletes a version; does nothing if it is already gone."""
        with mlflow_errors(self.uri):
            try:
                self._client.delete_model_version(version.name, str(version.number))
            except Exception as error:
                if not _is_missing(error):
                    raise

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Sets tags of a version."""
        with mlflow_errors(self.uri):
            for name, value in tags.items():
                _write(self._client.set_model_version_tag, version.name, str(version.number), name, value)

    def untag(self, version: Version, name: str) -> None:
        """Removes a tag of a version."""
        with mlflow_errors(self.uri):
            self._client.delete_model_version_tag(version.name, str(version.number), name)

    def model_tag(self, name: str, tag: str) -> str | None:
        """A tag of a registered model; None where it has none, or there is no such model."""
        return (self._model_tags(name) or {}).get(tag)

    def tag_model(self, name: str, tag: str, value: str) -> None:
        """Sets a tag of a registered model."""
        with mlflow_errors(self.uri):
            _write(self._client.set_registered_model_tag, name, tag, value)

    def untag_model(self, name: str, tag: str) -> None:
        """Removes a tag of a registered model."""
        with mlflow_errors(self.uri):
            self._client.delete_registered_model_tag(name, tag)

    def set_alias(self, version: Version, alias: str) -> None:
        """Points an alias to a version, whichever it pointed to before."""
        with mlflow_errors(self.uri):
            _write(self._client.set_registered_model_alias, version.name, alias, str(version.number))

    def remove_alias(self, name: str, alias: str) -> None:
        """Removes an alias; does nothing if it does not exist."""
        with mlflow_errors(self.uri):
            self._client.delete_registered_model_alias(name, alias)

    def _model_tags(self, name: str) -> dict[str, str] | None:
        with mlflow_errors(self.uri):
            try:
                return dict(self._client.get_registered_model(name).tags)
            except Exception as error:
                if _is_missing(error):
                    return None
                raise

    def _existing_run(self, run_id: str | None) -> str | None:
        """The run's id if this MLflow has the run: the training may have been tracked by another MLflow."""
        if not run_id:
            return None
        try:
            return str(self._client.get_run(run_id).info.run_id)
        except Exception as error:
            if _is_missing(error):
                return None
            raise


def not_registered(reference: str) -> NotFound:
    """The error for a reference that no version matches."""
    return NotFound(f"{reference}: no such model, version or alias is registered")


def _write(write: Callable[..., object], *arguments: str) -> None:
    """Writes a row that may be written concurrently: MLflow reads, then inserts, and its database refuses the later insert."""
    for left in reversed(range(WRITES)):
        try:
            write(*arguments)
            break
        except Exception as error:
            if not left or not re.search(r"IntegrityError|UniqueViolation", str(error)):
                raise
            time.sleep(WRITE_PAUSE_SECONDS)


def _is_missing(error: Exception) -> bool:
    """Whether MLflow says that a model, version or alias does not exist; for an alias it reports an invalid value."""
    code = error_code(error)
    return code == "RESOURCE_DOES_NOT_EXIST" or (
        code == "INVALID_PARAMETER_VALUE" and "not found" in str(error).lower()
    )


def _pointing(aliases: Mapping[str, Any], number: int) -> tuple[str, ...]:
    """The aliases that point to a version."""
    return tuple(sorted(alias for alias, pointed in aliases.items() if int(pointed) == number))


def _version(entity: Any) -> Version:
    return Version(
        str(entity.name),
        int(entity.version),
        str(entity.source),
        dict(entity.tags),
        tuple(sorted(entity.aliases)),
        int(entity.creation_timestamp or 0) / 1000,
    )
