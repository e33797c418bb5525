"""The pipelines' IR on Kubeflow Pipelines, as the compiler writes it and as a server returns it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from visionloop.core import plain_yaml
from visionloop.core.canonical import canonical, sha256
from visionloop.core.runs import PIPELINE_VARIABLE
from visionloop.pipelines.definitions import PIPELINES
from visionloop.pipelines.engines.kubeflow import Kubeflow
from visionloop.pipelines.targets import Target

#: What runs a component in its pod: KFP's module, and ours, which runs it.
KFP_EXECUTOR, EXECUTOR = "kfp.dsl.executor_main", "visionloop.components.executor"

#: Hex digits of the hash in the name of a pipeline's version.
SHORT = 12


def kfp_files(target: Target, pipelines: Iterable[str] = tuple(PIPELINES)) -> dict[str, str]:
    """The IR of pipelines by file name."""
    from visionloop.pipelines.engines.kubeflow.measure import measure_pipeline
    from visionloop.pipelines.engines.kubeflow.predict import predict_pipeline
    from visionloop.pipelines.engines.kubeflow.retrain import retrain_pipeline
    from visionloop.pipelines.engines.kubeflow.train import train_pipeline

    made = {
        "train": train_pipeline,
        "retrain": retrain_pipeline,
        "measure": measure_pipeline,
        "predict": predict_pipeline,
    }

    def compiled() -> dict[str, str]:
        graphs = [made[name](target) for name in pipelines]
        return {f"{graph.name}.yaml": kfp_yaml(graph) for graph in graphs}

    # kfp walks the caller's whole stack at each setting of each task; a thread's is short, a notebook's or a test's is not.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compiled).result()


def kfp_yaml(pipeline: Any) -> str:
    """A KFP pipeline's IR and platform specification as YAML, with the pipeline's identity in each stage's variables."""
    from kfp import compiler

    from visionloop.pipelines.engines.kubeflow.shared import share_equal_parts
    from visionloop.pipelines.engines.kubeflow.tasks import IDENTITY_PLACEHOLDER

    share_equal_parts(pipeline.pipeline_spec, pipeline.platform_spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, str(path))
        text = with_our_lines(path.read_text(encoding="utf-8"))
    identity = canonical(identity_of(pipeline.name, ir_hash(ir_documents(text)))).decode()
    return text.replace(IDENTITY_PLACEHOLDER, f"'{identity}'")


def with_our_lines(text: str) -> str:
    """An IR whose pods run KFP's executor through ours, so that it prints no plain line among JSON log lines."""
    return text.replace(f"python3 -m {KFP_EXECUTOR} ", f"python3 -m {EXECUTOR} {KFP_EXECUTOR} ")


def identity_of(name: str, digest: str) -> dict[str, str]:
    """The identity of a pipeline, as a run's record repeats it: engine, pipeline, version on a server, and the IR's hash."""
    return {"engine": Kubeflow.name, "name": name, "version": f"{name}-{digest[:SHORT]}", "sha256": digest}


def ir_hash(specification: Any) -> str:
    """SHA-256 of an IR in canonical form, whether a compiler wrote it or a server returns it.

    The variable that gives the stages this very hash is left out.

    Args:
        specification: ``{pipeline_spec, platform_spec}``, or a pipeline's specification alone
            (https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto).
    """
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.pipeline_spec import pipeline_spec_pb2

    content = specification or {}
    parts = content if "pipeline_spec" in content else {"pipeline_spec": content}
    kinds = {"pipeline_spec": pipeline_spec_pb2.PipelineSpec, "platform_spec": pipeline_spec_pb2.PlatformSpec}
    # Parsed into messages, so that a number's form and an explicit default make no difference.
    plain = {
        name: json_format.MessageToDict(
            json_format.ParseDict(parts.get(name) or {}, kind(), ignore_unknown_fields=True)
        )
        for name, kind in kinds.items()
    }
    for executor in plain["pipeline_spec"].get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container", {})
        if "env" in container:
            container["env"] = [variable for variable in container["env"] if variable.get("name") != PIPELINE_VARIABLE]
    return sha256(canonical(plain))


def ir_documents(text: str) -> dict[str, Any]:
    """The KFP compiler's one or two YAML documents as a server returns them."""
    first, *others = plain_yaml.documents(text)
    return {"pipeline_spec": first, "platform_spec": others[0] if others else {}}
