"""The output parameters of a run's tasks, which Kubeflow Pipelines 2 keeps in its metadata store alone.

The API has no call for them. KFP's page asks the metadata store by gRPC-Web at its own address, with the caller's credentials. This module
does the same for one run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from visionloop.core.errors import InvalidConfig
from visionloop.pipelines.engines.kubeflow import client
from visionloop.pipelines.engines.kubeflow.client import PAGE_VARIABLE, Connection

#: The type of the context that holds what belongs to a run; the context's name is the run's id.
_RUN = "system.PipelineRun"

#: The path of a method, below the root of the page's address: the page's own path does not count.
_PATH = "/ml_metadata.MetadataStoreService/"

_TYPE = "application/grpc-web+proto"

#: A frame's head: a byte of flags, and the length in four bytes.
_HEAD = 5
_TRAILERS = 0x80

#: The part of ml_metadata/proto/metadata_store_service.proto that is asked for: by message, each field's name, number and type. A map is
#: a list of entries on the wire.
_MESSAGES: Mapping[str, tuple[tuple[str, int, str], ...]] = {
    "NamedContext": (("type_name", 1, "string"), ("context_name", 2, "string")),
    "FoundContext": (("context", 1, "Context"),),
    "Context": (("id", 1, "int64"),),
    "OfContext": (("context_id", 1, "int64"),),
    "Executions": (("executions", 1, "*Execution"),),
    "Execution": (
        ("id", 1, "int64"),
        ("custom_properties", 5, "*Property"),
    ),
    "Property": (("key", 1, "string"), ("value", 2, "Value")),
    "Value": (("string_value", 3, "string"), ("struct_value", 4, ".google.protobuf.Struct")),
}


def output_parameters(connection: Connection, run: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The output parameters of a run's tasks.

    Args:
        connection: The server.
        run: The run's id.

    Yields:
        A task's name and those of its outputs that are texts, for each task that has some, the latest last.

    Raises:
        InvalidConfig: If the metadata store can't be asked from here, or does not know the run.
        Transient: If there is no connection.
    """
    run_context = _ask(
        connection, "GetContextByTypeAndName", "FoundContext", "NamedContext", type_name=_RUN, context_name=run
    )
    if not run_context.context.id:
        raise _unknown(connection, "it knows nothing of this run")
    listed = _ask(connection, "GetExecutionsByContext", "Executions", "OfContext", context_id=run_context.context.id)
    for execution in sorted(listed.executions, key=lambda execution: int(execution.id)):
        properties = {entry.key: entry.value for entry in execution.custom_properties}
        if "outputs" in properties and "task_name" in properties:
            fields = properties["outputs"].struct_value.fields
            if texts := {name: value.string_value for name, value in fields.items() if value.HasField("string_value")}:
                yield properties["task_name"].string_value, texts


def _ask(connection: Connection, method: str, answer: str, request: str, **fields: Any) -> Any:
    """Calls a method of the metadata store; messages by their names in ``_MESSAGES``."""
    import urllib3
    from google.protobuf.message import DecodeError

    api = connection.client.runs.api_client
    headers = {**api.default_headers, "Content-Type": _TYPE, "Accept": _TYPE, "X-Grpc-Web": "1"}
    if api.cookie:
        headers["Cookie"] = api.cookie
    api.update_params_for_auth(headers, [], ["Bearer"])
    content = _messages()[request](**fields).SerializeToString()
    with connection.asking():
        # A redirect leads to a login page, and would send the token there.
        response = api.rest_client.pool_manager.request(
            "POST",
            f"{_root(connection)}{_PATH}{method}",
            body=b"\0" + len(content).to_bytes(4, "big") + content,
            headers=headers,
            timeout=urllib3.Timeout(*client.TIMEOUT),
            redirect=False,
        )
    if response.status != 200:
        raise _unknown(connection, f"it answers {response.status}")
    if not response.headers.get("Content-Type", "").startswith("application/grpc-web"):
        raise _unknown(connection, "a page answers in its place")
    try:
        data, status = _unframed(response.data)
        # Without data the status stands among the headers.
        status = status or response.headers.get("grpc-status", "0")
        if status != "0":
            raise _unknown(connection, f"it answers with gRPC's status {status}")
        return _messages()[answer].FromString(data)
    except (DecodeError, ValueError):
        raise _unknown(connection, "its answer can't be read") from None


def _unframed(content: bytes) -> tuple[bytes, str]:
    """A message out of its frames, and the status in its trailers, "" if they have none. Raises ValueError if a frame is cut off."""
    data, status = b"", ""
    while content:
        end = _HEAD + int.from_bytes(content[1:_HEAD], "big")
        if len(content) < end:
            raise ValueError
        frame = content[_HEAD:end]
        if content[0] & _TRAILERS:
            lines = (line.partition(":") for line in frame.decode("latin-1").splitlines())
            status = next((value.strip() for name, _, value in lines if name.strip().lower() == "grpc-status"), status)
        else:
            data += frame
        content = content[end:]
    return data, status


def _root(connection: Connection) -> str:
    """The root of the page's address."""
    page = os.environ.get(PAGE_VARIABLE)
    address = page or str(connection.client.runs.api_client.configuration.host)
    # Within a cluster the client's own address has no scheme.
    parts = urlsplit(address if "://" in address else f"{'https' if page else 'http'}://{address}")
    return f"{parts.scheme}://{parts.netloc}"


def _unknown(connection: Connection, why: str) -> InvalidConfig:
    return InvalidConfig(
        f"{_root(connection)}: Kubeflow Pipelines' metadata can't be read there: {why}; if the page has another address, name it in {PAGE_VARIABLE}."
    )


@functools.cache
def _messages() -> dict[str, Any]:
    """The classes of ``_MESSAGES`` by name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2  # type: ignore[import-untyped]

    kinds = descriptor_pb2.FieldDescriptorProto
    plain = {"string": kinds.TYPE_STRING, "int64": kinds.TYPE_INT64}
    struct = struct_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="visionloop/metadata.proto", package="visionloop", syntax="proto3", dependency=[struct.name]
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            made = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind in plain:
                made.type = plain[kind]
                continue
            made.type = kinds.TYPE_MESSAGE
            made.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            made.type_name = kind if kind.startswith(".") else f".visionloop.{kind.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"visionloop.{name}")) for name in _MESSAGES
    }
