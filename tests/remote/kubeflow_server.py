"""The part of Kubeflow Pipelines' REST API (v2beta1) that a client of it asks for, over real HTTP and from a real socket.

There is no Kubeflow Pipelines that runs in a test. What it answers is written by its own client's serialisation of its own
models (kfp_server_api), with fields left out as the server leaves out empty ones (protojson without EmitUnpopulated).

Where ``outputs`` is set, it is the page's server too, which passes questions for the metadata store on to it as gRPC-Web.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
import struct
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api as api  # type: ignore[import-untyped]
import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
EPOCH = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class State:
    """What the server holds, and how it was asked. ``failing`` is a status and a message that the next requests get.

    ``outputs`` are those of each run's tasks, a name and its outputs; None where the API's server is reached alone. ``frames`` is what the
    metadata store answers in place of them.
    """

    multi_user: bool = False
    token: str | None = None
    cookie: str | None = None
    login: bool = False
    page: bool = False
    failing: tuple[int, str] | None = None
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring: dict[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] | None = None
    frames: bytes | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)


class KubeflowServer:
    """A running server; ``host`` is its address."""

    def __init__(self) -> None:
        self.state = State()
        state = self.state

        class Handler(_Handler):
            held = state

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def end(self, run: str, state: str, *tasks: Any, error: str | None = None) -> None:
        """Sets a run's state and tasks."""
        result = self.state.runs[run]
        result.state = state
        result.run_details = api.V2beta1RunDetails(task_details=list(tasks))
        result.error = api.GoogleRpcStatus(code=2, message=error) if error else None


def task(name: str, state: str | None, error: str | None = None, node: int = 0, children: tuple[int, ...] = ()) -> Any:
    """A task as KFP tells it: a node of the engine below, named for its pod; its children by their node's id."""
    return api.V2beta1PipelineTaskDetail(
        task_id=str(uuid.uuid4()),
        display_name=name,
        state=state,
        start_time=EPOCH,
        end_time=EPOCH if state == "SUCCEEDED" else datetime(1970, 1, 1, tzinfo=UTC),
        error=api.GoogleRpcStatus(code=2, message=error) if error else None,
        pod_name=f"visionloop-train-x7k2p-system-container-impl-{node or uuid.uuid4().int}",
        child_tasks=[api.PipelineTaskDetailChildTask(pod_name=f"visionloop-train-x7k2p-{child}") for child in children],
    )


class _Handler(BaseHTTPRequestHandler):
    held: State

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(url.path)
        self.held.asked.append((method, path))
        if path == "/login":
            return self._send(200, b"<html>Log in</html>", "text/html")
        if self.held.login and self.held.cookie != self.headers.get("Cookie"):
            self.send_response(302)
            self.send_header("Location", "/login?rd=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if self.held.page:
            return self._send(200, b"<html>A dashboard</html>", "text/html")
        if self.held.token and self.headers.get("authorization") != f"Bearer {self.held.token}":
            return self._fail(401, "Request header error: there is no user identity header.")
        if self.held.failing:
            return self._fail(*self.held.failing)
        if self.held.outputs is not None and path.startswith(METADATA) and self.headers.get("X-Grpc-Web") == "1":
            frames = self._metadata(path.removeprefix(METADATA)) if self.held.frames is None else self.held.frames
            return self._send(200, frames, "application/grpc-web+proto")
        for pattern, called in ROUTES:
            verb, _, route = pattern.partition(" ")
            matched = re.fullmatch(f"/apis/v2beta1{route}", path)
            if verb == method and matched:
                answer = called(self, *matched.groups())
                return None if answer is None else self._send(200, json.dumps(_plain(answer)).encode())
        return self._fail(404, f"{method} {path} not found")

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, message: str) -> Any:
        fields = {"error": message, "code": 2, "message": message, "details": [{"error_message": message}]}
        self._send(status, json.dumps(fields).encode())

    def _metadata(self, method: str) -> bytes:
        """What the metadata store answers: a run's context by its name, or the executions of a context."""
        predicates, runs = self.content[5:], list(self.held.outputs or ())
        assert self.content[:5] == b"\0" + len(predicates).to_bytes(4, "big")
        for number, run in enumerate(runs, 1):
            if method == "GetContextByTypeAndName" and predicates == wire(1, "system.PipelineRun") + wire(2, run):
                return frames(wire(1, wire(1, number) + wire(3, run)))
            if method == "GetExecutionsByContext" and predicates == wire(1, number):
                tasks = enumerate((self.held.outputs or {})[run], 1)
                return frames(b"".join(wire(1, execution(order, *entry)) for order, entry in reversed(list(tasks))))
        return frames(b"")

    def _body(self, kind: type[Any]) -> Any:
        names = {wire: name for name, wire in kind.attribute_map.items()}
        return kind(**{names[wire]: value for wire, value in json.loads(self.content).items()})

    def _filtered(self, held: dict[str, Any], **wanted: Any) -> list[Any]:
        """The objects that a filter of equal texts leaves, in the caller's namespace, newest first."""
        predicates = json.loads(self.query["filter"])["predicates"] if self.query.get("filter") else []
        equal = {entry["key"]: entry["stringValue"] for entry in predicates} | wanted
        return [
            entry
            for entry in reversed(held.values())
            if all(getattr(entry, name, None) == value for name, value in equal.items())
        ]

    def _in_namespace(self, namespace: str | None) -> bool:
        if self.held.multi_user and not namespace:
            self._fail(400, "Namespace is empty. Please specify a valid namespace")
        elif not self.held.multi_user and namespace:
            self._fail(400, "In single-user mode, no namespace may be given")
        else:
            return True
        return False

    def health(self) -> Any:
        return {"multi_user": True} if self.held.multi_user else {}

    def list_pipelines(self) -> Any:
        return {"pipelines": self._filtered(self.held.pipelines)}

    def create_pipeline(self) -> Any:
        made = self._body(api.V2beta1Pipeline)
        if not self._in_namespace(made.namespace):
            return None
        if any(entry.display_name == made.display_name for entry in self.held.pipelines.values()):
            return self._fail(409, "Already exist error: The name visionloop-train already exist.")
        return _keep(self.held.pipelines, made, "pipeline_id")

    def list_versions(self, pipeline: str) -> Any:
        return {"pipeline_versions": self._filtered(self.held.versions, pipeline_id=pipeline)}

    def get_version(self, pipeline: str, version: str) -> Any:
        return self.held.versions.get(version) or self._fail(404, f"PipelineVersion {version} not found")

    def upload_version(self) -> Any:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.content).iter_parts()
        payload: Any = part.get_payload(decode=True)
        specification, *others = yaml.load_all(payload, Loader=LOADER)
        made = api.V2beta1PipelineVersion(
            pipeline_id=self.query["pipelineid"],
            display_name=self.query["name"],
            description=self.query.get("description"),
            pipeline_spec={"pipeline_spec": specification, "platform_spec": others[0]} if others else specification,
        )
        return _keep(self.held.versions, made, "pipeline_version_id")

    def list_experiments(self) -> Any:
        return {"experiments": self._filtered(self.held.experiments)}

    def create_experiment(self) -> Any:
        made = self._body(api.V2beta1Experiment)
        return _keep(self.held.experiments, made, "experiment_id") if self._in_namespace(made.namespace) else None

    def create_run(self) -> Any:
        made = self._body(api.V2beta1Run)
        made.state = "PENDING"
        return _keep(self.held.runs, made, "run_id")

    def list_runs(self) -> Any:
        return {"runs": self._filtered(self.held.runs)}

    def get_run(self, run: str) -> Any:
        return self.held.runs.get(run) or self._fail(404, f"Run {run} not found")

    def terminate_run(self, run: str) -> Any:
        if run not in self.held.runs:
            return self._fail(404, f"Run {run} not found")
        self.held.runs[run].state = "CANCELING"
        return {}

    def create_recurring(self) -> Any:
        made = self._body(api.V2beta1RecurringRun)
        made.status = "ENABLED"
        return _keep(self.held.recurring, made, "recurring_run_id")

    def list_recurring(self) -> Any:
        return {"recurringRuns": self._filtered(self.held.recurring)}

    def set_recurring(self, name: str, verb: str) -> Any:
        if name not in self.held.recurring:
            return self._fail(404, f"RecurringRun {name} not found")
        self.held.recurring[name].status = {"enable": "ENABLED", "disable": "DISABLED"}[verb]
        return {}

    def delete_recurring(self, name: str) -> Any:
        return {} if self.held.recurring.pop(name, None) else self._fail(404, f"RecurringRun {name} not found")


ROUTES = (
    ("GET /healthz", _Handler.health),
    ("GET /pipelines", _Handler.list_pipelines),
    ("POST /pipelines", _Handler.create_pipeline),
    ("POST /pipelines/upload_version", _Handler.upload_version),
    ("GET /pipelines/([^/]+)/versions", _Handler.list_versions),
    ("GET /pipelines/([^/]+)/versions/([^/]+)", _Handler.get_version),
    ("GET /experiments", _Handler.list_experiments),
    ("POST /experiments", _Handler.create_experiment),
    ("POST /runs", _Handler.create_run),
    ("GET /runs", _Handler.list_runs),
    ("GET /runs/([^/]+)", _Handler.get_run),
    ("POST /runs/([^/:]+):terminate", _Handler.terminate_run),
    ("POST /recurringruns", _Handler.create_recurring),
    ("GET /recurringruns", _Handler.list_recurring),
    ("POST /recurringruns/([^/:]+):(enable|disable)", _Handler.set_recurring),
    ("DELETE /recurringruns/([^/]+)", _Handler.delete_recurring),
)


METADATA = "/ml_metadata.MetadataStoreService/"


def frames(message: bytes, status: int = 0) -> bytes:
    """An answer of gRPC-Web: the message, and the status behind it."""
    trailers = f"grpc-status:{status}\r\n".encode()
    return b"".join(
        bytes([kind]) + len(part).to_bytes(4, "big") + part for kind, part in ((0, message), (0x80, trailers))
    )


def wire(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message, as it goes over the wire."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def execution(number: int, task: str, outputs: Mapping[str, Any]) -> bytes:
    """A task's execution (ml_metadata/proto/metadata_store.proto), its outputs a google.protobuf.Struct."""
    values = {
        name: wire(3, value) if isinstance(value, str) else b"\x11" + struct.pack("<d", value)
        for name, value in outputs.items()
    }
    properties = {
        "task_name": wire(3, task),
        "outputs": wire(4, b"".join(wire(1, wire(1, name) + wire(2, value)) for name, value in values.items())),
    }
    return wire(1, number) + b"".join(wire(5, wire(1, name) + wire(2, value)) for name, value in properties.items())


def _keep(held: dict[str, Any], made: Any, identity: str) -> Any:
    name = str(uuid.uuid4())
    setattr(made, identity, name)
    made.created_at = EPOCH
    held[name] = made
    return made


def _plain(answer: Any) -> Any:
    """JSON without empty fields, by the client's own serialisation."""
    return _without_empty(api.ApiClient().sanitize_for_serialization(answer))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(entry) for name, entry in value.items() if entry not in (None, [])}
    return [_without_empty(entry) for entry in value] if isinstance(value, list) else value
