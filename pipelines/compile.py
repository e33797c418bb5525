"""Compiles the pipelines for an engine. Only ``make golden`` lets it write into ``manifests/``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from visionloop.core.canonical import canonical, sha256
from visionloop.core.errors import InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.policy import REGISTRY
from visionloop.core.runs import PIPELINE_VARIABLE
from visionloop.pipelines.targets import Target, cluster

#: The engines that pipelines are compiled for.
ENGINES = ("argo", "kfp")

#: Hex digits of the hash in the name of a pipeline's version.
SHORT = 12

#: The list of an Argo folder's files, for ``kubectl apply -k``.
KUSTOMIZATION = "kustomization.yaml"


def compile_engine(
    engine: str, out: Path, registry: str = REGISTRY, tag: str | None = None, gpus: int | None = None
) -> list[Path]:
    """Writes an engine's files into a folder, and says what the engine can't express.

    Args:
        engine: argo or kfp.
        out: The folder, made if it is not there.
        registry: The images' registry.
        tag: The images' tag, the package's version unless given.
        gpus: GPUs of train's and evaluate's pods, the policy's number unless given. Argo asks its form instead.

    Returns:
        The files written, sorted.

    Raises:
        InvalidConfig: If there is no such engine, or it asks for the GPUs at each run.
    """
    if engine not in ENGINES:
        raise InvalidConfig(f"--engine {engine}: give one of {', '.join(ENGINES)}.")
    if gpus is not None and engine == "argo":
        raise InvalidConfig("--gpus: on Argo the number is a parameter of each run, gpus; leave --gpus out.")
    target = cluster(registry, tag, gpus)
    out.mkdir(parents=True, exist_ok=True)
    files = argo_files(target) if engine == "argo" else kfp_files(target)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    for sentence in unexpressed(engine, target):
        notice(f"{engine} can't express: {sentence}")
    return sorted(out / name for name in files)


def argo_files(target: Target) -> dict[str, str]:
    """Every WorkflowTemplate by file name, the schedule beside its own, and the kustomization that lists them."""
    from visionloop.pipelines.engines.argo.retrain import retrain_schedule, retrain_template
    from visionloop.pipelines.engines.argo.train import train_templates

    retrain = retrain_template(target)
    files = {f"{template.name}.yaml": argo_yaml(template) for template in train_templates(target)}
    files[f"{retrain.name}.yaml"] = argo_yaml(retrain, retrain_schedule())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return dict(sorted(files.items())) | {KUSTOMIZATION: dump(kustomization)}


def argo_yaml(*objects: Any) -> str:
    """Hera's objects as YAML documents."""
    built = (
        one.build().model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=False) for one in objects
    )
    return "---\n".join(dump(one) for one in built)


#: The pipelines on Kubeflow Pipelines, in the order in which a person reads them.
KFP_PIPELINES = ("train", "retrain")


def kfp_files(target: Target, pipelines: Iterable[str] = KFP_PIPELINES) -> dict[str, str]:
    """The IR of pipelines by file name."""
    from visionloop.pipelines.engines.kubeflow.retrain import retrain_pipeline
    from visionloop.pipelines.engines.kubeflow.train import train_pipeline

    made = {"train": train_pipeline, "retrain": retrain_pipeline}

    def compiled() -> dict[str, str]:
        graphs = [made[name](target) for name in pipelines]
        return {f"{graph.name}.yaml": kfp_yaml(graph) for graph in graphs}

    # kfp walks the caller's whole stack at each setting of each task; a thread's own is short, a notebook's or a test's is not.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compiled).result()


def kfp_yaml(pipeline: Any) -> str:
    """A KFP pipeline's IR and platform specification as YAML, its stages told which pipeline they belong to."""
    from kfp import compiler

    from visionloop.pipelines.engines.kubeflow.tasks import IDENTITY_PLACEHOLDER

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, str(path))
        text = path.read_text(encoding="utf-8")
    identity = canonical(identity_of(pipeline.name, ir_hash(ir_documents(text)))).decode()
    return text.replace(IDENTITY_PLACEHOLDER, f"'{identity}'")


def identity_of(name: str, digest: str) -> dict[str, str]:
    """Which pipeline runs, as a run's record repeats it: the engine, the pipeline, its version on a server, and its IR's hash."""
    return {"engine": "kfp", "name": name, "version": f"{name}-{digest[:SHORT]}", "sha256": digest}


def ir_hash(specification: Any) -> str:
    """SHA-256 of an IR in canonical form, whether a compiler wrote it or a server returns it.

    The variable in which the stages are told this very hash is left out.

    Args:
        specification: ``{pipeline_spec, platform_spec}``, or a pipeline's specification alone
            (https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto).
    """
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.pipeline_spec import pipeline_spec_pb2

    given = specification or {}
    parts = given if "pipeline_spec" in given else {"pipeline_spec": given}
    kinds = {"pipeline_spec": pipeline_spec_pb2.PipelineSpec, "platform_spec": pipeline_spec_pb2.PlatformSpec}
    # Through the messages, so that a number's form and a default that is written out make no difference.
    plain = {
        name: json_format.MessageToDict(
            json_format.ParseDict(parts.get(name) or {}, kind(), ignore_unknown_fields=True)
        )
        for name, kind in kinds.items()
    }
    for executor in plain["pipeline_spec"].get("deploymentSpec", {}).get("executors", {}).values():
        container = executor.get("container", {})
        if "env" in container:
            container["env"] = [one for one in container["env"] if one.get("name") != PIPELINE_VARIABLE]
    return sha256(canonical(plain))


def ir_documents(text: str) -> dict[str, Any]:
    """The KFP compiler's one or two YAML documents as a server returns them."""
    # libyaml, where it is there, reads it in a tenth of the second that it takes otherwise.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    first, *others = yaml.load_all(text, Loader=loader)
    return {"pipeline_spec": first, "platform_spec": others[0] if others else {}}


def unexpressed(engine: str, target: Target) -> list[str]:
    """What gets lost of the policies on an engine, one sentence part each."""
    if engine == "argo":
        return []
    from visionloop.pipelines.engines.kubeflow import tasks as kubeflow

    rows: Iterable[tuple[str, Any]] = [
        *target.policies.items(),
        *((f"train ({name})", row) for name, row in target.trainers.items()),
    ]
    lost = [f"{name}'s {field}" for name, row in rows if name != "train" for field in kubeflow.unexpressed(row)]
    return [*kubeflow.UNEXPRESSED, *lost]


class _Plain(yaml.SafeDumper):
    """Texts of several lines as blocks, everything in the order given."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def dump(value: Any) -> str:
    """YAML that is the same for equal values."""
    return str(yaml.dump(value, Dumper=_Plain, sort_keys=True, allow_unicode=True, width=120))
