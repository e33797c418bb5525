"""Equal parts of a pipeline's IR, of which one is kept: KFP's compiler writes a component anew for each task that runs it.

The IR names a component for each task, and several tasks may name the same one: Kubeflow Pipelines visits each component once
and compiles it into one template (``backend/src/v2/compiler/visitor.go`` and ``argocompiler/argo.go``, 2.17.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The only platform that the IR has settings for.
PLATFORM = "kubernetes"


def share_equal_parts(pipeline_spec: Any, platform_spec: Any) -> None:
    """Keeps one of equal executors and one of equal components, in place.

    Args:
        pipeline_spec: A ``PipelineSpec``.
        platform_spec: Its ``PlatformSpec``.
    """
    executors = pipeline_spec.deployment_spec["executors"]
    settings = platform_spec.platforms[PLATFORM].deployment_spec.executors
    kept = _first_of_equals({label: _bytes(executors[label]) + _bytes(settings[label]) for label in executors})
    for component in pipeline_spec.components.values():
        if component.executor_label:
            component.executor_label = kept[component.executor_label]
    for label in set(kept) - set(kept.values()):
        del executors[label]
        del settings[label]
    # Graphs become equal when what they name has become one.
    while _share_components(pipeline_spec):
        pass


def _share_components(pipeline_spec: Any) -> bool:
    """Keeps one of equal components; returns whether there were any."""
    components = pipeline_spec.components
    kept = _first_of_equals({name: _bytes(component) for name, component in components.items()})
    for graph in (pipeline_spec.root, *components.values()):
        for task in graph.dag.tasks.values() if graph.HasField("dag") else ():
            task.component_ref.name = kept[task.component_ref.name]
    gone = set(kept) - set(kept.values())
    for name in gone:
        del components[name]
    return bool(gone)


def _first_of_equals(contents: Mapping[str, bytes]) -> dict[str, str]:
    """For each name the first name with the same content: ``comp-train`` before ``comp-train-2``, and that before ``comp-train-10``."""
    first: dict[bytes, str] = {}
    for name in _in_order(contents):
        first.setdefault(contents[name], name)
    return {name: first[content] for name, content in contents.items()}


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))
