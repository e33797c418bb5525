"""The server's routes, and what keeps a client from harming it: limits of size, time and memory, and the token."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import visionloop
from visionloop.core import texts
from visionloop.core.errors import VisionloopError
from visionloop.core.logs import LOGGER
from visionloop.pipelines.serving import requests
from visionloop.pipelines.serving.requests import Asked, Refused
from visionloop.registry import outputs
from visionloop.registry.inputs import InvalidImage, encoded_image, pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from visionloop.registry.loaded import LoadedModel

#: Of a JSON body how much follows in binary (Open Inference Protocol v2, the extension for binary data).
JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        body: Bytes of a body.
        bodies: Bytes of all bodies that are read or waited for.
        read_seconds: Until a body has arrived.
        answer_seconds: From then on until the next image must have been begun.
    """

    body: int = 64 * 2**20
    bodies: int = 512 * 2**20
    read_seconds: float = 30
    answer_seconds: float = 60


@dataclass
class Served:
    """A loaded model that answers one request after the other; the loop reads the next ones meanwhile.

    Attributes:
        model: The model.
        token: What clients have to send; empty lets everybody in.
        limits: What a request may take.
    """

    model: LoadedModel
    token: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """A model is not made for several threads."""
        self._one_after_the_other = ThreadPoolExecutor(1, "model")
        self._held = 0

    @property
    def name(self) -> str:
        """The model's registered name."""
        return self.model.version.name

    @property
    def number(self) -> str:
        """The version's number."""
        return str(self.model.version.number)

    def application(self) -> FastAPI:
        """The routes."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_exception_handler(Refused, _refused)
        app.add_exception_handler(HTTPException, _no_route)
        app.add_exception_handler(Exception, _failed)
        for path in ("/ping", "/health", "/v2/health/live", "/v2/health/ready"):
            app.add_api_route(path, _alive, methods=["GET"])
        for_clients = APIRouter(dependencies=[Depends(self._let_in)])
        for_clients.add_api_route("/invocations", self._invocations, methods=["POST"])
        for_clients.add_api_route("/v2", _server, methods=["GET"])
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{number}"):
            for_clients.add_api_route(model, self._metadata, methods=["GET"])
            for_clients.add_api_route(f"{model}/ready", self._ready, methods=["GET"])
            for_clients.add_api_route(f"{model}/infer", self._infer, methods=["POST"])
        app.include_router(for_clients)
        return app

    def close(self) -> None:
        """Begins no further request."""
        self._one_after_the_other.shutdown(wait=False, cancel_futures=True)

    async def _let_in(self, request: Request) -> None:
        """Raises Refused for a client without the token."""
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(sent.strip().encode(), self.token.encode())
        if self.token and not (scheme.lower() == "bearer" and same):
            raise Refused(401, "Send the server's token: Authorization: Bearer TOKEN.")

    async def _invocations(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "Content-Type is not application/json; send a JSON body with base64 images.")

        def answer(body: bytes, until: float) -> Response:
            return _json({"predictions": self._predict(requests.invocation(body, self._task), until)})

        return await self._answered(request, answer)

    async def _infer(self, request: Request, name: str, number: str = "") -> Response:
        self._check(name, number)
        length = request.headers.get(JSON_LENGTH)

        def answer(body: bytes, until: float) -> Response:
            asked = requests.inference(body, length, self._task)
            return self._inferred(asked, self._predict(asked, until))

        return await self._answered(request, answer)

    async def _metadata(self, name: str, number: str = "") -> Response:
        self._check(name, number)
        tensor = {"datatype": "BYTES", "shape": [-1]}
        return _json(
            {
                "name": self.name,
                "versions": [self.number],
                "platform": f"visionloop_{self.model.description.trainer}",
                "inputs": [{"name": requests.IMAGE, **tensor}],
                "outputs": [{"name": Asked.output, **tensor}],
            }
        )

    async def _ready(self, name: str, number: str = "") -> Response:
        self._check(name, number)
        return _json({"name": self.name, "ready": True})

    def _check(self, name: str, number: str) -> None:
        """Raises Refused for another model or version."""
        if name != self.name or number not in ("", self.number):
            raise Refused(404, f"There is no such model here; this server has {self.name}, version {self.number}.")

    @property
    def _task(self) -> str:
        return self.model.description.task

    def _predict(self, asked: Asked, until: float) -> list[list[dict[str, Any]]]:
        """What the model finds. Raises Refused for an image that is none, and where it takes too long."""
        count = len(asked.images)

        def decoded() -> Iterator[NDArray[np.uint8]]:
            for position, image in enumerate(asked.images, 1):
                if time.monotonic() > until:
                    raise Refused(503, f"It took longer than {self.limits.answer_seconds:g} s; send fewer images.")
                yield pixels(encoded_image(image, f"Image {position} of {count}", served=True))

        try:
            return outputs.described(self.model.predictor, decoded(), asked.settings)
        except InvalidImage as error:
            raise Refused(400, str(error)) from error
        except VisionloopError as error:
            LOGGER.error(error.sentence)
            raise Refused(500, error.sentence) from error

    def _inferred(self, asked: Asked, found: list[list[dict[str, Any]]]) -> Response:
        """The answer of the Open Inference Protocol: for each image its predictions as JSON."""
        elements = [texts.json_line(predictions).encode() for predictions in found]
        tensor: dict[str, Any] = {"name": asked.output, "datatype": "BYTES", "shape": [len(elements)]}
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.number, "outputs": [tensor]}
        answer |= {"id": asked.id} if asked.id else {}
        if not asked.binary:
            tensor["data"] = [element.decode() for element in elements]
            return _json(answer)
        data = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
        tensor["parameters"] = {"binary_data_size": len(data)}
        head = msgspec.json.encode(answer)
        return Response(head + data, media_type="application/octet-stream", headers={JSON_LENGTH: str(len(head))})

    async def _answered(self, request: Request, answer: Callable[[bytes, float], Response]) -> Response:
        """Reads the body within the limits, and has the model's thread answer it."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "Content-Encoding is not taken; send the body as it is.")
        body = bytearray()
        try:
            await self._arrived(request, body)
            until = time.monotonic() + self.limits.answer_seconds
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._one_after_the_other, answer, bytes(body), until)
        finally:
            self._held -= len(body)

    async def _arrived(self, request: Request, body: bytearray) -> None:
        """Reads a body whole. Raises Refused for one that does not arrive in time, or not at all."""
        try:
            async with asyncio.timeout(self.limits.read_seconds):
                await self._read(request, body)
        except TimeoutError:
            raise Refused(408, f"The body did not arrive within {self.limits.read_seconds:g} s.") from None
        except ClientDisconnect:
            raise Refused(400, "The client left before its body had arrived.") from None

    async def _read(self, request: Request, body: bytearray) -> None:
        """Reads a body piece by piece. Raises Refused for too large a one, and where all together are too large."""
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.body:
            raise self._too_large
        async for piece in request.stream():
            if len(body) + len(piece) > self.limits.body:
                raise self._too_large
            if self._held + len(piece) > self.limits.bodies:
                raise Refused(503, "The server holds as many requests as it can; try again.")
            self._held += len(piece)
            body += piece

    @property
    def _too_large(self) -> Refused:
        return Refused(413, f"The body is larger than {self.limits.body:,} bytes; send fewer images, or smaller ones.")


async def _alive() -> Response:
    return _json({"live": True, "ready": True})


async def _server() -> Response:
    return _json({"name": "visionloop", "version": visionloop.__version__, "extensions": ["binary_tensor_data"]})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 (FastAPI's type of a handler is that of any exception)
    return _error(error.status, error.sentence)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _error(status, f"There is no {request.method} {request.url.path[:200]} here.")


async def _failed(request: Request, error: Exception) -> Response:
    LOGGER.error(texts.traceback(error))
    return _error(500, "The model failed on this request; see the server's log.")


def _error(status: int, sentence: str) -> Response:
    """An error in the form of the Open Inference Protocol and in MLflow's at once."""
    words = texts.sentence(sentence)
    code = "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"
    closing = {"Connection": "close"} if status in (408, 413) else None
    return _json({"error": words, "error_code": code, "message": words}, status, closing)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")
