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
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


def named(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def stage(objects: tuple[dict[str, Any], ...], name: str, trainer: str = DEFAULT_TRAINER) -> dict[str, Any]:
    """A stage's template."""
    found: dict[str, Any] = named(objects, "WorkflowTemplate", template_of(name, trainer))["spec"]["templates"][0]
    return found


def variables(template: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in template["container"]["env"]}


EVENTS = ("events", "events-sqs")


@pytest.mark.parametrize("kind", ["EventSource", "Sensor"])
def test_every_field_of_the_event_resources_is_one_that_argo_events_knows(kind: str) -> None:
    found = [one for one in rendered(*EVENTS) if one["kind"] == kind]
    assert len(found) == 2
    for one in found:
        assert unknown(getattr(models, kind), one) == []
        for webhook in one["spec"].get("webhook", {}).values():
            assert unknown(models.WebhookContext, webhook) == []
        misspelt = one | {"spec": one["spec"] | {"templatte": {}}}
        assert unknown(getattr(models, kind), misspelt) == [("spec", "templatte")]


def unknown(model: type[BaseModel], written: dict[str, Any]) -> list[tuple[int | str, ...]]:
    """Fields that Argo Events' own schema does not have; Hera's types of some values are narrower than the API's."""
    try:
        model.model_validate(written, extra="forbid")
    except ValidationError as error:
        found = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
        # A trigger's resource is of any kind; a webhook's fields stand beside its own in the API, in a model apart here.
        return [place for place in found if not {"apiVersion", "kind", "resource", "webhook"} & set(place)]
    return []


@pytest.mark.parametrize("kind", ["EventSource", "Sensor"])
def test_the_event_pods_pass_pod_security_restricted(kind: str) -> None:
    for one in rendered(*EVENTS):
        if one["kind"] == kind:
            template = one["spec"]["template"]
            assert template["securityContext"]["runAsNonRoot"] is True
            assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            security = template["container"]["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert template["serviceAccountName"] in accounts(rendered(*EVENTS))


def accounts(objects: tuple[dict[str, Any], ...]) -> set[str]:
    return {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}


def test_the_webhook_asks_for_a_token_from_a_secret() -> None:
    source = named(rendered("events"), "EventSource", "visionloop-labeling")
    assert source["spec"]["webhook"]["labeling"]["authSecret"] == {"name": "visionloop-webhook", "key": "token"}


@pytest.mark.parametrize(
    ("component", "sensor"), [("events", "visionloop-labeling"), ("events-sqs", "visionloop-datasets")]
)
def test_a_sensor_fills_arguments_that_the_pipeline_has(component: str, sensor: str) -> None:
    objects = rendered("events", "events-sqs") if component == "events-sqs" else rendered(component)
    (train,) = [
        one for one in named(objects, "Sensor", sensor)["spec"]["triggers"] if one["template"]["name"] == "train"
    ]
    made = train["template"]["k8s"]
    workflow = made["source"]["resource"]
    given = [one["name"] for one in workflow["spec"]["arguments"]["parameters"]]
    template = named(objects, "WorkflowTemplate", workflow["spec"]["workflowTemplateRef"]["name"])
    fields = {one["name"]: one for one in template["spec"]["arguments"]["parameters"]}
    assert set(given) <= set(fields)
    # Those without a default must be given.
    assert {name for name, one in fields.items() if "value" not in one} <= set(given)
    filled = {
        given[int(match[1])]
        for one in made["parameters"]
        if (match := re.fullmatch(r"spec\.arguments\.parameters\.(\d+)\.value", one["dest"]))
    }
    assert filled == set(given) - {"workspace"}


def test_only_cleanup_knows_where_messages_go() -> None:
    objects = rendered("notify")
    source = {"secretRef": {"name": "visionloop-notify", "optional": True}}
    assert [name for name in POLICIES if source in stage(objects, name)["container"]["envFrom"]] == ["cleanup"]
    assert all("VISIONLOOP_NOTIFY_URL" not in variables(stage(objects, name)) for name in POLICIES)


def test_the_runs_link_is_built_from_a_variable_that_stands_before_it() -> None:
    names = [one["name"] for one in stage(rendered("notify"), "cleanup")["container"]["env"]]
    assert names.index("VISIONLOOP_ARGO_URL") < names.index("VISIONLOOP_RUN_URL")
    assert named(rendered("notify"), "ConfigMap", "visionloop")["data"]["VISIONLOOP_NOTIFY_FORMAT"] == "json"


def test_every_stage_has_a_priority_that_is_there_and_none_evicts() -> None:
    objects = rendered("priorities")
    classes = {one["metadata"]["name"]: one for one in objects if one["kind"] == "PriorityClass"}
    used = {name: stage(objects, name)["priorityClassName"] for name in POLICIES}
    assert set(used.values()) == set(classes)
    assert {name for name, given in used.items() if given == "visionloop-training"} == {"train", "evaluate"}
    assert all(one["preemptionPolicy"] == "Never" for one in classes.values())
    assert classes["visionloop-short"]["value"] > classes["visionloop-training"]["value"] > 0


def test_only_trainings_wait_in_the_queue() -> None:
    objects = rendered("kueue")
    (queue,) = [one for one in objects if one["kind"] == "LocalQueue"]
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
    objects = tuple(one for one in yaml.safe_load_all(done.stdout) if one)
    for name in BY_TRAINER:
        found = stage(objects, name, "timm")
        assert found["retryStrategy"]["affinity"] == {"nodeAntiAffinity": {}}
        assert ("kueue.x-k8s.io/queue-name" in found["metadata"]["labels"]) == (name == "train")
        classes = {"train": "own", "evaluate": "visionloop-training", "register": "visionloop-short"}
        assert found["priorityClassName"] == classes[name]
    shared = {"name": "cache", "persistentVolumeClaim": {"claimName": "visionloop-cache"}}
    assert [shared in stage(objects, name, "timm")["volumes"] for name in BY_TRAINER] == [False, True, False]


def deployments() -> dict[str, dict[str, Any]]:
    found = [one for one in rendered("services") if one["kind"] == "Deployment"]
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found}


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
        f"{one['metadata']['name']}:{one['spec']['ports'][0]['port']}" for one in objects if one["kind"] == "Service"
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
