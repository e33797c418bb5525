"""The app of the embedded MLflow's server: MLflow's own behind a password, for requests and files of this home alone.

Loaded by ``mlflow server --app-name visionloop`` through the entry point ``mlflow.app``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from visionloop.training.tracking.mlflow_tracker import ARTIFACTS_VARIABLE

#: Set where MLflow asks for a password.
PASSWORD_VARIABLE = "MLFLOW_AUTH_CONFIG_PATH"  # noqa: S105 - the variable's name

#: The schemes of artifacts that have a reader here, beside this machine's files; ``runs`` and ``models`` lead to these.
_SCHEMES = ("s3", "runs", "models")

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
_App = Callable[[dict[str, Any], _Receive, _Send], Awaitable[None]]


def create_app() -> _App:
    """Makes the app, with a password where the starter has prepared one.

    Returns:
        An ASGI app.
    """
    confine_artifacts(Path(os.environ[ARTIFACTS_VARIABLE]))
    if os.environ.get(PASSWORD_VARIABLE):
        from mlflow.server import auth

        return same_origin(auth.create_app())
    from mlflow.server import fastapi_app

    return same_origin(fastapi_app.app)


def same_origin(app: _App) -> _App:
    """Refuses what a page of another origin sends: MLflow lets every page of this machine's ports in.

    Args:
        app: The app behind it.

    Returns:
        The app that answers 403 where ``Origin`` is not that of the request's own ``Host``. Which hosts there are,
        MLflow checks (``--allowed-hosts``).
    """

    async def checked(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan" or _of_its_own(dict(scope["headers"])):
            return await app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": b"A page of another origin may not ask MLflow."})
        return None

    return checked


def _of_its_own(headers: Mapping[bytes, bytes]) -> bool:
    origin = headers.get(b"origin")
    return origin is None or origin == b"http://" + headers.get(b"host", b"")


def confine_artifacts(root: Path) -> None:
    """Leaves MLflow's server the embedded S3 and one folder of this machine.

    An experiment's location is whatever its maker says, so the server would read each file that its user can.

    Args:
        root: The folder.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    class ConfinedRepository(LocalArtifactRepository):
        """Files below the root, wherever links lead."""

        def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
            super().__init__(artifact_uri, tracking_uri, registry_uri)
            self._check(None)

        def get_local_path(self, artifact_path: str) -> Any:
            self._check(artifact_path)
            return super().get_local_path(artifact_path)

        def list_artifacts(self, path: str | None = None) -> Any:
            self._check(path)
            return super().list_artifacts(path)  # type: ignore[no-untyped-call]

        def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> Any:
            self._check(artifact_path)
            return super().download_artifacts(artifact_path, dst_path)  # type: ignore[no-untyped-call]

        def _get_or_create_artifact_dir(self, artifact_path: str | None = None) -> Any:
            self._check(artifact_path)
            return super()._get_or_create_artifact_dir(artifact_path)

        def delete_artifacts(self, artifact_path: str | None = None) -> Any:
            self._check(artifact_path)
            return super().delete_artifacts(artifact_path)  # type: ignore[no-untyped-call]

        def _check(self, path: str | None) -> None:
            if not (Path(self.artifact_dir) / (path or "")).resolve().is_relative_to(root.resolve()):
                raise MlflowException.invalid_parameter_value(
                    f"{self.artifact_uri}: the embedded MLflow reads files of {root} alone."
                )

    readers: dict[str, Any] = get_registered_artifact_repositories()
    for scheme in set(readers) - set(_SCHEMES):
        del readers[scheme]
    readers |= {"": ConfinedRepository, "file": ConfinedRepository}
