"""A ClearML server on this machine, as far as the SDK asks it here; it keeps what it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt

KEYS = {"CLEARML_API_ACCESS_KEY": "an-access-key", "CLEARML_API_SECRET_KEY": "a-key-that-nobody-may-see"}

#: The states of a task after a call.
STATES = {"started": "in_progress", "stopped": "stopped", "completed": "completed", "failed": "failed"}


class ClearmlServer(ThreadingHTTPServer):
    """What it knows: tasks by id, scalars by task and name, all calls with what they say.

    ``how`` is ``well``, ``refuses`` (each login) or ``hangs`` (at each call).
    """

    daemon_threads = True

    def __init__(self, how: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.how = how
        self.over = threading.Event()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.uploads: list[bytes] = []

    @property
    def variables(self) -> dict[str, str]:
        """What names it to a training."""
        address = f"http://127.0.0.1:{self.server_port}"
        hosts = dict.fromkeys(("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST"), address)
        return {"OBSERVABILITY_BACKENDS": "clearml", **hosts, **KEYS}

    def scalars(self, task: str) -> dict[str, dict[int, float]]:
        """The values of a task by ``metric/variant`` and iteration."""
        values: dict[str, dict[int, float]] = {}
        for call, events in self.calls:
            for event in events if call == "events.add_batch" else ():
                if event["task"] == task and event["type"] == "training_stats_scalar":
                    values.setdefault(f"{event['metric']}/{event['variant']}", {})[event["iter"]] = event["value"]
        return values

    def said(self, call: str) -> list[Any]:
        """What each such call said."""
        return [data for name, data in self.calls if name == call]

    def answer(self, call: str, data: Any) -> dict[str, Any]:
        """What it answers to a call."""
        self.calls.append((call, data))
        kind = call.rpartition(".")[2]
        match call:
            case "auth.login":
                claims = {"env": "prod", "api_version": "2.23", "feature_set": "basic", "exp": 4102444800, "iat": 0}
                return {"token": jwt.encode(claims, "k" * 40, algorithm="HS256")}
            case "tasks.create":
                number = f"{len(self.tasks):032x}"
                self.tasks[number] = {**data, "id": number, "status": "created", "execution": {"artifacts": []}}
                return {"id": number}
            case "tasks.get_by_id":
                return {"task": self.tasks.get(data["task"])}
            case "tasks.get_all":
                return {"tasks": [task for task in self.tasks.values() if task["id"] in data["id"]]}
            case "projects.create":
                return {"id": "p1"}
            case "projects.get_all":
                return {"projects": []}
            case "projects.get_by_id":
                return {"project": {"id": "p1", "name": "bolts"}}
            case "events.add_batch":
                return {"added": len(data), "errors": 0}
            case "tasks.edit":
                self.tasks[data["task"]] |= data
            case _ if kind in STATES:
                self.tasks[data["task"]]["status"] = STATES[kind]
        return {"updated": 1, "fields": {}}


class _Handler(BaseHTTPRequestHandler):
    server: ClearmlServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.how == "hangs":
            self.server.over.wait(60)
            self.close_connection = True
            return
        if "multipart" in self.headers.get("Content-Type", ""):
            self.server.uploads.append(body)
            self.reply(200, {})
            return
        call = self.path.rpartition("/")[2]
        if self.server.how == "refuses":
            self.reply(401, {}, "Unauthorized (invalid credentials)")
            return
        lines = [json.loads(line) for line in body.splitlines()]
        self.reply(200, self.server.answer(call, lines if call == "events.add_batch" else lines[0] if lines else {}))

    do_POST = do_PUT = do_GET

    def reply(self, status: int, data: dict[str, Any], said: str = "OK") -> None:
        meta = {"id": "1", "trx": "1", "result_code": status, "result_subcode": 0, "result_msg": said}
        content = json.dumps({"meta": meta, "data": data}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def clearml_server(how: str = "well") -> Iterator[ClearmlServer]:
    """A server that listens until the block ends."""
    with ClearmlServer(how) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
