"""Applies a policy row to a task of Kubeflow Pipelines, and lists what the engine can't express."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl, kubernetes

from visionloop.core.policy import RUN_DEADLINE_SECONDS, StagePolicy
from visionloop.core.running import ATTEMPTS_VARIABLE
from visionloop.core.runs import PIPELINE_VARIABLE
from visionloop.pipelines.engines import pods
from visionloop.pipelines.targets import Target

#: Stands in each stage's variables for the pipeline's identity, which has the hash of what is compiled: `ir.kfp_yaml` puts it in.
IDENTITY_PLACEHOLDER = "the-pipeline-that-runs"

#: What Kubeflow Pipelines 2.17 can't express of the policy, whatever the row says, and what holds instead.
UNEXPRESSED = (
    "retries by exit code: the installation decides which pods are tried again (with Kubeflow's own manifests only lost ones, with a plain Argo only "
    "failed ones). So a stage retries in its own pod, and an attempt that the engine starts after a permanent failure ends within seconds",
    "the longest backoff: its own field limits the time in which a task is retried at all, so it holds the whole run's limit",
    "the grace period: a pod is given Kubernetes' 30 s",
    "the priority class: pods have the namespace's default",
    "a read-only root file system and the volumes' group: the installation's pod settings decide",
    "a service account for each group of stages, and its token in Argo's own containers alone: pods have the installation's, in every container",
    "one training for each model name at a time: two runs with the same key follow each other anyway",
    "more memory after a kill for memory: each attempt has the same limit",
    "spot nodes first: each attempt goes to the same nodes",
    "a run's labels for its model, dataset and trace id, and its pods' for model, trace id and, of several trainers, the trainer: Kubeflow's own "
    "label pipeline/runid is the run, the experiment has the model's name, the run's record the trace id, and the image names the trainer",
    "the pod disruption budget: a node's drain ends the stage that runs there, which is a lost pod",
    "the form's fields gpus, spot and trace_id: the number of GPUs is compiled in, and the first stage makes the trace id unless the command line "
    "gave one",
    "a value picked from a task that was skipped: a task of its own hands it on, and export without a format is a pod that ends at once",
)


def unexpressed_of(target: Target) -> list[str]:
    """What is lost of a target's policies, one phrase each."""
    rows = [*target.policies.items(), *((f"train ({name})", row) for name, row in target.trainers.items())]
    lost = [f"{name}'s {field}" for name, row in rows if name != "train" for field in unexpressed(row)]
    return [*UNEXPRESSED, *lost]


def unexpressed(policy: StagePolicy) -> list[str]:
    """The fields of a row whose value is lost."""
    lost = []
    if policy.priority_class:
        lost.append(f"priority_class {policy.priority_class}")
    if policy.grace_period != StagePolicy.grace_period:
        lost.append(f"grace_period {policy.grace_period}")
    if policy.spot_losses:
        lost.append(f"spot_losses {policy.spot_losses}")
    if policy.backoff(policy.attempts - 1) != policy.backoff_first * policy.backoff_factor ** (policy.attempts - 2):
        lost.append(f"backoff_longest {policy.backoff_longest}")
    return lost


def common_to(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that every stage gets."""
    return {"workspace": arguments["workspace"], "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}


def apply_policy(task: Any, stage: str, policy: StagePolicy, target: Target, image: Any = None) -> Any:
    """Applies a policy row to a task: image, resources, volumes, variables, deadline and retries.

    Args:
        task: The task, which is returned.
        stage: The stage.
        policy: Its row.
        target: The target.
        image: An input of the graph that names the image in place of the row's.
    """
    task.set_caching_options(enable_caching=False)
    task.set_display_name(stage)
    task.set_container_image(target.image(policy) if image is None else image)
    if not target.places:
        return task
    task.set_cpu_request(policy.cpu_request).set_cpu_limit(policy.cpu_limit)
    task.set_memory_request(policy.memory_request).set_memory_limit(policy.memory_limit)
    if policy.gpus:
        task.set_accelerator_type(pods.GPU).set_accelerator_limit(policy.gpus)
    if policy.attempts > 1:
        # This becomes Argo's maxDuration, which ends all retries that long after the first attempt began.
        task.set_retry(
            policy.attempts - 1,
            backoff_duration=f"{policy.backoff_first}s",
            backoff_factor=policy.backoff_factor,
            backoff_max_duration=f"{RUN_DEADLINE_SECONDS}s",
        )
    kubernetes.set_timeout(task, policy.engine_deadline)
    kubernetes.set_image_pull_policy(task, policy.image_pull_policy)
    # The engine drops capabilities and privileges itself, but allows root.
    kubernetes.set_security_context(task, run_as_non_root=True)
    if policy.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [policy.image_pull_secret])
    for name, value in policy.node_selector:
        kubernetes.add_node_selector(task, name, value)
    for toleration in policy.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator="Exists" if toleration.value is None else "Equal",
            value=toleration.value,
            effect=toleration.effect,
        )
    # A label's value is fixed when a pipeline is compiled, and a task may serve several trainers.
    (trainer, *others) = target.trainers
    for name, value in pods.labels(stage, None if others else trainer).items():
        kubernetes.add_pod_label(task, name, value)
    for name, value in pods.annotations_of(policy).items():
        kubernetes.add_pod_annotation(task, name, value)
    _mount(task, pods.volumes(stage, policy))
    for name, value in pods.environment(stage, policy).items():
        task.set_env_variable(name, value)
    task.set_env_variable(PIPELINE_VARIABLE, IDENTITY_PLACEHOLDER)
    if policy.attempts > 1:
        task.set_env_variable(ATTEMPTS_VARIABLE, str(policy.attempts))
    for secret, variables in pods.secrets_of(stage, policy).items():
        kubernetes.use_secret_as_env(task, secret, {name: name for name in variables}, optional=True)
    taken = {name: name for name in pods.config_of(stage, policy)}
    kubernetes.use_config_map_as_env(task, pods.CONFIG_MAP, taken, optional=True)
    return task


def _mount(task: Any, volumes: Sequence[pods.Volume]) -> None:
    for volume in volumes:
        if volume.claim:
            kubernetes.mount_pvc(task, pvc_name=volume.claim, mount_path=volume.path)
        elif volume.secret:
            kubernetes.use_secret_as_volume(task, volume.secret, volume.path, optional=True)
        else:
            kubernetes.empty_dir_mount(
                task, volume.name, volume.path, medium="Memory" if volume.memory else None, size_limit=volume.size
            )
