"""Access to Argo Workflows: through the Kubernetes API, or through Argo's server if ARGO_SERVER names one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import urllib3

from visionloop.core.errors import AccessDenied, InvalidConfig, Transient, shortened

#: Argo's server, by the variables of its command line (https://argo-workflows.readthedocs.io/en/latest/cli/argo/).
SERVER_VARIABLE = "ARGO_SERVER"
TOKEN_VARIABLE = "ARGO_TOKEN"  # noqa: S105 - the name of a variable
SECURE_VARIABLE = "ARGO_SECURE"
INSECURE_VARIABLE = "ARGO_INSECURE_SKIP_VERIFY"
PATH_VARIABLE = "ARGO_BASE_HREF"

#: Seconds to connect, and to wait for an answer.
TIMEOUT = (5.0, 30.0)

_GROUP = "/apis/argoproj.io/v1alpha1"

#: How a run is ended: its pods at once, but not its exit handler, which tells and cleans up (Terminate would end that too).
SHUTDOWN = "Stop"

# Not CustomObjectsApi: pods and Kueue's group are read too, and one call gives all of them the same time limits and errors.
# Not Hera's service: its requests have no time limit, and its models drop the fields of an answer that they don't know.


class Refused(Exception):
    """The server answered with an error; ``status`` is HTTP's. Never leaves ``pipelines.engines.argo``."""

    def __init__(self, status: int, message: str) -> None:
        """``message`` is the server's."""
        super().__init__(message)
        self.status = status


class Client(Protocol):
    """The requests to Argo, whichever API takes them.

    Every method raises Transient if nothing answers, AccessDenied if the caller lacks the rights, and Refused for the rest.
    """

    def template(self, namespace: str, name: str) -> dict[str, Any]:
        """A WorkflowTemplate."""
        ...

    def create(self, namespace: str, workflow: Mapping[str, Any]) -> dict[str, Any]:
        """Starts a workflow, and returns it as stored."""
        ...

    def workflow(self, namespace: str, name: str) -> dict[str, Any]:
        """A workflow."""
        ...

    def shut_down(self, namespace: str, name: str) -> None:
        """Ends a workflow's pods at once; its exit handler runs."""
        ...

    def queued(self, namespace: str, workflow: str, node: str) -> str | None:
        """Why a queue holds back the pod of a node; None if none does, or the reason can't be read."""
        ...

    def page(self, namespace: str, name: str) -> str | None:
        """The address of a workflow's page."""
        ...


def connect(host: str | None = None) -> Client:
    """The client for this environment: Argo's server at ``host``, else at ARGO_SERVER, else the Kubernetes API.

    Raises:
        InvalidConfig: If no cluster is configured, or a variable can't be used.
    """
    server = host or os.environ.get(SERVER_VARIABLE)
    return ArgoServer(server) if server else KubernetesApi()


class KubernetesApi:
    """Argo's objects through the Kubernetes API, with the rights of KUBECONFIG, or of the pod that this runs in."""

    def __init__(self) -> None:
        """Reads the configuration; sends no request yet."""
        from kubernetes.client import ApiClient

        self._client = ApiClient(_configuration())

    def template(self, namespace: str, name: str) -> dict[str, Any]:
        """A WorkflowTemplate."""
        return self._call("GET", f"{_GROUP}/namespaces/{_in_path(namespace)}/workflowtemplates/{_in_path(name)}")

    def create(self, namespace: str, workflow: Mapping[str, Any]) -> dict[str, Any]:
        """Starts a workflow."""
        return self._call("POST", f"{_GROUP}/namespaces/{_in_path(namespace)}/workflows", body=workflow)

    def workflow(self, namespace: str, name: str) -> dict[str, Any]:
        """A workflow."""
        return self._call("GET", f"{_GROUP}/namespaces/{_in_path(namespace)}/workflows/{_in_path(name)}")

    def shut_down(self, namespace: str, name: str) -> None:
        """Ends a workflow's pods at once, as ``argo stop`` does."""
        path = f"{_GROUP}/namespaces/{_in_path(namespace)}/workflows/{_in_path(name)}"
        # A merge: the controller changes the workflow all the time.
        self._call("PATCH", path, body={"spec": {"shutdown": SHUTDOWN}}, content_type="application/merge-patch+json")

    def queued(self, namespace: str, workflow: str, node: str) -> str | None:
        """Why Kueue holds a node's pod back, as its Workload reports it."""
        with contextlib.suppress(AccessDenied, Refused):
            path = f"/api/v1/namespaces/{_in_path(namespace)}/pods"
            listed = self._call("GET", path, {"labelSelector": f"workflows.argoproj.io/workflow={workflow}"})
            for pod in listed.get("items") or ():
                if pod["metadata"].get("annotations", {}).get("workflows.argoproj.io/node-id") == node:
                    return self._why_gated(namespace, pod)
        return None

    def page(self, namespace: str, name: str) -> str | None:
        """The Kubernetes API has no pages."""
        return None

    def _why_gated(self, namespace: str, pod: Mapping[str, Any]) -> str | None:
        gates = [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]
        if not gates:
            return None
        queue = pod["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        if queue is None:
            return f"held back by {', '.join(gates)}"
        reason = None
        with contextlib.suppress(AccessDenied, Refused):
            group = self._call("GET", "/apis/kueue.x-k8s.io")["preferredVersion"]["groupVersion"]
            path = f"/apis/{group}/namespaces/{_in_path(namespace)}/workloads"
            selector = f"kueue.x-k8s.io/job-uid={pod['metadata']['uid']}"
            for workload in self._call("GET", path, {"labelSelector": selector}).get("items") or ():
                reason = _why_queued(workload)
        return f"in Kueue's queue {queue}" + (f": {reason}" if reason else "")

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        from kubernetes.client import ApiException

        where = str(self._client.configuration.host)
        with _unreachable(where):
            try:
                answer = self._client.call_api(
                    path,
                    method,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    response_type="object",
                    auth_settings=["BearerToken"],
                    _return_http_data_only=True,
                    _request_timeout=TIMEOUT,
                )
            except ApiException as error:
                raise _refusal(where, int(error.status or 0), error.body or error.reason or "") from None
        return dict(answer)


class ArgoServer:
    """Argo's own API, for callers who may not, or can't, use the Kubernetes API."""

    def __init__(self, address: str) -> None:
        """``address`` is HOST:PORT, or a URL."""
        scheme = "https" if _true(SECURE_VARIABLE, True) else "http"
        self._url = (address if "://" in address else f"{scheme}://{address}").rstrip("/")
        path = os.environ.get(PATH_VARIABLE, "").strip("/")
        if path and not urlsplit(self._url).path:
            self._url += f"/{path}"
        if urlsplit(self._url).scheme not in ("http", "https") or not urlsplit(self._url).hostname:
            raise InvalidConfig(f"{SERVER_VARIABLE} is '{address}'; give HOST:PORT or the URL of Argo's server.")
        trusting = _true(INSECURE_VARIABLE, False)
        if trusting:
            # The caller asked for it by name; a line for each request would drown the run's own.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._pool = urllib3.PoolManager(cert_reqs="CERT_NONE" if trusting else "CERT_REQUIRED")

    def template(self, namespace: str, name: str) -> dict[str, Any]:
        """A WorkflowTemplate."""
        return self._call("GET", f"workflow-templates/{_in_path(namespace)}/{_in_path(name)}")

    def create(self, namespace: str, workflow: Mapping[str, Any]) -> dict[str, Any]:
        """Starts a workflow."""
        body = {
            "namespace": namespace,
            "workflow": {**workflow, "metadata": {**workflow["metadata"], "namespace": namespace}},
        }
        return self._call("POST", f"workflows/{_in_path(namespace)}", body)

    def workflow(self, namespace: str, name: str) -> dict[str, Any]:
        """A workflow; Argo's server also knows the archived ones."""
        return self._call("GET", f"workflows/{_in_path(namespace)}/{_in_path(name)}")

    def shut_down(self, namespace: str, name: str) -> None:
        """Ends a workflow's pods at once, as ``argo stop`` does."""
        path = f"workflows/{_in_path(namespace)}/{_in_path(name)}/{SHUTDOWN.lower()}"
        self._call("PUT", path, {"namespace": namespace, "name": name})

    def queued(self, namespace: str, workflow: str, node: str) -> str | None:
        """Argo's server shows no pods."""
        return None

    def page(self, namespace: str, name: str) -> str | None:
        """The workflow's page."""
        return f"{self._url}/workflows/{_in_path(namespace)}/{_in_path(name)}"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = token if " " in token.strip() else f"Bearer {token}"
        with _unreachable(self._url):
            answer = self._pool.request(
                method,
                f"{self._url}/api/v1/{path}",
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(*TIMEOUT),
                retries=False,
            )
        if answer.status >= 300:
            raise _refusal(self._url, answer.status, answer.data.decode(errors="replace"))
        try:
            return dict(json.loads(answer.data))
        except (ValueError, TypeError):
            raise InvalidConfig(
                f"{self._url}: what answers there is not Argo's server; correct {SERVER_VARIABLE}."
            ) from None


def _configuration() -> Any:
    """The client's configuration from KUBECONFIG, else ``~/.kube/config``, else the pod's own service account.

    Raises:
        InvalidConfig: If there is none, or it can't be read.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    # A run's state is read again and again anyway; the library's own retries would write a warning each.
    configuration.retries = urllib3.Retry(0)
    named = os.environ.get("KUBECONFIG")
    files = named or str(Path("~/.kube/config").expanduser())
    if not any(Path(file).is_file() for file in files.split(os.pathsep)):
        if named:
            raise InvalidConfig(
                f"KUBECONFIG is '{named}', and there is no such file; correct it or set {SERVER_VARIABLE}."
            )
        if not os.environ.get("KUBERNETES_SERVICE_HOST"):
            raise InvalidConfig(
                f"Nothing says where the cluster is: set KUBECONFIG, or {SERVER_VARIABLE} for Argo's own server."
            )
        files = ""
    try:
        if files:
            config.load_kube_config(config_file=files, client_configuration=configuration, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except Exception as error:  # the library raises whatever YAML, files and plugins raise
        raise InvalidConfig(
            f"{files or 'the service account'}: the cluster's configuration can't be used ({error})."
        ) from error
    return configuration


@contextlib.contextmanager
def _unreachable(where: str) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, urllib3.exceptions.SSLError):
            raise AccessDenied(f"{where}: its certificate is not trusted here ({cause}).") from error
        raise Transient(f"{where}: the cluster does not answer ({_plain(cause)}).") from error


def _plain(cause: object) -> str:
    """The last part of a connection's error, without the library's object before it."""
    return str(cause).rsplit(">: ", 1)[-1].rsplit("): ", 1)[-1]


def _refusal(where: str, status: int, answer: str) -> Exception:
    """The exception for an answer with an HTTP error."""
    message = answer
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        message = str(json.loads(answer).get("message") or answer)
    message = shortened(" ".join(message.split()), 300)
    if status in (401, 403):
        return AccessDenied(f"{where}: access refused ({message}); ask for the right, or correct the credentials.")
    if status == 429 or status >= 500:
        return Transient(f"{where}: the cluster is out ({status}: {message}).")
    return Refused(status, message)


def _why_queued(workload: Mapping[str, Any]) -> str | None:
    """Why a Workload waits, in its own words (https://kueue.sigs.k8s.io/docs/tasks/troubleshooting/troubleshooting_jobs/)."""
    conditions = {condition["type"]: condition for condition in workload.get("status", {}).get("conditions") or ()}
    for kind in ("QuotaReserved", "Admitted"):
        condition = conditions.get(kind)
        if condition and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "") or None
    return None


def _in_path(name: str) -> str:
    return quote(name, safe="")


def _true(variable: str, default: bool) -> bool:
    value = os.environ.get(variable)
    if not value:
        return default
    if value.lower() not in ("true", "false", "1", "0"):
        raise InvalidConfig(f"{variable} is '{value}'; give true or false.")
    return value.lower() in ("true", "1")
