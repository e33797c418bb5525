"""The connection to MLflow: its client, imported on first use, and its errors turned into ours.

Importing mlflow costs seconds, so nothing here does it at module level. Telemetry is turned off before the import.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from visionloop.core import texts
from visionloop.core.errors import AccessDenied, InvalidConfig, Transient, VisionloopError, shortened
from visionloop.core.packages import not_installed
from visionloop.training.tracking.address import check_address, shown

#: Set before mlflow is imported. Its own retries of a request take minutes, during which a training would stop.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Its lines go through our own handler, and lose the secrets there.
    "MLFLOW_CONFIGURE_LOGGING": "false",
}
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

#: The most characters of a library's own text in a sentence.
LONGEST_TEXT = 300


def tracking_uri(environment: Mapping[str, str]) -> str:
    """MLflow's tracking URI, empty if none is set."""
    return environment.get("MLFLOW_TRACKING_URI", "").strip()


def registry_uri(environment: Mapping[str, str]) -> str:
    """The model registry's URI: its own variable, else the tracking URI."""
    return environment.get("MLFLOW_REGISTRY_URI", "").strip() or tracking_uri(environment)


def check_addresses(environment: Mapping[str, str]) -> None:
    """Checks the form of the addresses that are set. Raises InvalidConfig with the URI that would do."""
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        if uri := environment.get(variable, "").strip():
            check_address(uri, variable)


def is_server(uri: str) -> bool:
    """Whether MLflow is reached over HTTP."""
    return uri.startswith(("http://", "https://"))


def connect(environment: Mapping[str, str]) -> Any:
    """An ``mlflow.MlflowClient`` of this environment.

    Raises:
        InvalidConfig: If no MLflow is configured, or a package that its URI needs is not installed.
        Transient: If it does not answer.
    """
    uri = tracking_uri(environment)
    if not uri:
        raise InvalidConfig("There is no MLflow: set MLFLOW_TRACKING_URI, such as http://mlflow:5000.")
    check_addresses(environment)
    prepare_import()
    with mlflow_errors(uri), quiet_import():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=registry_uri(environment))


def prepare_import() -> None:
    """Sets the variables that mlflow reads when it is first imported: no telemetry above all."""
    os.environ.update(SETTINGS)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hides mlflow's warnings about itself (its own type hints among them) from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turns mlflow's exceptions into the errors of ``visionloop.core.errors``; a VisionloopError passes unchanged."""
    try:
        yield
    except VisionloopError:
        raise
    except ImportError as error:
        raise not_installed(error, f"MLFLOW_TRACKING_URI {shown(uri)}") from error
    except Exception as error:
        mapped = _mapped(error, uri)
        if mapped is None:
            raise
        raise mapped from error


def error_code(error: Exception) -> str:
    """MLflow's own code of an error, empty for another library's."""
    return str(getattr(error, "error_code", ""))


def describe(error: BaseException) -> str:
    """An error in one line, without secrets."""
    if isinstance(error, VisionloopError):
        return error.sentence
    return shortened(texts.sentence(str(error)) or type(error).__name__, LONGEST_TEXT)


_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
_OUT = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "UNAVAILABLE")


def _mapped(error: Exception, uri: str) -> VisionloopError | None:
    """Our error for one of mlflow's, requests' or the database's; None for an unexpected one."""
    text, code, names = describe(error), error_code(error), {kind.__name__ for kind in type(error).__mro__}
    # An answer without a code of MLflow's has its status in the text alone.
    in_text = re.search(r"error code ([1-5]\d\d)\b", text)
    status = _status(error) or (int(in_text[1]) if in_text else None)
    if code in _DENIED or status in (401, 403):
        where = ", in the Secret visionloop-registry" if "KUBERNETES_SERVICE_HOST" in os.environ else ""
        return AccessDenied(
            f"{shown(uri)}: MLflow refused access ({text}); check MLFLOW_TRACKING_USERNAME and …PASSWORD, or …TOKEN{where}."
        )
    # MLflow creates the folder of a SQLite file, and has no error of its own if it can't.
    no_folder = isinstance(error, OSError) and not is_server(uri)
    if no_folder or "unable to open database file" in text or "readonly database" in text:
        return InvalidConfig(
            f"MLFLOW_TRACKING_URI {shown(uri)}: the database can't be opened or written; correct the path or its permissions."
        )
    if "Databricks credential configuration failed" in text:
        return InvalidConfig(
            f"MLFLOW_TRACKING_URI {shown(uri)}: MLflow finds no account of Databricks; set DATABRICKS_HOST and DATABRICKS_TOKEN, or a profile, and install databricks-sdk."
        )
    out_of_reach = re.search(
        r"Max retries exceeded|Connection refused|Connection aborted|timed out|database is locked|Name or service not known",
        text,
    )
    if code in _OUT or (status or 0) >= 500 or out_of_reach or names & {"ConnectionError", "Timeout"}:
        return Transient(f"{shown(uri)}: MLflow does not answer ({text}); see that it runs and is reached.")
    if "UnsupportedModelRegistryStoreURIException" in names or re.search(
        r"(Unsupported|Model registry functionality is unavailable|invalid.*tracking.*uri)", text, re.I
    ):
        return InvalidConfig(
            f"MLFLOW_TRACKING_URI {shown(uri)}: MLflow has no model registry there; give an http:// or sqlite:/// URI."
        )
    if not is_mlflows(error):
        return None
    if _is_final(status, code):
        return InvalidConfig(f"{shown(uri)}: MLflow refuses the request ({text}); is this an MLflow 3.17 or newer?")
    return Transient(f"{shown(uri)}: MLflow failed ({text}); see its log, and that this is its address.")


#: Codes of MLflow's for a request that will never succeed as it is.
_FINAL = (
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)

#: What MLflow is made of: an exception that came through one of these is its own, not a defect of ours.
_LIBRARIES = ("mlflow", "requests", "urllib3", "sqlalchemy", "alembic")


def is_mlflows(error: BaseException) -> bool:
    """Whether an exception's class or its traceback belongs to MLflow or to what it is made of."""
    if any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__):
        return True
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES:
            return True
        frame = frame.tb_next
    return False


def _is_final(status: int | None, code: str) -> bool:
    """Whether an error stays the same however often the request is sent."""
    return code in _FINAL or (status is not None and 400 <= status < 500 and status not in (408, 429))


def _status(error: Exception) -> int | None:
    """The HTTP status of an error."""
    getter = getattr(error, "get_http_status_code", None)
    response = getattr(error, "response", None)
    if response is not None and isinstance(getattr(response, "status_code", None), int):
        return int(response.status_code)
    # MLflow sets 500 for anything without a better code; only the status of a server's own answer counts.
    return int(getter()) if getter is not None and error_code(error) not in ("INTERNAL_ERROR", "") else None
