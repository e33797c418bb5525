"""The two compiled forms of a pipeline read back into one: rows of the policy table, and edges between stages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import yaml

from visionloop.components.calls import SHARDED, STAGES
from visionloop.core.errors import RETRYABLE
from visionloop.core.policy import ENGINE_DEADLINE_MARGIN
from visionloop.pipelines.engines.argo.templates import NEVER_RAN
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.engines.pods import CONFIG_VARIABLES
from visionloop.pipelines.targets import BY_TRAINER, DEFAULT_TRAINER

#: The tasks of KFP's graph that stand for nothing on Argo: they show a result that is there already.
SHOWN = ("reuse-training", "reuse-evaluation")

Row = dict[str, Any]


def seconds(text: str) -> int:
    """``10s`` as 10."""
    return int(text.removesuffix("s"))


class Argo:
    """WorkflowTemplates by file name, as ``argo_files`` writes them, and one pipeline among them."""

    def __init__(self, files: Mapping[str, str], name: str = "visionloop-train") -> None:
        self.name = name
        self.documents = [
            document for text in files.values() for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
        ]
        self.templates = {
            (document["metadata"]["name"], template["name"]): template
            for document in self.documents
            if document["kind"] == "WorkflowTemplate"
            for template in document["spec"]["templates"]
        }

    def document(self, kind: str) -> dict[str, Any]:
        """The pipeline's object of a kind."""
        (results,) = [
            entry
            for entry in self.documents
            if (entry["kind"], entry.get("metadata", {}).get("name")) == (kind, self.name)
        ]
        return dict(results)

    @property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline's specification."""
        specification: dict[str, Any] = self.document("WorkflowTemplate")["spec"]
        return specification

    def leaves(
        self, dag: str = "pipeline", around: tuple[dict[str, Any], ...] = ()
    ) -> Iterator[tuple[dict[str, Any], tuple[dict[str, Any], ...]]]:
        """The tasks that run a container, each with the tasks whose DAGs it lies in, outermost first."""
        for task in self.templates[self.name, dag]["dag"]["tasks"]:
            inner = self.template(task)
            if "dag" in inner:
                yield from self.leaves(inner["name"], (*around, task))
            else:
                yield task, around

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks that run a container, by name."""
        return {task["name"]: task for task, _ in self.leaves()}

    def template(self, task: dict[str, Any]) -> dict[str, Any]:
        """The template of a task or step."""
        reference = task.get("templateRef") or {"name": self.name, "template": task["template"]}
        template: dict[str, Any] = self.templates[reference["name"], reference["template"]]
        return template

    def gpus(self, task: str) -> int:
        """The GPUs of a task's pod when the form says nothing of them."""
        arguments = {entry["name"]: entry["value"] for entry in self.tasks()[task]["arguments"]["parameters"]}
        if "gpus" not in arguments:
            return 0
        match = re.fullmatch(
            r"\{\{=workflow\.parameters\.gpus == '' \? '(\d+)' : (?:asInt\(workflow\.parameters\.gpus\) > (\d+) \? '\2' : )?"
            r"workflow\.parameters\.gpus\}\}",
            arguments["gpus"],
        )
        assert match is not None, arguments["gpus"]
        return int(match[1])

    def edges(self) -> set[tuple[str, str]]:
        """What each task waits for, and whose outputs it or its condition reads; a trainer's own task is train."""
        results = set()
        for task, around in self.leaves():
            for entry in (task, *around):
                before = set(re.findall(r"[a-z][a-z-]*", entry.get("depends", "")))
                before |= set(re.findall(r"tasks(?:\.|\[')([a-z-]+)", json.dumps(entry)))
                results |= {(_plain(name), _plain(task["name"])) for name in before}
        return {(before, after) for before, after in results if before != after}

    def exit_stage(self) -> str:
        """The stage that runs at the end, whatever happened."""
        ((step,),) = self.templates[self.name, self.pipeline["onExit"]]["steps"]
        name: str = self.template(step)["name"]
        return name

    def row(self, stage: str, trainer: str = DEFAULT_TRAINER) -> Row:
        """The row of the policy table that a stage's template holds."""
        template = self.templates[template_of(stage, trainer), stage]
        defaults = {entry["name"]: entry.get("value") for entry in template["inputs"]["parameters"]}
        container, patch = template["container"], _patch(template["podSpecPatch"], defaults.get("gpus", "0"))
        spot = _entries(template["podSpecPatch"], "asInt(inputs.parameters.spot)")
        grown = _entries(template["podSpecPatch"], "lastRetry.exitCode == '137'").get("limits", "")
        factor, most = re.search(r"\* ([\d.]+) \*\* ", grown), re.search(r", (\d+)\)\)", grown)
        main: dict[str, Any] = next((entry for entry in patch["containers"] if entry["name"] == "main"), {})
        retry, volumes = template["retryStrategy"], {entry["name"]: entry for entry in template["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert retry["retryPolicy"] == "Always"
        assert retry["expression"].startswith("lastRetry.status == 'Error' || ")
        assert json.loads(re.search(r"\[.*\]", retry["expression"])[0]) == [NEVER_RAN, *RETRYABLE]  # type: ignore[index]
        memory = volumes.get("shared-memory", {}).get("emptyDir", {})
        assert memory.get("medium") in (None, "Memory")
        return {
            "image": container["image"],
            "cpu_request": container["resources"]["requests"]["cpu"],
            "cpu_limit": container["resources"]["limits"]["cpu"],
            "memory_request": container["resources"]["requests"]["memory"],
            "memory_limit": container["resources"]["limits"]["memory"],
            "memory_factor": float(factor[1]) if factor else 1.0,
            "memory_most": f"{most[1]}Mi" if most else None,
            "gpus": int(main.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)),
            "timeout": template["activeDeadlineSeconds"] - ENGINE_DEADLINE_MARGIN,
            "attempts": int(retry["limit"]) + 1,
            "backoff_first": seconds(retry["backoff"]["duration"]),
            "backoff_factor": float(retry["backoff"]["factor"]),
            "backoff_longest": seconds(retry["backoff"]["cap"]),
            "grace_period": patch["terminationGracePeriodSeconds"],
            "node_selector": patch.get("nodeSelector") or {},
            "tolerations": patch.get("tolerations") or [],
            "spot_losses": int(defaults.get("spot", "0")),
            "spot_selector": yaml.safe_load("{" + spot.get("nodeSelector", "") + "}"),
            "spot_tolerations": yaml.safe_load("[" + spot.get("tolerations", "") + "]"),
            "shared_memory": memory.get("sizeLimit"),
            "cache_volume": "cache" in volumes,
            "cache_claim": volumes.get("cache", {}).get("persistentVolumeClaim", {}).get("claimName"),
            "image_pull_policy": container["imagePullPolicy"],
            "image_pull_secret": next((entry["name"] for entry in patch.get("imagePullSecrets", [])), None),
            "priority_class": template.get("priorityClassName"),
            "secrets": [
                entry["secretRef"]["name"].removeprefix("visionloop-")
                for entry in container["envFrom"]
                if "secretRef" in entry
            ],
            "annotations": template["metadata"].get("annotations", {}),
            "variables": [name for name in config_variables(template) if name not in CONFIG_VARIABLES],
        }


def config_variables(template: dict[str, Any]) -> list[str]:
    """The variables that the pod of one of Argo's templates takes from the ConfigMap."""
    taken = [entry for entry in template["container"]["env"] if "valueFrom" in entry]
    for entry in taken:
        reference = {"key": entry["name"], "name": "visionloop", "optional": True}
        assert entry["valueFrom"] == {"configMapKeyRef": reference}
    return [entry["name"] for entry in taken]


#: Entries of a pod's patch that hang on a condition: the condition, and what stands there where it holds.
_CONDITIONAL = re.compile(r"\{\{=(.+?) \? '(.*?)' : ''\}\}")


def _patch(text: str, gpus: str) -> Any:
    """A pod's patch as it is in the first attempt with one GPU or more, on no spot node."""

    def first(found: re.Match[str]) -> str:
        return found[2] if found[1] == "asInt(inputs.parameters.gpus) > 0" else ""

    return yaml.safe_load(_CONDITIONAL.sub(first, text).replace("' + inputs.parameters.gpus + '", gpus))


def _entries(text: str, condition: str) -> dict[str, str]:
    """What a pod's patch adds under a condition, by the field that it is added to."""
    return {
        line.split(":")[0].strip(): entries
        for line in text.splitlines()
        for entry, entries in _CONDITIONAL.findall(line)
        if condition in entry
    }


def _plain(task: str) -> str:
    """The stage of a task, which may end with its trainer's name, or be the one over its shards."""
    stage = task.partition("-")[0]
    return stage if stage in (*BY_TRAINER, *SHARDED) else task


class Kubeflow:
    """A pipeline's IR and platform specification, as ``kfp_files`` writes them."""

    def __init__(self, text: str) -> None:
        self.specification, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
        self.platform = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    @cached_property
    def components(self) -> dict[str, Any]:
        """Every component, the pipeline itself as ``root``."""
        return {**self.specification["components"], "root": self.specification["root"]}

    def tasks(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Component of the graph, name and task, all graphs."""
        for graph, component in self.components.items():
            for name, task in component.get("dag", {}).get("tasks", {}).items():
                yield graph, name, task

    def leaves(self) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
        """The tasks that run a container, by their stage (or the name of a shown result)."""
        results: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for graph, name, task in self.tasks():
            if "executorLabel" in self.components[task["componentRef"]["name"]]:
                results.setdefault(re.sub(r"-\d+$", "", name), []).append((graph, name, task))
        return results

    def executor(self, task: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A task's container and its platform settings."""
        label = self.components[task["componentRef"]["name"]]["executorLabel"]
        container: dict[str, Any] = self.specification["deploymentSpec"]["executors"][label]["container"]
        return container, self.platform.get(label, {})

    def images(self, graph: str, task: dict[str, Any]) -> set[str]:
        """The images that a task's pod may have: its own, or those that the calls of the graphs around it name."""
        image: str = self.executor(task)[0]["image"]
        named = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}", image)
        return self.constants(graph, task["inputs"]["parameters"][named[1]]) if named else {image}

    def constants(self, graph: str, value: dict[str, Any]) -> set[str]:
        """The constants that a value may be; fails for an output of a task and for a field of the form."""
        if "runtimeValue" in value:
            return {value["runtimeValue"]["constant"]}
        assert graph != "root", value
        name = value["componentInputParameter"]
        calls = [(outer, entry) for outer, _, entry in self.tasks() if entry["componentRef"]["name"] == graph]
        return {item for outer, entry in calls for item in self.constants(outer, entry["inputs"]["parameters"][name])}

    def edges(self) -> set[tuple[str, str]]:
        """Whose outputs each stage or a condition around it reads, followed through the nested graphs."""
        results = set()
        for stage, tasks in self.leaves().items():
            for graph, name, _ in tasks:
                for source in self._sources(graph, name):
                    results.add((source, stage))
        return {(before, after) for before, after in results if not {before, after} & set(SHOWN)}

    def exit_stage(self) -> str:
        """The stage that runs whatever happened."""
        (results,) = [
            name
            for _, name, task in self.tasks()
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        ]
        return results

    def row(self, task: dict[str, Any]) -> Row:
        """A task's row of the policy table, but for what the engine has no field for."""
        container, platform = self.executor(task)
        resources, retry = container["resources"], task["retryPolicy"]
        mounts = {entry["volumeName"]: entry for entry in platform["emptyDirMounts"]}
        claims = [entry["constant"] for entry in platform.get("pvcMount", [])]
        memory = mounts.get("shared-memory", {})
        assert memory.get("medium") in (None, "Memory")
        accelerator = resources.get("accelerator", {})
        assert accelerator.get("resourceType") in (None, "nvidia.com/gpu")
        return {
            "image": container["image"],
            "cpu_request": resources["resourceCpuRequest"],
            "cpu_limit": resources["resourceCpuLimit"],
            "memory_request": resources["resourceMemoryRequest"],
            "memory_limit": resources["resourceMemoryLimit"],
            "gpus": int(accelerator.get("resourceCount", 0)),
            "timeout": int(platform["activeDeadlineSeconds"]) - ENGINE_DEADLINE_MARGIN,
            "attempts": retry["maxRetryCount"] + 1,
            "backoff_first": seconds(retry["backoffDuration"]),
            "backoff_factor": retry["backoffFactor"],
            "node_selector": platform.get("nodeSelector", {}).get("labels", {}),
            "tolerations": platform.get("tolerations", []),
            "shared_memory": memory.get("sizeLimit"),
            "cache_volume": "cache" in mounts or bool(claims),
            "cache_claim": next(iter(claims), None),
            "image_pull_policy": platform["imagePullPolicy"],
            "image_pull_secret": next((entry["secretName"] for entry in platform.get("imagePullSecret", [])), None),
            "annotations": platform["podMetadata"].get("annotations", {}),
            "secrets": [entry["secretName"].removeprefix("visionloop-") for entry in platform["secretAsEnv"]],
            "variables": [name for name in self.config_variables(task) if name not in CONFIG_VARIABLES],
        }

    def config_variables(self, task: dict[str, Any]) -> list[str]:
        """The variables that a task's pod takes from the ConfigMap."""
        (config,) = self.executor(task)[1]["configMapAsEnv"]
        assert config["optional"] is True
        assert all(entry["configMapKey"] == entry["envVar"] for entry in config["keyToEnv"])
        return [entry["envVar"] for entry in config["keyToEnv"]]

    def _sources(self, graph: str, name: str) -> set[str]:
        """The stages whose outputs a task reads, or on which it or a graph around it waits."""
        task = self.components[graph]["dag"]["tasks"][name]
        results = set()
        for kind in ("parameters", "artifacts"):
            for value in task.get("inputs", {}).get(kind, {}).values():
                results |= self._source(graph, value)
        condition = task.get("triggerPolicy", {}).get("condition", "")
        for inner in re.findall(r"parameter_values\['([^']+)'\]", condition):
            results |= self._source(graph, task["inputs"]["parameters"][inner])
        results |= {stage for before in task.get("dependentTasks", ()) if (stage := _stage(before))}
        for outer, around, entry in self.tasks():
            if entry["componentRef"]["name"] == graph and outer != "root":
                conditions = entry.get("triggerPolicy", {}).get("condition", "")
                for inner in re.findall(r"parameter_values\['([^']+)'\]", conditions):
                    results |= self._source(outer, entry["inputs"]["parameters"][inner])
                if "condition" in around:
                    results |= self._around(outer, around)
        return results

    def _around(self, graph: str, name: str) -> set[str]:
        """What the graphs around a graph wait for through their conditions."""
        results = set()
        for outer, around, entry in self.tasks():
            if entry["componentRef"]["name"] == graph and outer != "root":
                for inner in re.findall(
                    r"parameter_values\['([^']+)'\]", entry.get("triggerPolicy", {}).get("condition", "")
                ):
                    results |= self._source(outer, entry["inputs"]["parameters"][inner])
                results |= self._around(outer, around)
        return results

    def conditions(self, graph: str, task: dict[str, Any]) -> list[str]:
        """The conditions under which a task of a graph runs, its own and those of the graphs around it."""
        results = [task["triggerPolicy"]["condition"]] if "condition" in task.get("triggerPolicy", {}) else []
        for outer, _, entry in self.tasks():
            if entry["componentRef"]["name"] == graph and graph != "root":
                results += self.conditions(outer, entry)
        return results

    def _source(self, graph: str, value: dict[str, Any]) -> set[str]:
        """The stage that a value comes from, followed outwards through the graphs' inputs."""
        return {stage for task in self.producers(graph, value) if (stage := _stage(task))}

    def producers(self, graph: str, value: dict[str, Any]) -> set[str]:
        """The tasks that a value comes from, followed outwards through the graphs' inputs."""
        for kind in ("taskOutputParameter", "taskOutputArtifact"):
            if kind in value:
                return {value[kind]["producerTask"]}
        name = value.get("componentInputParameter") or value.get("componentInputArtifact")
        results: set[str] = set()
        if name and graph != "root":
            for outer, _, entry in self.tasks():
                if entry["componentRef"]["name"] == graph:
                    inputs = {**entry["inputs"].get("parameters", {}), **entry["inputs"].get("artifacts", {})}
                    iterator = entry.get("parameterIterator", {})
                    listed = iterator["items"]["inputParameter"] if iterator.get("itemInput") == name else name
                    results |= self.producers(outer, inputs[listed])
        return results

    def graphs(self, name: str) -> set[str]:
        """The graph that people see under a name, and those that lie in it."""
        results = {entry["componentRef"]["name"] for _, _, entry in self.tasks() if entry["taskInfo"]["name"] == name}
        while (
            inner := {entry["componentRef"]["name"] for graph, _, entry in self.tasks() if graph in results} - results
        ):
            results |= inner
        return results


def _stage(task: str) -> str | None:
    name = re.sub(r"-\d+$", "", task)
    return name if name in STAGES else None
