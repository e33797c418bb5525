"""KServe: an InferenceService whose pods run ``visionloop serve``, and a smoke test.

https://kserve.github.io/website/docs/reference/crd-api, serving.kserve.io/v1beta1. What Knative lets a pod have is all that is used:
the security context stands at the container, whose one writable folder is an emptyDir.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import yaml

from visionloop.core import names, secrets
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import StagePolicy
from visionloop.pipelines.deploying.order import Order
from visionloop.pipelines.engines import pods
from visionloop.pipelines.serving import TOKEN
from visionloop.pipelines.targets import cluster
from visionloop.registry import package
from visionloop.training import catalog

#: The part of a pod's labels that says what it does, and the port that it listens on.
SERVE, PORT = "serve", 8080

#: The Secret with the token that clients send.
SECRET = "visionloop-serve"  # noqa: S105 (its name)

#: Requests that a replica has at once before another one is started: it answers one after the other.
CONCURRENCY = 2

#: Seconds that a model has to load before it is taken for dead, and that a request may take.
LOADING_SECONDS, REQUEST_SECONDS = 300, 120

#: The files.
SERVICE, SMOKE_TEST, EXAMPLE = "inferenceservice.yaml", "smoke_test.py", "smoke_test.json"


def write(order: Order, folder: Path) -> Sequence[str]:
    """Writes the files of a deployment. Raises as ``files``."""
    made = files(order)
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(made)


def files(order: Order) -> Mapping[str, str]:
    """The files of a deployment by name.

    Raises:
        InvalidConfig: If no pod can reach the model's files, or its trainer is not installed here, which says which image it has.
    """
    version = order.version
    if not order.uri.startswith("s3://"):
        raise InvalidConfig(
            f"{version.label} lies at {order.uri}, where no pod reaches it; register it from a workspace in a store (s3://…)."
        )
    example = {
        "model": version.name,
        "version": str(version.number),
        "image": base64.b64encode(package.example_image()).decode(),
    }
    return {
        SERVICE: yaml.safe_dump(inference_service(order), sort_keys=False, width=200),
        SMOKE_TEST: (resources(__package__) / SMOKE_TEST).read_text(encoding="utf-8"),
        EXAMPLE: json.dumps(example, indent=2) + "\n",
    }


def inference_service(order: Order) -> dict[str, Any]:
    """The InferenceService."""
    wanted, version, policy = order.wanted, order.version, _policy(order)
    least, most = wanted.replicas
    of_model = {pods.MODEL_LABEL: names.sanitise(version.name), "visionloop/version": str(version.number)}
    labels = {**pods.labels(SERVE, order.trainer), **of_model}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": order.name,
            **({"namespace": wanted.namespace} if wanted.namespace else {}),
            "labels": labels,
        },
        "spec": {
            "predictor": {
                "minReplicas": least,
                "maxReplicas": most,
                "scaleMetric": "concurrency",
                "scaleTarget": CONCURRENCY,
                "timeout": REQUEST_SECONDS,
                **({"canaryTrafficPercent": wanted.canary} if wanted.canary is not None else {}),
                # Of the revision and its pods: with them a new version is a new revision.
                "labels": labels,
                "serviceAccountName": pods.service_account("predict"),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                **({"imagePullSecrets": [{"name": policy.image_pull_secret}]} if policy.image_pull_secret else {}),
                **({"tolerations": [{"key": pods.GPU, "operator": "Exists"}]} if policy.gpus else {}),
                "containers": [_container(order, policy)],
                "volumes": [{"name": volume.name, "emptyDir": {}} for volume in pods.volumes(SERVE, policy)],
            }
        },
    }


def _policy(order: Order) -> StagePolicy:
    """What a pod asks for: the trainer's image, and the stores that serving reads."""
    target = cluster(order.wanted.registry, order.wanted.tag)
    own = target.trainers[catalog.trainer(order.trainer).name]
    return StagePolicy(
        image=target.image(own),
        cpu_request="1",
        cpu_limit="4",
        memory_request="2Gi",
        memory_limit="8Gi",
        gpus=order.wanted.gpus,
        secrets=("results", "registry"),
        variables=("OMP_NUM_THREADS", *own.variables),
        image_pull_secret=own.image_pull_secret,
        image_pull_policy=own.image_pull_policy,
    )


def _container(order: Order, policy: StagePolicy) -> dict[str, Any]:
    gpus = {pods.GPU: str(policy.gpus)} if policy.gpus else {}
    return {
        # By this name KServe knows the container that answers.
        "name": "kserve-container",
        "image": policy.image,
        **({"imagePullPolicy": policy.image_pull_policy} if policy.image_pull_policy else {}),
        "command": ["visionloop"],
        "args": ["serve", order.version.label, "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104 - in a pod
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "env": [
            *({"name": name, "value": value} for name, value in pods.environment(SERVE, policy).items()),
            *(_from_config_map(name) for name in pods.config_of(SERVE, policy)),
            # Not optional: without a token the pod does not start, and nobody is let in unseen.
            {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": TOKEN}}},
        ],
        "envFrom": [{"secretRef": {"name": secrets.secret_of(role), "optional": True}} for role in policy.secrets],
        "resources": {
            "requests": {"cpu": policy.cpu_request, "memory": policy.memory_request, **gpus},
            "limits": {"cpu": policy.cpu_limit, "memory": policy.memory_limit, **gpus},
        },
        "readinessProbe": _probe("/v2/health/ready", periodSeconds=5, failureThreshold=3),
        "livenessProbe": _probe("/v2/health/live", initialDelaySeconds=LOADING_SECONDS, periodSeconds=20),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": volume.name, "mountPath": volume.path} for volume in pods.volumes(SERVE, policy)],
    }


def _probe(path: str, **seconds: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 5, **seconds}


def _from_config_map(name: str) -> dict[str, Any]:
    reference = {"name": pods.CONFIG_MAP, "key": name, "optional": True}
    return {"name": name, "valueFrom": {"configMapKeyRef": reference}}
