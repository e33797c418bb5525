"""``visionloop serve``: what clients send and are answered, and what harms neither the server nor the next client."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_detector import ToyPredictor
from untrained import photograph, register

from visionloop.core.errors import InvalidConfig, OutOfMemory, VisionloopError
from visionloop.pipelines.cli.main import application
from visionloop.pipelines.serving import requests, server
from visionloop.pipelines.serving.application import JSON_LENGTH, Limits, Served
from visionloop.pipelines.serving.requests import Refused
from visionloop.registry import Registry

TOKEN = "a-token-of-the-tests"
NAME = "served"
LEAST = {"confidence": 0.001}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photograph(tmp_path_factory.mktemp("pictures") / "a.png")


@pytest.fixture(scope="module")
def text(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


class Process:
    """The command in a process of its own, on a free port."""

    def __init__(self, folder: Path, mlflow: str, *words: str) -> None:
        code = "from visionloop.pipelines.cli import main; main()"
        self.log = folder / "log"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow, "VISIONLOOP_SERVE_TOKEN": TOKEN}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "serve", *words, "--port", "0"], stdout=log, stderr=log, env=environment
            )
        while "is served at" not in self.said:
            assert self.process.poll() is None, self.said
            time.sleep(0.05)
        self.port = int(self.said.partition("is served at http://")[2].split()[0].rpartition(":")[2])

    @property
    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="module")
def running(mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("serve")
    mlflow = f"sqlite:///{mlflow_database}"
    registry = Registry({"MLFLOW_TRACKING_URI": mlflow})
    register(registry, "torchvision", "detection", NAME, folder)
    process = Process(folder, mlflow, f"{NAME}@champion")
    yield process
    if process.process.poll() is None:
        process.process.kill()
        process.process.wait()


Ask = Callable[..., tuple[int, Any, Mapping[str, str]]]


def asking(port: int, token: str | None = TOKEN) -> Ask:
    """Asks the server of a port: status, the JSON of the answer (its bytes where it is none) and its headers."""

    def ask(path: str, body: Any = None, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent |= {"Content-Type": "application/json"} if data is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if data is None else "POST", path, data, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        with contextlib.suppress(ValueError):
            content = json.loads(content)
        return answer.status, content, dict(answer.getheaders())

    return ask


@pytest.fixture
def ask(running: Process) -> Ask:
    return asking(running.port)


def test_health_needs_no_token_and_all_else_does(running: Process, text: str) -> None:
    stranger = asking(running.port, None)
    for path in ("/ping", "/v2/health/live", "/v2/health/ready"):
        assert stranger(path)[0] == 200
    for path, body in (("/invocations", {"inputs": [text]}), (f"/v2/models/{NAME}", None), ("/v2", None)):
        for token in (None, "wrong", TOKEN[:-1], ""):
            status, answer, _ = asking(running.port, token)(path, body)
            assert (status, answer["error"]) == (401, "Send the server's token: Authorization: Bearer TOKEN.")


INVOCATIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "inputs": lambda text: {"inputs": [text, text]},
    "instances": lambda text: {"instances": [text, text]},
    "objects": lambda text: {"instances": [{"image": text}, {"image": {"b64": text}}]},
    "TensorFlow's": lambda text: {"instances": [{"b64": text}, {"b64": text}]},
    "a column": lambda text: {"inputs": {"image": [text, text]}},
    "split": lambda text: {"dataframe_split": {"columns": ["id", "image"], "data": [[1, text], [2, text]]}},
    "records": lambda text: {"dataframe_records": [{"image": text}, {"image": text}]},
    "data URL": lambda text: {"inputs": [f"data:image/png;base64,{text}", text]},
}


@pytest.mark.parametrize("form", INVOCATIONS)
def test_each_form_of_an_invocation_gives_the_same_answer(ask: Ask, text: str, form: str) -> None:
    status, answer, _ = ask("/invocations", INVOCATIONS[form](text) | {"params": LEAST})
    assert status == 200, answer
    first, second = answer["predictions"]
    assert first == second
    assert set(first[0]) == {"class", "class_index", "confidence", "box"}
    assert max(first[0]["box"]) <= 96


def test_metadata_and_inference_of_the_open_protocol(ask: Ask, text: str) -> None:
    status, metadata, _ = ask(f"/v2/models/{NAME}")
    assert status == 200
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == (NAME, ["1"], "visionloop_torchvision")
    (tensor,) = metadata["inputs"]
    assert ask(f"/v2/models/{NAME}/ready")[0] == ask(f"/v2/models/{NAME}/versions/1/ready")[0] == 200
    body = {"id": "7", "parameters": LEAST, "inputs": [{**tensor, "shape": [2], "data": [text, text]}]}
    status, answer, _ = ask(f"/v2/models/{NAME}/versions/1/infer", body)
    assert status == 200, answer
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (NAME, "1", "7")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predictions", "BYTES", [2])
    expected = ask("/invocations", {"inputs": [text], "params": LEAST})[1]["predictions"][0]
    assert [json.loads(element) for element in output["data"]] == [expected, expected]


@pytest.mark.parametrize("base64_text", [False, True], ids=["files", "base64"])
def test_the_binary_form_of_tritons_client(ask: Ask, picture: Path, text: str, base64_text: bool) -> None:
    element = text.encode() if base64_text else picture.read_bytes()
    data = len(element).to_bytes(4, "little") + element
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    wanted = [{"name": "predictions", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted, "parameters": LEAST}).encode()
    headers = {JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    status, content, received = ask(f"/v2/models/{NAME}/infer", head + data, **headers)
    assert status == 200, content
    length = int({name.lower(): value for name, value in received.items()}[JSON_LENGTH.lower()])
    (output,) = json.loads(content[:length])["outputs"]
    behind = content[length:]
    assert output["parameters"] == {"binary_data_size": len(behind)}
    assert int.from_bytes(behind[:4], "little") == len(behind) - 4
    assert json.loads(behind[4:])[0]["class"] in ("dim", "bright")


def test_pixels_are_taken_as_a_tensor(ask: Ask, text: str, picture: Path) -> None:
    from visionloop.data.decoding import decode

    pixels = decode(picture.read_bytes())
    expected = ask("/invocations", {"inputs": [text], "params": LEAST})[1]["predictions"][0]
    for shape, data in (
        (pixels.shape, pixels.reshape(-1).tolist()),
        ((1, *pixels.shape), [pixels.tolist()]),
    ):
        tensor = {"name": "image", "shape": shape, "datatype": "UINT8", "data": data}
        status, answer, _ = ask(f"/v2/models/{NAME}/infer", {"inputs": [tensor], "parameters": LEAST})
        assert status == 200, answer
        assert json.loads(answer["outputs"][0]["data"][0]) == expected


def test_no_path_and_no_uri_is_opened(ask: Ask, picture: Path) -> None:
    for wanted in (str(picture), picture.as_uri(), "s3://bucket/a.png", "http://127.0.0.1:1/a.png"):
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [wanted]}
        for path, body in (("/invocations", {"inputs": [wanted]}), (f"/v2/models/{NAME}/infer", {"inputs": [tensor]})):
            status, answer, _ = ask(path, body)
            assert (status, "takes base64 alone" in answer["error"]) == (400, True)


def v2(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | tensor]}


WRONG: dict[str, tuple[str, Any, dict[str, str], int, str]] = {
    "HTML": ("/invocations", b"<html><body>Sign in</body></html>", {}, 400, "The body is not JSON"),
    "a form": ("/invocations", b"a=b", {"Content_Type": "text/plain"}, 415, "Content-Type is not application/json"),
    "gzip": ("/invocations", b"\x1f\x8b", {"Content_Encoding": "gzip"}, 415, "Content-Encoding"),
    "nothing": ("/invocations", b"", {}, 400, "The body is not JSON"),
    "no object": ("/invocations", [1], {}, 400, "The body is not an object"),
    "nested": ("/invocations", b"[" * 100_000, {}, 400, "The body is not JSON"),
    "no images": ("/invocations", {"params": {}}, {}, 400, "The body has no images"),
    "two forms": ("/invocations", {"inputs": [], "instances": []}, {}, 400, "has inputs and instances"),
    "an empty list": ("/invocations", {"inputs": []}, {}, 400, "There is no image"),
    "many": ("/invocations", {"inputs": ["AAAA"] * 129}, {}, 400, "more than 128 images"),
    "numbers": ("/invocations", {"inputs": [[1, 2]]}, {}, 400, "neither a base64 text nor an object"),
    "broken base64": ("/invocations", {"inputs": ["AAA*"]}, {}, 400, "Image 1 of 1 is a text that is not base64"),
    "no picture": ("/invocations", {"inputs": ["AAAA"]}, {}, 400, "Image 1 of 1 is not a PNG"),
    "a table": ("/invocations", {"dataframe_split": {"columns": ["a"], "data": []}}, {}, 400, "has no column image"),
    "a short row": ("/invocations", {"dataframe_split": {"columns": ["image"], "data": [[]]}}, {}, 400, "another length"),
    "a parameter": ("/invocations", {"inputs": ["AAAA"], "params": {"masks": True}}, {}, 400, "'masks' is not a parameter"),
    "a text": ("/invocations", {"inputs": ["AAAA"], "params": {"confidence": "1"}}, {}, 400, "confidence is not a number"),
    "too sure": ("/invocations", {"inputs": ["AAAA"], "params": {"confidence": 2}}, {}, 400, "give a number from 0 to 1"),
    "a route": ("/v1/models", None, {}, 404, "There is no GET /v1/models here"),
    "a method": ("/invocations", None, {}, 405, "There is no GET /invocations here"),
    "a model": ("/v2/models/other/infer", v2(), {}, 404, "this server has served, version 1"),
    "a version": ("/v2/models/served/versions/2/infer", v2(), {}, 404, "this server has served, version 1"),
    "no tensor": ("/v2/models/served/infer", {"inputs": []}, {}, 400, "not a list of one tensor"),
    "a shape": ("/v2/models/served/infer", v2(shape=[-1]), {}, 400, "not a list of whole numbers"),
    "many sides": ("/v2/models/served/infer", v2(shape=[2] * 9), {}, 400, "has 9 sides; give at most 8"),
    "another shape": ("/v2/models/served/infer", v2(shape=[2]), {}, 400, "has 1 elements, and its shape says 2"),
    "a datatype": ("/v2/models/served/infer", v2(datatype="FP32"), {}, 400, "give BYTES"),
    "pixels": ("/v2/models/served/infer", v2(datatype="UINT8", shape=[1, 1, 3], data=[1, 2, 999]), {}, 400, "0 to 255"),
    "a huge shape": ("/v2/models/served/infer", v2(datatype="UINT8", shape=[2**30, 2**30, 3], data=[1]), {}, 400, "shape says"),
    "a length": ("/v2/models/served/infer", v2(), {JSON_LENGTH: "99999"}, 400, "not the length of the body's JSON"),
    "an output": ("/v2/models/served/infer", v2() | {"outputs": [{"name": "x"}]}, {}, 400, "not an output of the model"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_and_the_server_goes_on(ask: Ask, case: str) -> None:
    path, body, headers, expected, part = WRONG[case]
    status, answer, _ = ask(path, body, **headers)
    assert (status, part in answer["error"]) == (expected, True), answer
    assert answer["message"] == answer["error"]
    assert ask("/ping")[0] == 200


def head(path: str, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]).encode()


def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(running: Process, ask: Ask) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(head("/invocations", Content_Length=str(2**30)) + b"\r\n\r\n{")
        answer = client.makefile("rb").read()  # the server closes the connection
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 67,108,864 bytes" in answer
    assert ask("/ping")[0] == 200


def test_a_body_without_a_length_is_refused_where_it_grows_too_large(running: Process, ask: Ask) -> None:
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(head("/invocations", Transfer_Encoding="chunked") + b"\r\n\r\n")
        with pytest.raises(OSError):  # the server has closed the connection
            client.sendall(piece * 200)
    assert ask("/ping")[0] == 200


def test_clients_that_hang_keep_nobody_waiting(running: Process, ask: Ask, text: str) -> None:
    with contextlib.ExitStack() as stack:
        for sent in (b"", b"POST /invo", head("/invocations", Content_Length="99") + b"\r\n\r\n{"):
            for _ in range(10):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
                client.sendall(sent)
        assert ask("/invocations", {"inputs": [text]})[0] == 200


def test_a_taken_port_is_named_before_anything_is_loaded(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionloop.registry.loaded.loaded", pytest.fail)
    with pytest.raises(
        InvalidConfig, match=f"^--port {running.port}: another program listens there; give another port"
    ):
        application(["serve"])(["serve", "a@b", "--port", str(running.port)], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "token", "part"),
    [
        (["--host", "0.0.0.0"], "", "others can reach it there; set VISIONLOOP_SERVE_TOKEN"),
        (["--host", "0.0.0.0"], "short", "VISIONLOOP_SERVE_TOKEN has fewer than 16 characters"),
        ([], "short", "VISIONLOOP_SERVE_TOKEN has fewer than 16 characters"),
        (["--host", "no such host"], TOKEN, "not an address of this machine"),
        (["--host", "192.0.2.1", "--port", "0"], TOKEN, "this machine can't listen there"),
        (["--port", "0"], "", "not a registered model"),
    ],
)
def test_what_can_not_be_served_ends_with_78(
    mlflow_database: Path, words: list[str], token: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_database}")
    monkeypatch.setenv("VISIONLOOP_SERVE_TOKEN", token)
    Registry({"MLFLOW_TRACKING_URI": f"sqlite:///{mlflow_database}"}).ensure_model("a", "a")
    with pytest.raises(VisionloopError) as raised:
        application(["serve"])(["serve", "a", *words], standalone_mode=False)
    assert raised.value.exit_code == 78
    assert part in raised.value.sentence


def test_sigterm_ends_it_well(running: Process, text: str) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as idle:
        idle.sendall(b"GET /ping")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait() == 0
    assert "\nThe server has ended.\n" in running.said
    assert "Traceback" not in running.said
    assert TOKEN not in running.said


# In this process, with limits that are reached at once


class Failing:
    """A model that fails."""

    classes = ("dim", "bright")

    def __init__(self, error: Exception) -> None:
        self.error = error

    def predict(self, images: Any, settings: Any) -> Any:
        raise self.error
        yield


def served(predictor: Any, limits: Limits | None = None) -> Served:
    model: Any = SimpleNamespace(
        version=SimpleNamespace(name=NAME, number=1),
        description=SimpleNamespace(task="detection", trainer="toy"),
        predictor=predictor,
    )
    return Served(model, TOKEN, limits or Limits())


@contextlib.contextmanager
def serving(of: Served) -> Iterator[int]:
    """The port of a server in a thread."""
    with server.listen("127.0.0.1", 0) as listening:
        running = server.made(of)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        running.should_exit = True
        thread.join()
        of.close()


@pytest.fixture
def toy(tmp_path: Path) -> ToyPredictor:
    (tmp_path / "best.pt").write_text(json.dumps({"classes": ["dim", "bright"], "offset": 0}))
    return ToyPredictor(tmp_path / "best.pt")


def test_a_body_or_a_head_that_never_ends_is_given_up(toy: ToyPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 1.0)
    with serving(served(toy, Limits(read_seconds=0.1))) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head("/invocations", Content_Length="99") + b"\r\n\r\n{")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 408 ")
        for sent in (b"", b"POST /invocations HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(sent)
                assert client.recv(1) == b""  # closed by the server


def test_what_all_clients_send_is_limited_together(toy: ToyPredictor, text: str) -> None:
    with serving(served(toy, Limits(bodies=100))) as port:
        status, answer, _ = asking(port)("/invocations", {"inputs": [text]})
        assert (status, "holds as many requests as it can" in answer["error"]) == (503, True)
        # Nothing is held any more.
        assert asking(port)("/invocations", {"inputs": ["AAAA"]})[0] == 400


def test_images_that_take_too_long_are_given_up(toy: ToyPredictor, text: str) -> None:
    with serving(served(toy, Limits(answer_seconds=-1))) as port:
        status, answer, _ = asking(port)("/invocations", {"inputs": [text]})
        assert (status, "send fewer images" in answer["error"]) == (503, True)


@pytest.mark.parametrize(
    ("error", "part"),
    [(OutOfMemory("The GPU's memory is used up."), "The GPU's memory"), (KeyError(TOKEN), "see the server's log")],
)
def test_a_model_that_fails_is_told_without_its_inside(
    error: Exception, part: str, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VISIONLOOP_SERVE_TOKEN", TOKEN)
    with serving(served(Failing(error))) as port:
        for _ in range(2):
            status, answer, _ = asking(port)("/invocations", {"inputs": [text]})
            assert (status, part in answer["error"]) == (500, True)
    assert TOKEN not in "".join(record.getMessage() for record in caplog.records)


def test_parameters_are_those_of_the_task() -> None:
    assert requests.invocation(b'{"inputs": ["A"], "params": {"masks": true}}', "segmentation").settings.masks
    with pytest.raises(Refused, match="a model for classification takes none"):
        requests.invocation(b'{"inputs": ["A"], "params": {"confidence": 0.1}}', "classification")


@pytest.mark.parametrize("data", [b"\1\0\0", b"\5\0\0\0ab", b"\xff\xff\xff\xff", b"\1\0\0\0a\0"])
def test_binary_data_that_ends_within_an_element_is_refused(data: bytes) -> None:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(Refused, match="ends within an element"):
        requests.inference(text + data, str(len(text)), "detection")


def test_pixels_behind_the_json_are_taken() -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    tensor = {"name": "x", "shape": [1, 2, 4, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 24}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    asked = requests.inference(text + pixels.tobytes(), str(len(text)), "detection")
    assert asked.binary
    assert [image.tolist() for image in asked.images] == [pixels.tolist()]
