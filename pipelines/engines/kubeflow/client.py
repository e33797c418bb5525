"""Access to a Kubeflow Pipelines server: its address, the caller's credentials, and its errors as Visionloop's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from visionloop.core import secrets
from visionloop.core.errors import AccessDenied, InvalidConfig, Transient, VisionloopError
from visionloop.core.logs import notice

#: Where the server is, without ``--host``: the variables of KFP's client and of its command line.
HOST_VARIABLES = ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT")

#: Where the page is, if not at the server's address: a variable of KFP's client.
PAGE_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"

#: The user's namespace without ``--namespace``, and a bearer token: variables of KFP's command line.
NAMESPACE_VARIABLE = "KFP_NAMESPACE"
TOKEN_VARIABLE = "KFP_EXISTING_TOKEN"  # noqa: S105 - the name of a variable

#: The cookies of a session behind a login page, as a Cookie header holds them.
COOKIES_VARIABLE = "KFP_COOKIES"

#: The file of a service account's token, renewed by the kubelet: a variable of KFP's client.
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the name of a variable

#: Certificates to trust in place of certifi's: OpenSSL's variable.
CERTIFICATES_VARIABLE = "SSL_CERT_FILE"

#: Seconds to connect, and to wait for an answer.
TIMEOUT = (10, 60)

#: The most characters of the server's own message in a sentence.
LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Connection:
    """A server that has answered as Kubeflow Pipelines.

    Attributes:
        client: A ``kfp.Client``.
        host: Its address, for people.
        namespace: The user's namespace; None if the installation has no users.
    """

    client: Any
    host: str
    namespace: str | None

    def page(self, run: str) -> str:
        """The address of a run's page, by the run's id."""
        base = os.environ.get(PAGE_VARIABLE) or self.host
        return f"{base.rstrip('/')}/#/runs/details/{run}"

    @contextlib.contextmanager
    def asking(self, missing: str | None = None) -> Iterator[None]:
        """Turns the client's exceptions into Visionloop's; ``missing`` is the message if the server has no such object.

        Raises:
            AccessDenied: If the server refuses the caller.
            Transient: If it can't be reached, or is out of service.
            InvalidConfig: If it refuses the request, or has no such object.
        """
        with _asking(self.host, missing):
            yield


def connect(host: str | None = None, namespace: str | None = None) -> Connection:
    """Connects to a server, as ``kfp.Client`` does, and checks that it answers.

    Args:
        host: Its address, else that of ``HOST_VARIABLES``, else in a cluster the service ``ml-pipeline``.
        namespace: The user's namespace if there are several users, else ``KFP_NAMESPACE``'s, else that of KFP's own context.

    Raises:
        InvalidConfig: If there is no address, something else answers there, or it serves several users and no namespace is given.
        AccessDenied: If it refuses the caller, or shows a login page.
        Transient: If it can't be reached.
    """
    endpoint = host or next((value for name in HOST_VARIABLES if (value := os.environ.get(name))), None)
    if not endpoint and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise InvalidConfig(
            f"Kubeflow Pipelines needs an address: give --host (such as https://kubeflow.example.com/pipeline) or set {HOST_VARIABLES[0]}."
        )
    address = endpoint if endpoint is None or "://" in endpoint else f"https://{endpoint}"
    shown = (address or "ml-pipeline in this cluster").rstrip("/")
    with _asking(shown):
        client = _client()(
            host=address,
            existing_token=os.environ.get(TOKEN_VARIABLE) or None,
            cookies=os.environ.get(COOKIES_VARIABLE) or None,
            ssl_ca_cert=os.environ.get(CERTIFICATES_VARIABLE) or None,
            credentials=_service_account(),
        )
        several = bool(client.get_kfp_healthz().multi_user)
    wanted = namespace or os.environ.get(NAMESPACE_VARIABLE) or client.get_user_namespace() or None
    if several and not wanted:
        raise InvalidConfig(
            f"{shown}: Kubeflow Pipelines serves several users there; give --namespace or set {NAMESPACE_VARIABLE}."
        )
    if namespace and not several:
        notice(f"{shown}: Kubeflow Pipelines has no users' namespaces there; --namespace {namespace} is not used")
    return Connection(client, shown, wanted if several else None)


def _client() -> Any:
    """KFP's client, with a health check that asks once and distinguishes a page from the API."""
    # kfp takes a second to import, and only runs on an engine need it.
    import kfp

    class Client(kfp.Client):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            _give_up_in_time(self._healthz_api.api_client.rest_client)

        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
            # KFP's own tries five times whatever the answer, and accepts any page that a proxy shows.
            answer, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(_request_timeout=TIMEOUT)
            if "json" not in headers.get("Content-Type", ""):
                raise _no_api(self._healthz_api.api_client)
            return answer

    return Client


def _give_up_in_time(rest_client: Any) -> None:
    """Gives every request a timeout: the generated client has none, and most of KFP's own methods take none."""
    request = rest_client.request

    def in_time(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        return request(*arguments, _request_timeout=_request_timeout or TIMEOUT, **named)

    rest_client.request = in_time


def _no_api(api_client: Any) -> VisionloopError:
    host = api_client.configuration.host
    last = api_client.last_response.urllib3_response
    if last.retries is not None and last.retries.history:
        login = urlsplit(last.geturl() or "")
        return AccessDenied(
            f"{host}: asks for a login ({login.netloc}{login.path}); give a token in {TOKEN_VARIABLE}, or a session's cookies in {COOKIES_VARIABLE}."
        )
    return InvalidConfig(
        f"{host}: answers with a page, not as the API of Kubeflow Pipelines; correct --host (on a whole Kubeflow it ends with /pipeline)."
    )


def _service_account() -> Any:
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    if not path:
        return None
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    with contextlib.suppress(OSError, UnicodeDecodeError):
        secrets.remember(Path(path).read_text(encoding="utf-8"))
    return ServiceAccountTokenVolumeCredentials(path)


@contextlib.contextmanager
def _asking(host: str, missing: str | None = None) -> Iterator[None]:
    import urllib3
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    try:
        with warnings.catch_warnings():
            # It warns of servers older than any that we support.
            warnings.simplefilter("ignore")
            yield
    except ApiException as error:
        raise _refusal(error, host, missing) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.SSLError):
            raise _unsafe(host, str(cause)) from error
        # The library's own object precedes the cause.
        reason = _short(re.sub(r"^\w+\(.*?\): ", "", str(cause)))
        raise Transient(
            f"{host}: Kubeflow Pipelines can't be reached ({reason}); see that it runs and that the address is right."
        ) from error


def _refusal(error: Any, host: str, missing: str | None) -> VisionloopError:
    message = _message(error)
    match error.status:
        case 401 | 403:
            return AccessDenied(
                f"{host}: Kubeflow Pipelines refuses access ({error.status}: {message}); correct the token in {TOKEN_VARIABLE}, the cookies in {COOKIES_VARIABLE} or the rights in the namespace."
            )
        case 404 if missing:
            return InvalidConfig(f"{host}: {missing}")
        case status if status == 429 or status >= 500:
            return Transient(
                f"{host}: Kubeflow Pipelines does not answer at the moment ({status}: {message}); try again."
            )
        case 0:
            return _unsafe(host, message)
    return InvalidConfig(f"{host}: Kubeflow Pipelines refuses this ({error.status}: {message}).")


def _unsafe(host: str, message: str) -> VisionloopError:
    return AccessDenied(
        f"{host}: no safe connection ({_short(message)}); correct --host, or name the file with its authority's certificates in {CERTIFICATES_VARIABLE}."
    )


def _message(error: Any) -> str:
    """The server's message for an error: from JSON with details, as text, or only the reason."""
    text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(text)
        details = [str(detail.get("error_message") or "") for detail in answer.get("details") or []]
        text = next(
            filter(None, [*details, answer.get("error_message"), answer.get("message"), answer.get("error")]), ""
        )
    return _short(text if text and not text.lstrip().startswith("<") else str(error.reason))


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_MESSAGE else f"{words[: LONGEST_MESSAGE - 1]}…"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the client's own lines ("Run details: …") off stdout, where a command prints its result."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
