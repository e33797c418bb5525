"""The optional components, each on top of the base: what they add renders, fits its schema and stays restricted."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.events import models
from pydantic import BaseModel, ValidationError

from visionloop.core import secrets
from visionloop.core.policy import POLICIES
from visionloop.pipelines.engines.argo.manifests import argo_files
from visionloop.pipelines.engines.argo.train import template_of
from visionloop.pipelines.targets import BY_TRAINER, DEFAULT_TRAINER, cluster

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: nothing can be rendered"
)


@functools.cache
def rendered(*components: str) -> tuple[dict[str, Any], ...]:
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.relpath(MANIFESTS / "base", os.path.realpath(folder))
        wanted = {
            "resources": [base],
            "components": [base.replace("base", f"components/{component}") for component in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(entry for entry in yaml.safe_load_all(done.stdout) if entry)


def named(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any]:
    (results,) = [entry for entry in objects if entry["kind"] == kind and entry["metadata"]["name"] == name]
    return results


def stage(objects: tuple[dict[str, Any], ...], name: str, trainer: str = DEFAULT_TRAINER) -> dict[str, Any]:
    """A stage's template."""
    result: dict[str, Any] = named(objects, "WorkflowTemplate", template_of(name, trainer))["spec"]["templates"][0]
    return result


def variables(template: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in template["container"]["env"]}


EVENTS = ("events", "events-sqs")


@pytest.mark.parametrize("kind", ["EventSource", "Sensor"])
def test_every_field_of_the_event_resources_is_one_that_argo_events_knows(kind: str) -> None:
    results = [entry for entry in rendered(*EVENTS) if entry["kind"] == kind]
    assert len(results) == 2
    for entry in results:
        assert unknown(getattr(models, kind), entry) == []
        for webhook in entry["spec"].get("webhook", {}).values():
            assert unknown(models.WebhookContext, webhook) == []
        misspelt = entry | {"spec": entry["spec"] | {"templatte": {}}}
        assert unknown(getattr(models, kind), misspelt) == [("spec", "templatte")]


def unknown(model: type[BaseModel], written: dict[str, Any]) -> list[tuple[int | str, ...]]:
    """Fields that Argo Events' own schema does not have; Hera's types of some values are narrower than the API's."""
    try:
        model.model_validate(written, extra="forbid")
    except ValidationError as error:
        results = [entry["loc"] for entry in error.errors() if entry["type"] == "extra_forbidden"]
        # A trigger's resource is of any kind; a webhook's fields stand beside its own in the API, in a model apart here.
        return [item for item in results if not {"apiVersion", "kind", "resource", "webhook"} & set(item)]
    return []


@pytest.mark.parametrize("kind", ["EventSource", "Sensor"])
def test_the_event_pods_pass_pod_security_restricted(kind: str) -> None:
    for entry in rendered(*EVENTS):
        if entry["kind"] == kind:
            template = entry["spec"]["template"]
            assert template["securityContext"]["runAsNonRoot"] is True
            assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            security = template["container"]["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert template["serviceAccountName"] in accounts(rendered(*EVENTS))


def accounts(objects: tuple[dict[str, Any], ...]) -> set[str]:
    return {entry["metadata"]["name"] for entry in objects if entry["kind"] == "ServiceAccount"}


def test_the_webhook_asks_for_a_token_from_a_secret() -> None:
    source = named(rendered("events"), "EventSource", "visionloop-labeling")
    assert source["spec"]["webhook"]["labeling"]["authSecret"] == {"name": "visionloop-webhook", "key": "token"}


@pytest.mark.parametrize(
    ("component", "sensor"), [("events", "visionloop-labeling"), ("events-sqs", "visionloop-datasets")]
)
def test_a_sensor_fills_arguments_that_the_pipeline_has(component: str, sensor: str) -> None:
    objects = rendered("events", "events-sqs") if component == "events-sqs" else rendered(component)
    (train,) = [
        entry for entry in named(objects, "Sensor", sensor)["spec"]["triggers"] if entry["template"]["name"] == "train"
    ]
    made = train["template"]["k8s"]
    workflow = made["source"]["resource"]
    arguments = [entry["name"] for entry in workflow["spec"]["arguments"]["parameters"]]
    template = named(objects, "WorkflowTemplate", workflow["spec"]["workflowTemplateRef"]["name"])
    fields = {entry["name"]: entry for entry in template["spec"]["arguments"]["parameters"]}
    assert set(arguments) <= set(fields)
    # Those without a default must be given.
    assert {name for name, entry in fields.items() if "value" not in entry} <= set(arguments)
    filled = {
        arguments[int(match[1])]
        for entry in made["parameters"]
        if (match := re.fullmatch(r"spec\.arguments\.parameters\.(\d+)\.value", entry["dest"]))
    }
    assert filled == set(arguments) - {"workspace"}


def test_only_cleanup_knows_where_messages_go() -> None:
    objects = rendered("notify")
    source = {"secretRef": {"name": "visionloop-notify", "optional": True}}
    assert [name for name in POLICIES if source in stage(objects, name)["container"]["envFrom"]] == ["cleanup"]
    assert all("VISIONLOOP_NOTIFY_URL" not in variables(stage(objects, name)) for name in POLICIES)


def test_only_train_and_cleanup_know_who_is_told_of_a_training_and_reach_them() -> None:
    objects = rendered("receiver")
    source = {"secretRef": {"name": "visionloop-events", "optional": True}}
    told = {"train", "predict", "cleanup"}
    assert {name for name in POLICIES if source in stage(objects, name)["container"]["envFrom"]} == told
    assert {name for name in POLICIES if "CALLBACK_INTERVAL" in variables(stage(objects, name))} == told
    held = set(secrets.variables("events"))
    assert held == {"VISIONLOOP_EVENTS_URL", "VISIONLOOP_EVENTS_SECRET", "CALLBACK_URL", "CALLBACK_TOKEN"}
    assert all(not held & set(variables(stage(objects, name))) for name in POLICIES)
    (chosen,) = named(objects, "NetworkPolicy", "visionloop-receiver")["spec"]["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == told


def test_the_runs_link_is_built_from_a_variable_that_stands_before_it() -> None:
    names = [entry["name"] for entry in stage(rendered("notify"), "cleanup")["container"]["env"]]
    assert names.index("VISIONLOOP_ARGO_URL") < names.index("VISIONLOOP_RUN_URL")
    assert named(rendered("notify"), "ConfigMap", "visionloop")["data"]["VISIONLOOP_NOTIFY_FORMAT"] == "json"


def test_every_stage_has_a_priority_that_is_there_and_none_evicts() -> None:
    objects = rendered("priorities")
    classes = {entry["metadata"]["name"]: entry for entry in objects if entry["kind"] == "PriorityClass"}
    used = {name: stage(objects, name)["priorityClassName"] for name in POLICIES}
    assert set(used.values()) == set(classes)
    assert {name for name, value in used.items() if value == "visionloop-training"} == {"train", "evaluate", "predict"}
    assert all(entry["preemptionPolicy"] == "Never" for entry in classes.values())
    assert classes["visionloop-short"]["value"] > classes["visionloop-training"]["value"] > 0


def test_only_trainings_wait_in_the_queue() -> None:
    objects = rendered("kueue")
    (queue,) = [entry for entry in objects if entry["kind"] == "LocalQueue"]
    label = "kueue.x-k8s.io/queue-name"
    labelled = {name: stage(objects, name)["metadata"]["labels"].get(label) for name in POLICIES}
    assert labelled.pop("train") == queue["metadata"]["name"]
    assert set(labelled.values()) == {None}


def test_a_third_partys_templates_take_what_the_components_add(tmp_path: Path) -> None:
    """Cache volume and priority class stand in its trainer's own row of the policy table; all else reaches it too."""
    target = cluster()
    own = replace(target.trainers["ultralytics"], shared_memory=None, cache_volume=False, priority_class="own")
    (tmp_path / "argo").mkdir()
    for name, text in argo_files(replace(target, trainers={**target.trainers, "timm": own})).items():
        (tmp_path / "argo" / name).write_text(text)
    names = ("cache", "kueue", "other-node", "priorities")
    components = [os.path.relpath(MANIFESTS / "components" / name, tmp_path) for name in names]
    wanted = {"resources": ["argo"], "components": components}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = tuple(entry for entry in yaml.safe_load_all(done.stdout) if entry)
    for name in BY_TRAINER:
        result = stage(objects, name, "timm")
        assert result["retryStrategy"]["affinity"] == {"nodeAntiAffinity": {}}
        assert ("kueue.x-k8s.io/queue-name" in result["metadata"]["labels"]) == (name == "train")
        classes = dict.fromkeys(("evaluate", "predict"), "visionloop-training") | {"train": "own"}
        classes |= dict.fromkeys(("export", "register"), "visionloop-short")
        assert result["priorityClassName"] == classes[name]
    shared = {"name": "cache", "persistentVolumeClaim": {"claimName": "visionloop-cache"}}
    cached = {name: shared in stage(objects, name, "timm")["volumes"] for name in BY_TRAINER}
    assert cached == {"train": False, "evaluate": True, "export": True, "register": False, "predict": False}


def deployments() -> dict[str, dict[str, Any]]:
    results = [entry for entry in rendered("services") if entry["kind"] == "Deployment"]
    return {entry["metadata"]["name"]: entry["spec"]["template"]["spec"] for entry in results}


@pytest.mark.parametrize("name", ["visionloop-store", "visionloop-mlflow"])
def test_the_services_in_the_cluster_pass_restricted_and_are_of_this_version(name: str) -> None:
    template = deployments()[name]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["automountServiceAccountToken"] is False
    for container in (*template["containers"], *template.get("initContainers", ())):
        assert container["image"] == f"localhost/visionloop-services:{version[1]}"
        security = container["securityContext"]
        assert security == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert set(container["resources"]) == {"requests", "limits"}


def test_the_addresses_of_the_services_are_those_of_their_services() -> None:
    objects = rendered("services")
    ports = {
        f"{entry['metadata']['name']}:{entry['spec']['ports'][0]['port']}"
        for entry in objects
        if entry["kind"] == "Service"
    }
    data = named(objects, "ConfigMap", "visionloop")["data"]
    assert {value.removeprefix("http://") for value in data.values()} == ports


def test_the_store_hands_out_s3_alone() -> None:
    store, relay = deployments()["visionloop-store"]["containers"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port=18333", "-master.telemetry=false"} <= set(store["args"])
    assert relay["command"][-3:] == ["0.0.0.0", "8333", "18333"]


def test_the_services_images_packages_are_pinned_with_hashes_and_no_address() -> None:
    for path in ROOT.glob("images/*/requirements.txt"):
        text = path.read_text()
        assert "://" not in text
        pinned = re.findall(r"^([a-z0-9][\w.-]*)==\S+( ;.*)? \\$", text, re.MULTILINE)
        assert len(pinned) > 40
        assert len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) == len(pinned)
