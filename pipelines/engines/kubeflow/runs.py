"""Runs on Kubeflow Pipelines: the compiled pipeline uploaded as a version of its own, run in an experiment and followed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from visionloop.components.calls import SHARDED, STAGES
from visionloop.core.errors import InvalidConfig, InvalidReceipt, VisionloopError
from visionloop.core.logs import notice
from visionloop.core.policy import REGISTRY
from visionloop.core.runs import PIPELINE
from visionloop.pipelines.definitions import PIPELINES
from visionloop.pipelines.engines.kubeflow import Kubeflow
from visionloop.pipelines.engines.kubeflow.client import Connection, connect, quiet
from visionloop.pipelines.engines.kubeflow.ir import identity_of, ir_documents, ir_hash, kfp_files
from visionloop.pipelines.engines.kubeflow.metadata import output_parameters
from visionloop.pipelines.following.record import open_record
from visionloop.pipelines.following.state import RemoteState, Step, in_order, of_shards
from visionloop.pipelines.parameters import LONGEST_VALUE
from visionloop.pipelines.targets import cluster

ENGINE = Kubeflow.name

#: The variables that stand in for the compiler's options when a pipeline is compiled for a run: images and GPUs.
REGISTRY_VARIABLE = "VISIONLOOP_REGISTRY"
TAG_VARIABLE = "VISIONLOOP_TAG"
GPUS_VARIABLE = "VISIONLOOP_GPUS"

#: KFP's filter for an equal text.
_EQUALS = 1

_PHASES = {
    "PENDING": "pending",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "stopped",
}
_STATES = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "failed",
}

#: Of several tasks of a stage (one in each branch of a condition) the one with the first of these states counts.
_RANK = ("running", "failed", "succeeded", "waiting", "skipped")

#: A task's name: the stage, and a number if the pipeline calls it more than once. Before each task KFP runs a driver, which only
#: counts if it fails. The task's child is an executor, and one more for each attempt if the task may be retried; if the
#: installation retries everything, each attempt of the task itself, TASK(N), comes in between.
_TASK = re.compile(r"(?P<stage>.+?)(?:-(?P<number>\d+))?(?P<driver>-driver)?")
_ATTEMPT = re.compile(r"(?P<name>.+?)(?:\((?P<retry>\d+)\))?")
_EXECUTOR = "executor"


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline: its name, what it does, its IR as YAML, the SHA-256 of the IR in canonical form, and the parameters it declares."""

    name: str
    about: str
    text: str
    sha256: str
    images: str
    parameters: Mapping[str, Mapping[str, Any]]

    @property
    def identity(self) -> dict[str, str]:
        """Its identity, as its stages get it and a run's record repeats it."""
        return identity_of(self.name, self.sha256)

    @property
    def version(self) -> str:
        """The name of its version on a server."""
        return self.identity["version"]

    @property
    def description(self) -> str:
        """The version's description, for people."""
        return f"Visionloop {version('visionloop')}, images {self.images}, IR sha256:{self.sha256}"


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on a server."""

    pipeline_id: str
    version_id: str


@dataclass(frozen=True)
class KubeflowRun:
    """A run on Kubeflow Pipelines (``state.RemoteRun``). ``sha256`` is its pipeline's, if the caller compiled it."""

    connection: Connection
    name: str
    run: str
    arguments: Mapping[str, Any]
    sha256: str | None = None
    engine: str = ENGINE

    @property
    def page(self) -> str:
        """The run's page."""
        return self.connection.page(self.run)

    def state(self) -> RemoteState:
        """Its state now.

        Raises:
            Transient: If the server can't be reached now.
            AccessDenied: If the caller may not see the run.
            InvalidConfig: If the server no longer has it.
            InvalidReceipt: If it succeeded, but with another pipeline than the one that was compiled.
        """
        run = _get_run(self.connection, self.run)
        phase = _PHASES.get(run.state or "PENDING", "pending")
        details = run.run_details.task_details if run.run_details else None
        stages = steps(details or (), phase)
        message = run.error.message if run.error else None
        if phase == "succeeded":
            self._check_pipeline(run)
        return RemoteState(phase, stages, message, _moment(run.finished_at))

    def with_outputs(self, state: RemoteState) -> RemoteState:
        """The final state with the steps' output parameters, which KFP keeps apart from the run.

        Raises:
            InvalidConfig: If they can't be read from here.
            Transient: If there is no connection.
        """
        outputs: dict[str, dict[str, str]] = {}
        for task, texts in output_parameters(self.connection, self.run):
            matched = _TASK.fullmatch(task)
            # A shard has a number, the whole has none.
            if matched and not (matched["stage"] in SHARDED and matched["number"]):
                outputs[matched["stage"]] = texts
        return replace(
            state, steps=tuple(replace(step, outputs=outputs.get(step.stage, step.outputs)) for step in state.steps)
        )

    def cancel(self) -> None:
        """Has the server end it.

        Raises:
            Transient: If the server can't be reached now.
            AccessDenied: If the caller may not end it.
            InvalidConfig: If the server no longer has it.
        """
        with self.connection.asking(f"there is no run {self.run}."), quiet():
            self.connection.client.terminate_run(self.run)

    def follow_command(self) -> str:
        """The command that follows it again after detaching."""
        words = ["visionloop", "run", "follow", self.run, "--engine", ENGINE, "--host", self.connection.host]
        if self.connection.namespace:
            words += ["--namespace", self.connection.namespace]
        return shlex.join(words)

    def _check_pipeline(self, run: Any) -> None:
        """Checks that the compiled pipeline is what ran; a run that was looked up is compared with its version's description."""
        reference = run.pipeline_version_reference
        if reference is None or not reference.pipeline_version_id:
            stored, expected, ran = None, self.sha256, None
        else:
            with self.connection.asking(f"the pipeline's version that run {self.run} names is gone."):
                stored = self.connection.client.get_pipeline_version(
                    pipeline_id=reference.pipeline_id, pipeline_version_id=reference.pipeline_version_id
                )
            expected, ran = self.sha256 or _described_hash(stored.description), ir_hash(stored.pipeline_spec)
        if expected is not None and ran != expected:
            named = stored.display_name if stored else "no version"
            raise InvalidReceipt(
                f"{self.name}: what ran ({named} on the server) is not the pipeline that was compiled, so its success does not count; start the run again."
            )


def submit(
    pipeline: str,
    arguments: Mapping[str, Any],
    *,
    host: str | None = None,
    namespace: str | None = None,
    trace_id: str | None = None,
    registry: str | None = None,
    tag: str | None = None,
) -> KubeflowRun:
    """Uploads a pipeline as it compiles here, unless the server has it, and starts a run of it.

    Args:
        pipeline: train or retrain.
        arguments: The pipeline's arguments by name, as ``pipelines.parameters`` makes them.
        host: The server's address; see ``kubeflow_client.connect``.
        namespace: The user's namespace on an installation for several users.
        trace_id: The run's trace id; stages read it from the run's record.
        registry: The images' registry, else VISIONLOOP_REGISTRY, else the compiler's default.
        tag: The images' tag, else VISIONLOOP_TAG, else this package's version.

    Raises:
        InvalidConfig: If there is no server, no such pipeline or parameter, or a value has the wrong type or is too long.
        AccessDenied: If the server refuses the caller.
        Transient: If it can't be reached.
    """
    compiled = compiled_pipeline(pipeline, registry, tag)
    values = typed(arguments, compiled)
    connection = connect(host, namespace)
    uploaded = upload(connection, compiled)
    about = values.get("model_name") or values.get("model")
    with connection.asking(), quiet():
        started = connection.client.run_pipeline(
            experiment_id=experiment(connection, str(values.get("model_name") or compiled.name)),
            job_name=str(values.get("run_name") or f"{about} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"),
            params=values,
            pipeline_id=uploaded.pipeline_id,
            version_id=uploaded.version_id,
        )
    _write_record(started.run_id, values, trace_id, compiled)
    return KubeflowRun(connection, started.display_name, started.run_id, values, compiled.sha256)


def find(run: str, *, host: str | None = None, namespace: str | None = None) -> KubeflowRun:
    """A run that was started earlier, by its id or its name (the newest of that name).

    Raises:
        InvalidConfig: If the server has no such run.
    """
    connection = connect(host, namespace)
    try:
        stored = _get_run(connection, run)
    except InvalidConfig:
        with connection.asking():
            listed = connection.client.list_runs(
                page_size=1, sort_by="created_at desc", namespace=connection.namespace, filter=_equal(run)
            )
        if not listed.runs:
            raise
        stored = _get_run(connection, listed.runs[0].run_id)
    arguments = stored.runtime_config.parameters if stored.runtime_config else None
    return KubeflowRun(connection, stored.display_name, stored.run_id, arguments or {})


def compiled_pipeline(pipeline: str, registry: str | None = None, tag: str | None = None) -> Compiled:
    """A pipeline compiled for a cluster.

    Raises:
        InvalidConfig: If there is no such pipeline.
    """
    target = cluster(
        registry or os.environ.get(REGISTRY_VARIABLE) or REGISTRY, tag or os.environ.get(TAG_VARIABLE), _gpus()
    )
    if pipeline not in PIPELINES:
        raise InvalidConfig(
            f"There is no pipeline '{pipeline}' on Kubeflow Pipelines; it is one of {', '.join(PIPELINES)}."
        )
    ((file, text),) = kfp_files(target, [pipeline]).items()
    name = Path(file).stem
    documents = ir_documents(text)
    specification = documents["pipeline_spec"]
    about = specification["pipelineInfo"]["description"]
    declared = specification["root"]["inputDefinitions"]["parameters"]
    return Compiled(name, about, text, ir_hash(documents), f"{target.registry} {target.tag}", declared)


def _gpus() -> int | None:
    value = os.environ.get(GPUS_VARIABLE, "")
    if value and not re.fullmatch(r"[0-9]{1,3}", value):
        raise InvalidConfig(f"{GPUS_VARIABLE} is {value!r}; give a number of GPUs, or 0 to train on the CPU.")
    return int(value) if value else None


def _described_hash(description: str | None) -> str | None:
    matched = re.search(r"IR sha256:([0-9a-f]{64})", description or "")
    return matched.group(1) if matched else None


def typed(arguments: Mapping[str, Any], compiled: Compiled) -> dict[str, Any]:
    """Arguments in the types that the compiled pipeline declares.

    Raises:
        InvalidConfig: If one is unknown, missing, of another type, or longer than KFP takes.
    """
    declared = compiled.parameters
    if unknown := sorted(set(arguments) - set(declared)):
        raise InvalidConfig(
            f"{compiled.name} has no parameter '{unknown[0]}' on Kubeflow Pipelines; it takes {', '.join(declared)}."
        )
    values = {
        name: _typed(name, value, declared[name]["parameterType"])
        for name, value in arguments.items()
        if value is not None
    }
    missing = [name for name, definition in declared.items() if not definition.get("isOptional") and name not in values]
    if missing:
        raise InvalidConfig(f"{compiled.name} needs the parameter '{missing[0]}'.")
    for name, value in values.items():
        if len(json.dumps(value, ensure_ascii=False).encode()) > LONGEST_VALUE:
            raise InvalidConfig(
                f"{name} is longer than the {LONGEST_VALUE} bytes that a parameter of Kubeflow Pipelines holds; put it into a file of the store."
            )
    return values


#: What a person should give, by KFP's name of the type.
_MEANINGS = {
    "STRING": "a text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "STRUCT": "a JSON object",
}


def _typed(name: str, value: Any, kind: str) -> Any:
    try:
        match kind:
            case "NUMBER_INTEGER":
                return _whole(value)
            case "NUMBER_DOUBLE":
                return _number(value)
            case "BOOLEAN":
                return {"true": True, "false": False}[str(value).lower()]
            case "STRUCT":
                return _object(value)
            case _:
                return value if isinstance(value, str) else json.dumps(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InvalidConfig(f"{name} is {value!r}; give {_MEANINGS.get(kind, kind)}.") from None


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _object(value: Any) -> dict[str, Any]:
    decoded = msgspec.json.decode(value) if isinstance(value, str) else value
    if not isinstance(decoded, dict):
        raise TypeError
    return decoded


def upload(connection: Connection, compiled: Compiled) -> Version:
    """Returns the server's version of a compiled pipeline; uploads it if missing. Its name holds the IR's hash.

    Raises:
        InvalidConfig: If the server holds something else under that name.
    """
    pipeline_id = _pipeline(connection, compiled)
    stored = _version(connection, pipeline_id, compiled.version)
    if stored is None:
        try:
            with tempfile.TemporaryDirectory() as folder, connection.asking(), quiet():
                path = Path(folder, f"{compiled.name}.yaml")
                path.write_text(compiled.text, encoding="utf-8")
                stored = connection.client.upload_pipeline_version(
                    str(path), compiled.version, pipeline_id=pipeline_id, description=compiled.description
                )
        except VisionloopError:
            # Another caller may have been faster, which the server reports in several ways.
            stored = _version(connection, pipeline_id, compiled.version)
            if stored is None:
                raise
    if stored.pipeline_spec and ir_hash(stored.pipeline_spec) != compiled.sha256:
        raise InvalidConfig(
            f"{connection.host}: the version {compiled.version} there is not the pipeline that was compiled; delete it on the server."
        )
    return Version(pipeline_id, stored.pipeline_version_id)


def _pipeline(connection: Connection, compiled: Compiled) -> str:
    """The id of a pipeline, created if missing."""
    from kfp_server_api import V2beta1Pipeline  # type: ignore[import-untyped]

    name = compiled.name
    if existing := _pipeline_id(connection, name):
        return existing
    made = V2beta1Pipeline(display_name=name, name=name, description=compiled.about, namespace=connection.namespace)
    try:
        with connection.asking():
            return str(connection.client.pipelines.pipeline_service_create_pipeline(pipeline=made).pipeline_id)
    except InvalidConfig:
        # Another caller was faster.
        if existing := _pipeline_id(connection, name):
            return existing
        raise


def _pipeline_id(connection: Connection, name: str) -> str | None:
    with connection.asking():
        listed = connection.client.list_pipelines(page_size=1, namespace=connection.namespace, filter=_equal(name))
    return str(listed.pipelines[0].pipeline_id) if listed.pipelines else None


def _version(connection: Connection, pipeline_id: str, name: str) -> Any:
    with connection.asking():
        listed = connection.client.list_pipeline_versions(pipeline_id, page_size=1, filter=_equal(name))
    return listed.pipeline_versions[0] if listed.pipeline_versions else None


def _equal(name: str) -> str:
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


def experiment(connection: Connection, name: str) -> str:
    """The id of the experiment that holds a model's runs, created if missing; KFP's two variables override ``name``."""
    chosen = (
        os.environ.get("KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME")
        or os.environ.get("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME")
        or name
    )
    with connection.asking(), quiet():
        return str(connection.client.create_experiment(chosen, namespace=connection.namespace).experiment_id)


def _get_run(connection: Connection, run: str) -> Any:
    with connection.asking(f"there is no run '{run}'; give the id of its page."):
        return connection.client.runs.run_service_get_run(run_id=run)


def _write_record(run: str, arguments: Mapping[str, Any], trace_id: str | None, compiled: Compiled) -> None:
    """Opens the run's record before the first stage does, with the trace id and the pipeline's identity."""
    workspace = str(arguments["workspace"])
    reason = open_record(workspace, run, {**arguments, PIPELINE: compiled.identity}, trace_id)
    if reason is None:
        return
    lost = f"; the trace id {trace_id} is not handed on" if trace_id else ""
    notice(f"{workspace}: the run's record can't be written from here ({reason}){lost}")


def steps(details: Iterable[Any], phase: str) -> tuple[Step, ...]:
    """The stages among a run's tasks (``V2beta1PipelineTaskDetail``, one for each node of the engine below KFP)."""
    tasks = list(details)
    nodes = {_node(task.pod_name): task for task in tasks}
    by_stage: dict[str, Step] = {}
    parts: dict[str, list[Step]] = {}
    for task in tasks:
        matched = _TASK.fullmatch(task.display_name or "")
        if matched is None or matched["stage"] not in STAGES or (matched["driver"] and task.state != "FAILED"):
            continue
        step = _step(matched["stage"], task, nodes, phase)
        if step.stage in SHARDED and matched["number"]:
            # The whole is called first, and so has no number.
            parts.setdefault(step.stage, []).append(step)
            continue
        before = by_stage.get(step.stage)
        if before is None or _RANK.index(step.state) < _RANK.index(before.state):
            by_stage[step.stage] = step
    for stage, shards in parts.items():
        by_stage[stage] = of_shards(by_stage.get(stage), shards)
    return in_order(by_stage.values(), STAGES)


def _step(stage: str, task: Any, nodes: Mapping[str, Any], phase: str) -> Step:
    # A task that a condition left out has no state in KFP.
    unknown = "skipped" if phase in ("succeeded", "failed", "stopped") else "waiting"
    state, retries, last = _STATES.get(task.state or "", unknown), *_last_executor(task, nodes)
    if state == "running" and phase == "succeeded":
        # KFP no longer reads the tasks of a workflow that Argo has compressed, as it does above 1 MB.
        state = "succeeded"
    elif state == "running" and last is not None and last.state in ("PENDING", "FAILED"):
        # It waits for a node with room, or for the next attempt.
        state = "waiting"
    return Step(
        stage=stage,
        state=state,
        attempt=retries + 1,
        reason=task.error.message if task.error else None,
        started_at=_moment(task.start_time),
        finished_at=_moment(task.end_time),
    )


def _last_executor(task: Any, nodes: Mapping[str, Any]) -> tuple[int, Any]:
    """How often a task was retried, and its last executor; None before there is one."""
    last: tuple[int, Any] = (0, None)
    for child in task.child_tasks or ():
        node = nodes.get(_node(child.pod_name or child.task_id))
        matched = _ATTEMPT.fullmatch(node.display_name or "") if node else None
        # A node's children include what comes after it, so only its own attempts and executors are followed.
        if matched and (matched["name"] == _EXECUTOR or (matched["name"] == task.display_name and matched["retry"])):
            retries, below = _last_executor(node, nodes)
            candidate = (int(matched["retry"] or 0) + retries, below or node)
            if last[1] is None or candidate[0] > last[0]:
                last = candidate
    return last


def _node(name: str | None) -> str:
    """What a node's id and its pod's name have in common: the hash at the end (argo-workflows#10107)."""
    return (name or "").rsplit("-", 1)[-1]


def _moment(value: Any) -> datetime | None:
    """A time, or None for KFP's zero (1970)."""
    with contextlib.suppress(AttributeError):
        return value if value.year > 1970 else None
    return None
